"""The tables of the alarm service's database, and the changes that bring an older one up to date."""

from __future__ import annotations

import sqlalchemy as sa

from runtime.database import Moment, Schema, meta_table
from schemas.words import KeyRole

_metadata = sa.MetaData()
meta_table(_metadata)
offsets = sa.Table(
    "offsets",
    _metadata,
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", sa.BigInteger, nullable=False),
)
topics = sa.Table(
    "topics",
    _metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("id", sa.String, nullable=False),
)
alarms = sa.Table(
    "alarms",
    _metadata,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("device_id", sa.String, nullable=False, index=True),
    sa.Column("rule_id", sa.String, nullable=False, index=True),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("triggered_at", Moment, nullable=False, index=True),
    sa.Column("resolved_at", Moment),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
alarm_events = sa.Table(
    "alarm_events",
    _metadata,
    sa.Column("alarm_id", sa.String, sa.ForeignKey("alarms.alarm_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action_id", sa.String, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
rules = sa.Table(
    "rules",
    _metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text),  # null: deleted, or not a valid rule
)
api_keys = sa.Table(
    "api_keys",
    _metadata,
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("revoked_at", Moment),
)


def _add_roles(tx: sa.Connection) -> None:
    """Keys from before there were roles keep what they could do: everything."""
    tx.execute(sa.text(f"ALTER TABLE api_keys ADD COLUMN role VARCHAR NOT NULL DEFAULT '{KeyRole.ADMIN.value}'"))


SCHEMA = Schema("the alarm service", _metadata, lock=7305809, migrations=(_add_roles,))


def storable(text: str) -> str:
    """The text without NUL, which PostgreSQL does not store. Answers are made from `body`, which keeps all."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
