"""The connector of Kärcher's cloud: registry, WebSockets, statuses, reports, notifications, commands."""

from __future__ import annotations

import asyncio

import aiohttp

from connectors.common.context import Context
from connectors.karcher.cloud import open_cloud
from connectors.karcher.commands import CommandReader
from connectors.karcher.lists import ListReader
from connectors.karcher.polling import Poll
from connectors.karcher.registry import MachineRegistry
from connectors.karcher.settings import KarcherSettings
from connectors.karcher.sockets import AllMachineSockets
from connectors.karcher.statuses import StatusReader


class KarcherConnector:
    """Reads one account until cancelled.

    Delivery: a WebSocket has no replay. An outage leaves a gap record, and the machine's status is read at once.
    Reports, notifications and commands are remembered over restarts (`state_dir`) and read with overlap: none is missed
    or published twice.

    Where several processes run, each reads the sockets, statuses and command histories of its own machines. All of them
    read the registry; the leader reads the lists of the whole account.
    """

    def __init__(self, settings: KarcherSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._account: _Account | None = None

    @property
    def sockets(self) -> int:
        """How many WebSockets this process holds or tries to open."""
        return len(self._account.sockets) if self._account is not None else 0

    async def run(self) -> None:
        """Read until cancelled. Raises only on a defect."""
        timeout = aiohttp.ClientTimeout(total=self._settings.request_timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            self._account = account = _Account(self._settings, self._context, http, tasks)
            self._context.health.ready.append(lambda: account.registry.problem)
            for work in account.polls():
                if work.seconds:
                    tasks.create_task(work.run(self._context.ownership))
            tasks.create_task(account.follow_ownership())
            tasks.create_task(account.statuses.run_resynchronisation())


class _Account:
    """The readers of one account, and what connects them: a new registry, and a change of the owned machines."""

    def __init__(
        self, settings: KarcherSettings, context: Context, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup
    ) -> None:
        self._settings = settings
        self._ownership = context.ownership
        self._coverage = context.coverage
        cloud = open_cloud(settings, http, context.state_dir, context.publisher)
        self.registry = MachineRegistry(cloud, context)
        self.statuses = StatusReader(cloud, context, self.registry)
        self.sockets = AllMachineSockets(cloud, context, self.registry, tasks, self.statuses.resynchronise)
        self._lists = ListReader(cloud, context, self.registry)
        self._commands = CommandReader(cloud, context, self.registry)

    def polls(self) -> list[Poll]:
        """The readings of the account."""
        every, later = self._settings, self._settings.registry_seconds
        return [
            Poll("registry", every.registry_seconds, self._read_registry, later, follows_ownership=False),
            Poll("statuses", every.status_seconds, self.statuses.read_all, later),
            Poll("cleaning reports", every.history_seconds, self._lists.read_reports, later),
            Poll("notifications", every.history_seconds, self._lists.read_notifications, later),
            Poll("command executions", every.commands_seconds, self._commands.read_all, later),
        ]

    async def follow_ownership(self) -> None:
        """Connect to the owned machines, and publish them, whenever they change; until cancelled."""
        await self.registry.until_read()
        while True:
            version = self._ownership.version
            self.sockets.reconcile()
            await self._coverage.listening()
            await self.registry.publish()
            await self._ownership.changed(version)

    async def _read_registry(self) -> None:
        await self.registry.read()
        self.statuses.forget_unknown()
        self.sockets.reconcile()
        await self.registry.publish()
