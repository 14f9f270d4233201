"""Commands that wait for devices, and their results."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from connectors.climasense.store import tables
from connectors.climasense.store.part import StorePart, device_row
from connectors.climasense.store.records import Command, StateError

COMMAND_LIFE = timedelta(hours=24)
"""Documented: commands expire after 24 hours if not acknowledged."""


class CommandStore(StorePart):
    """Commands by id."""

    def queue(
        self, device: str, kind: str, payload: dict[str, Any], now: datetime, *, confirmed: bool = False
    ) -> Command:
        """Queue a command for a device; it expires after 24 hours. A factory reset must be confirmed.

        StateError where the device is unknown or the confirmation is missing.
        """
        if kind == "factory_reset" and not confirmed:
            raise StateError("a factory reset must be confirmed")
        command = Command(str(uuid.uuid4()), device, kind, payload, now, now + COMMAND_LIFE)
        with self._write.begin() as tx:
            device_row(tx, device)
            values = {name: getattr(command, name) for name in tables.commands.c.keys()}  # noqa: SIM118 - not a dict
            tx.execute(tables.commands.insert().values(**values))
        return command

    def pending(self, device: str, now: datetime) -> list[Command]:
        """The commands that wait for a device and have not expired, oldest first."""
        query = (
            sa.select(tables.commands)
            .where(
                tables.commands.c.device == device,
                tables.commands.c.status.is_(None),
                tables.commands.c.expires_at > now,
            )
            .order_by(tables.commands.c.created_at, tables.commands.c.command_id)
        )
        with self._engine.begin() as tx:
            return [Command(**row._mapping) for row in tx.execute(query)]

    def expiring_since(self, moment: datetime) -> list[Command]:
        """The commands that had not expired at a moment, with those that have a result, oldest first."""
        query = (
            sa.select(tables.commands)
            .where(tables.commands.c.expires_at > moment)
            .order_by(tables.commands.c.created_at, tables.commands.c.command_id)
        )
        with self._engine.begin() as tx:
            return [Command(**row._mapping) for row in tx.execute(query)]

    def all(self, device: str | None = None) -> list[Command]:
        """All commands, of one device or of all, latest first."""
        query = sa.select(tables.commands).order_by(tables.commands.c.created_at.desc())
        with self._engine.begin() as tx:
            rows = tx.execute(query.where(tables.commands.c.device == device) if device else query)
            return [Command(**row._mapping) for row in rows]

    def get(self, device: str, command_id: str) -> Command | None:
        """Return a device's command; None where it has none of this id."""
        query = sa.select(tables.commands).where(
            tables.commands.c.command_id == command_id, tables.commands.c.device == device
        )
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
            return None if row is None else Command(**row._mapping)

    def finish(self, command_id: str, status: str, error_message: str | None, now: datetime) -> None:
        """Store the result of a command, which then no longer waits."""
        values = {"status": status, "error_message": error_message, "finished_at": now}
        with self._write.begin() as tx:
            tx.execute(tables.commands.update().where(tables.commands.c.command_id == command_id).values(**values))
