"""What the ClimaSense server must remember: devices, keys, settings, commands, firmware. A relational database.

SQLite in the state folder by default; any database SQLAlchemy speaks to by a URL (tested with PostgreSQL). Everything
here blocks: the server calls it in threads, the command line as it is. Each call is one transaction, durable when it
returns (SQLite: WAL with `synchronous=FULL`), so that kill -9 leaves all of it or nothing.

Devices are named by their native id (`hub-1`), not by `DeviceId`. Times are microseconds since the epoch.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import sqlalchemy as sa

from connectors.climasense.protocol import Identity, Provisioned, is_newer, version_key
from runtime.database import Database, Moment, Schema, meta_table, open_database
from schemas.climasense import OtaStatus, Role

EVERY_BATCH = "*"
COMMAND_LIFE = timedelta(hours=24)
"""Documented: commands expire after 24 hours if not acknowledged."""

CHUNK_BYTES = 256 * 1024
MAX_SETTINGS_CHARS = 64 * 1024


class StateError(ValueError):
    """What was asked for is not possible; the text says why."""


_metadata = sa.MetaData()
_meta = meta_table(_metadata)
_devices = sa.Table(
    "devices",
    _metadata,
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
_keys = sa.Table(
    "keys",
    _metadata,
    sa.Column("digest", sa.String, primary_key=True),
    sa.Column("device", sa.String, sa.ForeignKey("devices.device"), nullable=False, index=True),
    sa.Column("source", sa.String, nullable=False),  # command, file
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("revoked_at", Moment),
    sa.Column("revoked_by", sa.String),  # command: for good; file: until the file names it again
)
_commands = sa.Table(
    "commands",
    _metadata,
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
_firmware = sa.Table(
    "firmware",
    _metadata,
    sa.Column("version", sa.String, primary_key=True),
    sa.Column("checksum", sa.String, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("release_notes", sa.Text, nullable=False),
    sa.Column("added_at", Moment, nullable=False),
)
_chunks = sa.Table(
    "firmware_chunks",
    _metadata,
    sa.Column("version", sa.String, sa.ForeignKey("firmware.version"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_releases = sa.Table(
    "releases",
    _metadata,
    sa.Column("batch", sa.String, primary_key=True),
    sa.Column("version", sa.String, sa.ForeignKey("firmware.version"), primary_key=True),
    sa.Column("released_at", Moment, nullable=False),
)
_updates = sa.Table(
    "updates",
    _metadata,
    sa.Column("device", sa.String, sa.ForeignKey("devices.device"), primary_key=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("progress_percent", sa.Integer),
    sa.Column("updated_at", Moment, nullable=False),
)


@dataclass(frozen=True)
class DeviceState:
    """What is known of a device beside its keys."""

    device: str
    role: Role
    batch: str | None = None
    serial_number: str | None = None
    firmware_version: str | None = None
    hub: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyInfo:
    """A key as an operator may see it: `key_id` is the beginning of its digest."""

    key_id: str
    device: str
    role: str
    batch: str | None
    source: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Command:
    """A command and, once reported, what came of it."""

    command_id: str
    device: str
    type: str
    payload: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    status: str | None = None
    error_message: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class Firmware:
    """A firmware image; `checksum` is `sha256:` and the digest in hexadecimal."""

    version: str
    checksum: str
    size_bytes: int
    release_notes: str
    batches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Update:
    """How far a device's update has come. `attempt` counts from 1 and rises when an update starts over."""

    version: str
    attempt: int
    status: str
    progress_percent: int | None = None

    @property
    def ended(self) -> bool:
        """Whether this was the last report of its attempt."""
        return self.status in ("completed", "failed")


class Store(Database):
    """The database. Every method may raise `SQLAlchemyError` (it is away), some `StateError` (it cannot be done)."""

    # -- devices and keys

    def version(self) -> int:
        """A number that rises whenever keys or devices were changed by someone else than a device."""
        with self._engine.begin() as tx:
            return int(tx.scalar(sa.select(_meta.c.value).where(_meta.c.name == "version")) or 0)

    def identities(self) -> dict[str, Identity]:
        """Who each key in force belongs to, by the key's digest."""
        query = (
            sa.select(_keys.c.digest, _devices)
            .join(_devices, _devices.c.device == _keys.c.device)
            .where(_keys.c.revoked_at.is_(None))
        )
        with self._engine.begin() as tx:
            return {r.digest: Identity(r.digest, r.device, r.role, r.batch) for r in tx.execute(query)}

    def devices(self) -> list[DeviceState]:
        """All devices, by name."""
        with self._engine.begin() as tx:
            return [_device(row) for row in tx.execute(sa.select(_devices).order_by(_devices.c.device))]

    def device(self, device: str) -> DeviceState:
        """One device; StateError where it is unknown."""
        with self._engine.begin() as tx:
            return _device(_row(tx, device))

    def add_key(self, new: Provisioned, now: datetime) -> None:
        """Provision a device, or give one another key. StateError where the key is somebody's already."""
        with self._write.begin() as tx:
            _provision(tx, new)
            if tx.scalar(sa.select(_keys.c.device).where(_keys.c.digest == new.digest)) is not None:
                raise StateError("this key is provisioned already")
            tx.execute(_keys.insert().values(digest=new.digest, device=new.device, source="command", created_at=now))
            _bump(tx)

    def import_keys(self, entries: Iterable[Provisioned], now: datetime) -> None:
        """Make the keys of source `file` those of the file. What a command revoked stays revoked."""
        wanted = {entry.digest: entry for entry in entries}
        with self._write.begin() as tx:
            known = {row.digest: row for row in tx.execute(sa.select(_keys))}
            for digest, entry in wanted.items():
                _provision(tx, entry)
                if digest not in known:
                    tx.execute(_keys.insert().values(digest=digest, device=entry.device, source="file", created_at=now))
                elif known[digest].source == "file":
                    again = known[digest].revoked_by == "file"
                    values = {"device": entry.device} | ({"revoked_at": None, "revoked_by": None} if again else {})
                    tx.execute(_keys.update().where(_keys.c.digest == digest).values(**values))
            gone = [d for d, row in known.items() if row.source == "file" and not row.revoked_at and d not in wanted]
            for digest in gone:
                _revoke(tx, digest, now, "file")
            _bump(tx)

    def revoke(self, name: str, now: datetime) -> list[KeyInfo]:
        """Revoke the keys of a device, or the one whose id (or longer part of the digest) this is; those revoked."""
        with self._write.begin() as tx:
            found = [
                row
                for row in tx.execute(_KEYS_WITH_DEVICES.where(_keys.c.revoked_at.is_(None)))
                if row.device == name or (len(name) >= 12 and row.digest.startswith(name.lower()))
            ]
            for row in found:
                _revoke(tx, row.digest, now, "command")
            if found:
                _bump(tx)
        return [_key_info(row) for row in found]

    def list_keys(self) -> list[KeyInfo]:
        """All keys, revoked ones too, by device and age."""
        with self._engine.begin() as tx:
            query = _KEYS_WITH_DEVICES.order_by(_keys.c.device, _keys.c.created_at)
            return [_key_info(row) for row in tx.execute(query)]

    def next_pairing(self, sensor: str, hub: str) -> int | None:
        """The number of the pairing that is about to be made; None where it is made already. Reading only.

        StateError where the device is no sensor, or another hub's.
        """
        with self._engine.begin() as tx:
            found = _row(tx, sensor)
        if found.role != "sensor":
            raise StateError(f"the key belongs to a {found.role}")
        if found.hub not in (None, hub):
            raise StateError("the sensor belongs to another hub")
        return None if found.hub == hub else int(found.pairings) + 1

    def pair(self, sensor: str, hub: str, ieee_address: str | None, now: datetime) -> DeviceState:
        """Give a sensor to a hub; the sensor as it then stands."""
        values = {"hub": hub, "ieee_address": ieee_address, "paired_at": now, "pairings": _devices.c.pairings + 1}
        with self._write.begin() as tx:
            tx.execute(_devices.update().where(_devices.c.device == sensor).values(**values))
            return _device(_row(tx, sensor))

    def unpair(self, sensor: str) -> None:
        """Take a sensor from its hub, so that another can pair with it."""
        with self._write.begin() as tx:
            _row(tx, sensor)
            values = {"hub": None, "ieee_address": None, "paired_at": None}
            tx.execute(_devices.update().where(_devices.c.device == sensor).values(**values))
            _bump(tx)

    # -- settings

    def update_settings(self, device: str, changes: Mapping[str, Any], *, by_operator: bool = False) -> DeviceState:
        """Merge changes, deeply, into a device's settings; the device as it then stands. StateError if too long."""
        with self._write.begin() as tx:
            before = _device(_row(tx, device))
            settings = _merged(before.settings, changes)
            if len(json.dumps(settings)) > MAX_SETTINGS_CHARS:
                raise StateError(f"the settings must not be longer than {MAX_SETTINGS_CHARS} characters in all")
            tx.execute(_devices.update().where(_devices.c.device == device).values(settings=settings))
            if by_operator:
                _bump(tx)
            return _device(_row(tx, device))

    def note_firmware(self, device: str, version: str) -> DeviceState | None:
        """Remember what a device runs; the device where that is news, else None."""
        with self._engine.begin() as tx:
            if _row(tx, device).firmware_version == version:
                return None
        with self._write.begin() as tx:
            tx.execute(_devices.update().where(_devices.c.device == device).values(firmware_version=version))
            return _device(_row(tx, device))

    # -- commands

    def queue_command(
        self, device: str, kind: str, payload: dict[str, Any], now: datetime, *, confirmed: bool = False
    ) -> Command:
        """Let a command wait for a device, for 24 hours. A factory reset needs to be confirmed (climasense.txt)."""
        if kind == "factory_reset" and not confirmed:
            raise StateError("a factory reset must be confirmed")
        command = Command(str(uuid.uuid4()), device, kind, payload, now, now + COMMAND_LIFE)
        with self._write.begin() as tx:
            _row(tx, device)
            values = {name: getattr(command, name) for name in _commands.c.keys()}  # noqa: SIM118 - not a dict
            tx.execute(_commands.insert().values(**values))
        return command

    def pending(self, device: str, now: datetime) -> list[Command]:
        """What waits for a device and has not expired, oldest first."""
        query = (
            sa.select(_commands)
            .where(_commands.c.device == device, _commands.c.status.is_(None), _commands.c.expires_at > now)
            .order_by(_commands.c.created_at, _commands.c.command_id)
        )
        with self._engine.begin() as tx:
            return [Command(**row._mapping) for row in tx.execute(query)]

    def commands(self, device: str | None = None) -> list[Command]:
        """All commands, of one device or of all, latest first."""
        query = sa.select(_commands).order_by(_commands.c.created_at.desc())
        with self._engine.begin() as tx:
            rows = tx.execute(query.where(_commands.c.device == device) if device else query)
            return [Command(**row._mapping) for row in rows]

    def command(self, device: str, command_id: str) -> Command | None:
        """A device's command; None where it has none of this id."""
        query = sa.select(_commands).where(_commands.c.command_id == command_id, _commands.c.device == device)
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
            return None if row is None else Command(**row._mapping)

    def finish(self, command_id: str, status: str, error_message: str | None, now: datetime) -> None:
        """Remember what came of a command; it waits no longer."""
        values = {"status": status, "error_message": error_message, "finished_at": now}
        with self._write.begin() as tx:
            tx.execute(_commands.update().where(_commands.c.command_id == command_id).values(**values))

    # -- firmware

    def add_firmware(self, version: str, image: BinaryIO, release_notes: str, now: datetime) -> Firmware:
        """Store an image; nobody is offered it before it is released. StateError where the version is there."""
        if version_key(version) is None:
            raise StateError(f"{version!r} is not a version such as 1.3.0 or 1.4.0-rc1")
        digest, size = hashlib.sha256(), 0
        with self._write.begin() as tx:
            if tx.scalar(sa.select(_firmware.c.version).where(_firmware.c.version == version)) is not None:
                raise StateError(f"there is a firmware {version} already")
            values = {"version": version, "checksum": "", "size_bytes": 0, "release_notes": release_notes}
            tx.execute(_firmware.insert().values(**values, added_at=now))
            for number, data in enumerate(iter(lambda: image.read(CHUNK_BYTES), b"")):
                tx.execute(_chunks.insert().values(version=version, number=number, data=data))
                digest.update(data)
                size += len(data)
            if not size:
                raise StateError("the image is empty")
            checksum = f"sha256:{digest.hexdigest()}"
            changed = _firmware.update().where(_firmware.c.version == version)
            tx.execute(changed.values(checksum=checksum, size_bytes=size))
        return Firmware(version, checksum, size, release_notes)

    def release(self, version: str, batches: Sequence[str], now: datetime) -> None:
        """Offer a version to the devices of these batches (`*`: to all)."""
        with self._write.begin() as tx:
            if tx.scalar(sa.select(_firmware.c.version).where(_firmware.c.version == version)) is None:
                raise StateError(f"there is no firmware {version}")
            _withdraw(tx, version, batches)
            for batch in batches:
                tx.execute(_releases.insert().values(batch=batch, version=version, released_at=now))

    def withdraw(self, version: str, batches: Sequence[str]) -> None:
        """Offer a version to these batches no longer. Nobody is moved back to an older one."""
        with self._write.begin() as tx:
            _withdraw(tx, version, batches)

    def firmware(self) -> list[Firmware]:
        """All images, newest first, with the batches they are released to."""
        with self._engine.begin() as tx:
            released: dict[str, list[str]] = {}
            for row in tx.execute(sa.select(_releases).order_by(_releases.c.batch)):
                released.setdefault(row.version, []).append(row.batch)
            rows = tx.execute(sa.select(_firmware)).all()
        images = [_firmware_of(row, tuple(released.get(row.version, ()))) for row in rows]
        return sorted(images, key=lambda image: version_key(image.version) or (), reverse=True)

    def offered(self, batch: str | None) -> list[Firmware]:
        """What is released to a batch, newest first."""
        return [image for image in self.firmware() if {batch, EVERY_BATCH} & set(image.batches)]

    def update_for(self, batch: str | None, current_version: str) -> Firmware | None:
        """The newest version released to a batch, where it is newer than the current one."""
        newest = next(iter(self.offered(batch)), None)
        return newest if newest is not None and is_newer(newest.version, current_version) else None

    def chunk(self, version: str, number: int) -> bytes:
        """One piece of an image, of `CHUNK_BYTES` save the last; empty behind the end."""
        query = sa.select(_chunks.c.data).where(_chunks.c.version == version, _chunks.c.number == number)
        with self._engine.begin() as tx:
            return tx.scalar(query) or b""

    def next_update(self, device: str, report: OtaStatus) -> Update:
        """What a report makes of a device's update. Reading only: `save_update` comes when Kafka has the report.

        The same report again is the same attempt, so that its envelope has the same id.
        """
        query = sa.select(_updates).where(_updates.c.device == device)
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
        last = Update(row.version, row.attempt, row.status, row.progress_percent) if row is not None else None
        attempt = last.attempt if last else 1
        new = Update(report.version, attempt, report.status, report.progress_percent)
        if last is None or new == last or (last.version == new.version and not last.ended):
            return new
        return Update(report.version, attempt + 1, report.status, report.progress_percent)

    def save_update(self, device: str, update: Update, now: datetime) -> DeviceState | None:
        """Remember how far an update has come; the device, where it now runs another version."""
        values = {
            "version": update.version,
            "attempt": update.attempt,
            "status": update.status,
            "progress_percent": update.progress_percent,
            "updated_at": now,
        }
        with self._write.begin() as tx:
            changed = tx.execute(_updates.update().where(_updates.c.device == device).values(**values))
            if not changed.rowcount:
                tx.execute(_updates.insert().values(device=device, **values))
        return self.note_firmware(device, update.version) if update.status == "completed" else None


_KEYS_WITH_DEVICES = sa.select(_keys, _devices.c.role, _devices.c.batch).join(
    _devices, _devices.c.device == _keys.c.device
)


def open_store(url: str | None, state_dir: Path) -> Store:
    """The store at a URL, else in `climasense.db` of the state folder; made where it is not there.

    StageError where it cannot be opened. The text never holds the URL's password.
    """
    schema = Schema("climasense", _metadata, lock=7305808)
    return Store(open_database(schema, url, state_dir / "climasense.db", _count_versions))


def _count_versions(tx: sa.Connection) -> None:
    if tx.scalar(sa.select(_meta.c.value).where(_meta.c.name == "version")) is None:
        tx.execute(_meta.insert().values(name="version", value=0))


def _bump(tx: sa.Connection) -> None:
    tx.execute(_meta.update().where(_meta.c.name == "version").values(value=_meta.c.value + 1))


def _row(tx: sa.Connection, device: str) -> Any:
    row = tx.execute(sa.select(_devices).where(_devices.c.device == device).with_for_update()).first()
    if row is None:
        raise StateError(f"there is no device {device!r}")
    return row


def _provision(tx: sa.Connection, new: Provisioned) -> None:
    """The device's row, made or brought up to date; what the entry does not say stays."""
    given = {"role": new.role, "batch": new.batch, "serial_number": new.serial_number}
    values = {name: value for name, value in given.items() if value is not None}
    if tx.scalar(sa.select(_devices.c.device).where(_devices.c.device == new.device)) is None:
        tx.execute(_devices.insert().values(device=new.device, settings={}, pairings=0, **{"role": "device", **values}))
    elif values:
        tx.execute(_devices.update().where(_devices.c.device == new.device).values(**values))


def _revoke(tx: sa.Connection, digest: str, now: datetime, by: str) -> None:
    tx.execute(_keys.update().where(_keys.c.digest == digest).values(revoked_at=now, revoked_by=by))


def _withdraw(tx: sa.Connection, version: str, batches: Sequence[str]) -> None:
    tx.execute(_releases.delete().where(_releases.c.version == version, _releases.c.batch.in_(batches)))


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged


def _device(row: Any) -> DeviceState:
    return DeviceState(
        row.device, row.role, row.batch, row.serial_number, row.firmware_version, row.hub, dict(row.settings)
    )


def _key_info(row: Any) -> KeyInfo:
    return KeyInfo(row.digest[:12], row.device, row.role, row.batch, row.source, row.created_at, row.revoked_at)


def _firmware_of(row: Any, batches: tuple[str, ...]) -> Firmware:
    return Firmware(row.version, row.checksum, row.size_bytes, row.release_notes, batches)
