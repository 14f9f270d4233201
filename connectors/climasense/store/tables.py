"""The tables of the ClimaSense server's database."""

from __future__ import annotations

import sqlalchemy as sa

from runtime.database import Moment, Schema, meta_table

metadata = sa.MetaData()
meta = meta_table(metadata)
devices = sa.Table(
    "devices",
    metadata,
    sa.Column("device", sa.String, primary_key=True),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("batch", sa.String),
    sa.Column("serial_number", sa.String),
    sa.Column("firmware_version", sa.String),
    sa.Column("hub", sa.String),
    sa.Column("ieee_address", sa.String),
    sa.Column("paired_at", Moment),
    sa.Column("pairings", sa.Integer, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
)
keys = sa.Table(
    "keys",
    metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("device", sa.String, sa.ForeignKey("devices.device"), nullable=False, index=True),
    sa.Column("source", sa.String, nullable=False),  # command, file
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("revoked_at", Moment),
    sa.Column("revoked_by", sa.String),  # command: for good; file: until the file names it again
)
commands = sa.Table(
    "commands",
    metadata,
    sa.Column("command_id", sa.String, primary_key=True),
    sa.Column("device", sa.String, sa.ForeignKey("devices.device"), nullable=False, index=True),
    sa.Column("type", sa.String, nullable=False),
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("status", sa.String),  # null while nothing was reported
    sa.Column("error_message", sa.Text),
    sa.Column("finished_at", Moment),
)
firmware = sa.Table(
    "firmware",
    metadata,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("checksum", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("release_notes", sa.Text, nullable=False),
    sa.Column("added_at", Moment, nullable=False),
)
chunks = sa.Table(
    "firmware_chunks",
    metadata,
    sa.Column("version", sa.String, sa.ForeignKey("firmware.version"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
releases = sa.Table(
    "releases",
    metadata,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("version", sa.String, sa.ForeignKey("firmware.version"), primary_key=True),
    sa.Column("released_at", Moment, nullable=False),
)
updates = sa.Table(
    "updates",
    metadata,
    sa.Column("device", sa.String, sa.ForeignKey("devices.device"), primary_key=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("progress_percent", sa.Integer),
    sa.Column("updated_at", Moment, nullable=False),
)

SCHEMA = Schema("climasense", metadata, lock=7305808)


def begin_version(tx: sa.Connection) -> None:
    """Insert the version number where the database is new."""
    if tx.scalar(sa.select(meta.c.value).where(meta.c.name == "version")) is None:
        tx.execute(meta.insert().values(name="version", value=0))


def bump_version(tx: sa.Connection) -> None:
    """Raise the version number: an operator changed keys or devices."""
    tx.execute(meta.update().where(meta.c.name == "version").values(value=meta.c.value + 1))
