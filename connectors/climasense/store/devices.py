"""Devices: settings, firmware version, and which hub a sensor belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from connectors.climasense.store import tables
from connectors.climasense.store.part import StorePart, device_row, to_device
from connectors.climasense.store.records import DeviceState, StateError

MAX_SETTINGS_CHARS = 64 * 1024


class DeviceStore(StorePart):
    """Devices by native id."""

    def all(self) -> list[DeviceState]:
        """All devices, by name."""
        with self._engine.begin() as tx:
            return [to_device(row) for row in tx.execute(sa.select(tables.devices).order_by(tables.devices.c.device))]

    def get(self, device: str) -> DeviceState:
        """Return one device; StateError where it is unknown."""
        with self._engine.begin() as tx:
            return to_device(device_row(tx, device))

    def update_settings(self, device: str, changes: Mapping[str, Any], *, by_operator: bool = False) -> DeviceState:
        """Merge changes deeply into a device's settings; return the updated device. StateError if they are too long."""
        with self._write.begin() as tx:
            before = to_device(device_row(tx, device))
            settings = _merged(before.settings, changes)
            if len(json.dumps(settings)) > MAX_SETTINGS_CHARS:
                raise StateError(f"the settings must not be longer than {MAX_SETTINGS_CHARS} characters in all")
            tx.execute(tables.devices.update().where(tables.devices.c.device == device).values(settings=settings))
            if by_operator:
                tables.bump_version(tx)
            return to_device(device_row(tx, device))

    def note_firmware(self, device: str, version: str) -> DeviceState | None:
        """Store the version that a device runs. Return the device if the version changed, else None."""
        with self._engine.begin() as tx:
            if device_row(tx, device).firmware_version == version:
                return None
        with self._write.begin() as tx:
            tx.execute(
                tables.devices.update().where(tables.devices.c.device == device).values(firmware_version=version)
            )
            return to_device(device_row(tx, device))

    def next_pairing(self, sensor: str, hub: str) -> int | None:
        """Return the number that the next pairing of the two gets; None where they are paired. This only reads.

        StateError where the device is no sensor, or belongs to another hub.
        """
        with self._engine.begin() as tx:
            row = device_row(tx, sensor)
        if row.role != "sensor":
            raise StateError(f"the key belongs to a {row.role}")
        if row.hub not in (None, hub):
            raise StateError("the sensor belongs to another hub")
        return None if row.hub == hub else int(row.pairings) + 1

    def pair(self, sensor: str, hub: str, ieee_address: str | None, now: datetime) -> DeviceState:
        """Give a sensor to a hub; return the updated sensor."""
        values = {"hub": hub, "ieee_address": ieee_address, "paired_at": now, "pairings": tables.devices.c.pairings + 1}
        with self._write.begin() as tx:
            tx.execute(tables.devices.update().where(tables.devices.c.device == sensor).values(**values))
            return to_device(device_row(tx, sensor))

    def unpair(self, sensor: str) -> None:
        """Take a sensor from its hub, so that another hub can pair with it."""
        with self._write.begin() as tx:
            device_row(tx, sensor)
            values = {"hub": None, "ieee_address": None, "paired_at": None}
            tx.execute(tables.devices.update().where(tables.devices.c.device == sensor).values(**values))
            tables.bump_version(tx)


def _merged(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(before)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, dict) else value
    return merged
