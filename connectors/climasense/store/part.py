"""What the parts of the store share: the engine, and reading a device's row."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from connectors.climasense.store import tables
from connectors.climasense.store.records import DeviceState, StateError


class StorePart:
    """One concern of the store. Transactions of `_write` lock at once, those of `_engine` only read."""

    def __init__(self, engine: sa.Engine, write: sa.Engine) -> None:
        self._engine = engine
        self._write = write


def device_row(tx: sa.Connection, device: str) -> Any:
    """Return the row of a device, locked until the transaction ends; StateError where the device is unknown."""
    row = tx.execute(sa.select(tables.devices).where(tables.devices.c.device == device).with_for_update()).first()
    if row is None:
        raise StateError(f"there is no device {device!r}")
    return row


def to_device(row: Any) -> DeviceState:
    """Make a device of its row."""
    return DeviceState(
        row.device, row.role, row.batch, row.serial_number, row.firmware_version, row.hub, dict(row.settings)
    )
