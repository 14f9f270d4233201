"""How far the updates of devices have come."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from connectors.climasense.store import tables
from connectors.climasense.store.devices import DeviceStore
from connectors.climasense.store.part import StorePart
from connectors.climasense.store.records import DeviceState, Update
from schemas.climasense import OtaStatus


class UpdateStore(StorePart):
    """The latest update of each device."""

    def __init__(self, engine: sa.Engine, write: sa.Engine, devices: DeviceStore) -> None:
        super().__init__(engine, write)
        self._devices = devices

    def next(self, device: str, report: OtaStatus) -> Update:
        """Return the update as it stands after a report. This only reads: call `save` when Kafka has the report.

        A repeated report is the same attempt, so that its envelope has the same id.
        """
        query = sa.select(tables.updates).where(tables.updates.c.device == device)
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
        last = Update(row.version, row.attempt, row.status, row.progress_percent) if row is not None else None
        attempt = last.attempt if last else 1
        new = Update(report.version, attempt, report.status, report.progress_percent)
        if last is None or new == last or (last.version == new.version and not last.ended):
            return new
        return Update(report.version, attempt + 1, report.status, report.progress_percent)

    def save(self, device: str, update: Update, now: datetime) -> DeviceState | None:
        """Store how far an update has come. Return the device if it now runs another version."""
        values = {
            "version": update.version,
            "attempt": update.attempt,
            "status": update.status,
            "progress_percent": update.progress_percent,
            "updated_at": now,
        }
        with self._write.begin() as tx:
            changed = tx.execute(tables.updates.update().where(tables.updates.c.device == device).values(**values))
            if not changed.rowcount:
                tx.execute(tables.updates.insert().values(device=device, **values))
        return self._devices.note_firmware(device, update.version) if update.status == "completed" else None
