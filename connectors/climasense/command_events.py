"""What becomes of commands before a device reports a result: queued, handed out, expired."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.protocol import command_event
from connectors.climasense.store.records import Command
from connectors.climasense.store.threads import StoreThreads
from connectors.common.clock import utc_now
from connectors.common.publisher import Publisher
from connectors.common.state_file import StateFile
from schemas.envelope import Envelope
from schemas.timestamps import format_iso, parse_iso


class CommandEvents:
    """Publishes each event of a command once; what was published is kept over restarts (`file`).

    Operators queue commands while the server runs and while it does not, so the database is looked at periodically. A
    command was handed out when its device first asked for it and got it; after a crash, when it asks the next time.
    """

    def __init__(self, store: StoreThreads, publisher: Publisher, file: StateFile) -> None:
        self._store = store
        self._publisher = publisher
        self._file = file
        state = file.read()
        kept, until = state.get("published"), state.get("until")
        self._published: dict[str, list[str]] = kept if isinstance(kept, dict) else {}
        """By id of a command that has not expired: the events that were published."""
        self._until = parse_iso(until) if isinstance(until, str) else utc_now()
        """Up to when commands that have expired were published."""
        self._handed_out: dict[str, datetime] = {}

    def handed_out(self, commands: Iterable[Command], now: datetime) -> None:
        """Take note that a device got these commands."""
        for command in commands:
            self._handed_out.setdefault(command.command_id, now)

    async def run(self, seconds: float) -> None:
        """Publish what is new every so many seconds, until cancelled. While the database is away, nothing is."""
        while True:
            with contextlib.suppress(SQLAlchemyError):  # StoreThreads says so
                await self._publish_new(utc_now())
            await asyncio.sleep(seconds)

    async def _publish_new(self, now: datetime) -> None:
        commands = await self._store.run(self._store.store.commands.expiring_since, self._until)
        before = {name: list(kinds) for name, kinds in self._published.items()}
        await self._publisher.publish_all([event for command in commands for event in self._new(command, now)])
        alive = {command.command_id for command in commands if command.expires_at > now}
        self._published = {name: kinds for name, kinds in self._published.items() if name in alive}
        self._handed_out = {name: at for name, at in self._handed_out.items() if name in alive}
        self._until = max(now, self._until)
        if self._published != before or len(alive) < len(commands) or not self._file.path.exists():
            content = {"published": self._published, "until": format_iso(self._until)}
            await asyncio.to_thread(self._file.write, content)

    def _new(self, command: Command, now: datetime) -> list[Envelope]:
        """The events of a command that are new, in the order in which they happened."""
        moments = {"queued": command.created_at}
        if command.command_id in self._handed_out:
            moments["handed_out"] = self._handed_out[command.command_id]
        if command.status is None and command.expires_at <= now:
            moments["expired"] = command.expires_at
        published = self._published.setdefault(command.command_id, [])
        new = [kind for kind in moments if kind not in published]
        published += new
        return [command_event(command, kind, moments[kind], now) for kind in new]
