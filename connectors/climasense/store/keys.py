"""API keys, and the devices that are provisioned with them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from connectors.climasense.protocol import Identity, Provisioned
from connectors.climasense.store import tables
from connectors.climasense.store.part import StorePart
from connectors.climasense.store.records import KeyInfo, StateError

_KEYS_WITH_DEVICES = sa.select(tables.keys, tables.devices.c.role, tables.devices.c.batch).join(
    tables.devices, tables.devices.c.device == tables.keys.c.device
)


class KeyStore(StorePart):
    """Keys by digest. A key belongs to one device; a device may have several keys."""

    def version(self) -> int:
        """A number that rises whenever somebody other than a device changed keys or devices."""
        with self._engine.begin() as tx:
            return int(tx.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.name == "version")) or 0)

    def identities(self) -> dict[str, Identity]:
        """The device of each key in force, by the key's digest."""
        query = (
            sa.select(tables.keys.c.digest, tables.devices)
            .join(tables.devices, tables.devices.c.device == tables.keys.c.device)
            .where(tables.keys.c.revoked_at.is_(None))
        )
        with self._engine.begin() as tx:
            return {r.digest: Identity(r.digest, r.device, r.role, r.batch) for r in tx.execute(query)}

    def add(self, new: Provisioned, now: datetime) -> None:
        """Provision a device, or give it another key. StateError where the key is in use already."""
        with self._write.begin() as tx:
            _provision(tx, new)
            if tx.scalar(sa.select(tables.keys.c.device).where(tables.keys.c.digest == new.digest)) is not None:
                raise StateError("this key is provisioned already")
            tx.execute(
                tables.keys.insert().values(digest=new.digest, device=new.device, source="command", created_at=now)
            )
            tables.bump_version(tx)

    def import_entries(self, entries: Iterable[Provisioned], now: datetime) -> None:
        """Make the keys of source `file` those of the file. A key that a command revoked stays revoked."""
        wanted = {entry.digest: entry for entry in entries}
        with self._write.begin() as tx:
            known = {row.digest: row for row in tx.execute(sa.select(tables.keys))}
            for digest, entry in wanted.items():
                _provision(tx, entry)
                if digest not in known:
                    tx.execute(
                        tables.keys.insert().values(digest=digest, device=entry.device, source="file", created_at=now)
                    )
                elif known[digest].source == "file":
                    is_back = known[digest].revoked_by == "file"
                    values = {"device": entry.device} | ({"revoked_at": None, "revoked_by": None} if is_back else {})
                    tx.execute(tables.keys.update().where(tables.keys.c.digest == digest).values(**values))
            gone = [d for d, row in known.items() if row.source == "file" and not row.revoked_at and d not in wanted]
            for digest in gone:
                _revoke(tx, digest, now, "file")
            tables.bump_version(tx)

    def revoke(self, name: str, now: datetime) -> list[KeyInfo]:
        """Revoke the keys of a device, or one key by its id or a longer part of its digest; return the revoked."""
        with self._write.begin() as tx:
            revoked = [
                row
                for row in tx.execute(_KEYS_WITH_DEVICES.where(tables.keys.c.revoked_at.is_(None)))
                if row.device == name or (len(name) >= 12 and row.digest.startswith(name.lower()))
            ]
            for row in revoked:
                _revoke(tx, row.digest, now, "command")
            if revoked:
                tables.bump_version(tx)
        return [_key_info(row) for row in revoked]

    def all(self) -> list[KeyInfo]:
        """All keys, revoked ones too, by device and age."""
        with self._engine.begin() as tx:
            query = _KEYS_WITH_DEVICES.order_by(tables.keys.c.device, tables.keys.c.created_at)
            return [_key_info(row) for row in tx.execute(query)]


def _provision(tx: sa.Connection, new: Provisioned) -> None:
    """Insert or update the device's row; members that the entry leaves out stay."""
    given = {"role": new.role, "batch": new.batch, "serial_number": new.serial_number}
    values = {name: value for name, value in given.items() if value is not None}
    if tx.scalar(sa.select(tables.devices.c.device).where(tables.devices.c.device == new.device)) is None:
        tx.execute(
            tables.devices.insert().values(device=new.device, settings={}, pairings=0, **{"role": "device", **values})
        )
    elif values:
        tx.execute(tables.devices.update().where(tables.devices.c.device == new.device).values(**values))


def _revoke(tx: sa.Connection, digest: str, now: datetime, by: str) -> None:
    tx.execute(tables.keys.update().where(tables.keys.c.digest == digest).values(revoked_at=now, revoked_by=by))


def _key_info(row: Any) -> KeyInfo:
    return KeyInfo(row.digest[:12], row.device, row.role, row.batch, row.source, row.created_at, row.revoked_at)
