"""The WebSockets of the robotic machines that this process owns."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from connectors.common.clock import utc_now
from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.device_ownership import DeviceTasks
from connectors.common.entrance import admit
from connectors.common.http_client import VendorError
from connectors.common.rate_limits import FloodGuard
from connectors.common.websocket import NO_SOCKET, WebSocketReader, is_redirect
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.protocol import VENDOR, Machine
from connectors.karcher.registry import MachineRegistry
from runtime.backoff import Backoff

_log = logging.getLogger(__name__)

_REFUSED_TOKEN_SECONDS = 600.0
"""A token that a socket answered with 403 is renewed no sooner than this: most likely it lacks the scope."""


class AllMachineSockets:
    """One WebSocket for each owned robotic machine.

    Delivery: a socket has no replay. An outage leaves a gap record; then `resynchronise` is called with the machine id.
    """

    def __init__(
        self,
        cloud: Cloud,
        context: Context,
        registry: MachineRegistry,
        tasks: asyncio.TaskGroup,
        resynchronise: Callable[[str], None],
    ) -> None:
        self._cloud = cloud
        self._context = context
        self._registry = registry
        self._resynchronise = resynchronise
        self._tasks = DeviceTasks(tasks)
        self._handshakes = asyncio.Semaphore(cloud.settings.concurrent_handshakes)
        self._complained_of_scope = False

    def __len__(self) -> int:
        return len(self._tasks)

    def reconcile(self) -> None:
        """Connect to the owned robotic machines, and to no other."""
        if not self._registry.is_read:
            return
        lapsed = self._context.ownership.take_lapsed()
        partition = self._context.ownership.partition
        self._tasks.keep(
            {
                machine.device_id: partial(self._listen, machine, lapsed.get(partition(machine.device_id)))
                for machine in self._registry.owned_robots()
            }
        )

    async def _listen(self, machine: Machine, lapsed_at: datetime | None) -> None:
        """Read a machine's socket. `lapsed_at`: until when another process, or the one before this, held it."""
        await self._context.coverage.resume(machine.device_id, lapsed_at)
        connection = ConnectionState(VENDOR, "websocket", machine.device_id)
        if lapsed_at is not None:
            connection.interrupted(lapsed_at, "held by no process, or handed over")
        socket = MachineSocket(machine, connection, self._cloud, self._context, self)
        rate = self._cloud.settings.messages_per_second
        flood_guard = FloodGuard(machine.device_id, rate, burst=10 * rate)
        coverage = self._context.coverage
        await WebSocketReader(connection, socket, self._handshakes, flood_guard=flood_guard, coverage=coverage).run()

    def missed(self, machine: Machine) -> None:
        """A machine's messages may have been missed."""
        self._resynchronise(machine.machine_id)

    def forbidden(self) -> None:
        """A socket was answered with 403, which concerns all sockets of the account: log it once."""
        if not self._complained_of_scope:
            _log.warning(
                "karcher: sockets are forbidden (403): the scope external-api/websocket:connect is needed; "
                "going on with REST"
            )
        self._complained_of_scope = True


@dataclass
class MachineSocket:
    """The socket of one machine, as a `SocketHandler`."""

    machine: Machine
    connection: ConnectionState
    cloud: Cloud
    context: Context
    sockets: AllMachineSockets
    _token: str = field(default="", init=False, repr=False)
    _sequence: int = field(default=0, init=False)

    async def url(self) -> str:
        """The URL with a valid token; waits until there is one."""
        self._token = await self._wait_for_token()
        base = self.cloud.settings.urls.socket
        return protocol.socket_url(base, self.machine.material_number, self.machine.serial_number, self._token)

    async def on_message(self, payload: bytes) -> None:
        """Forward a message."""
        self._sequence += 1
        device, now = self.machine.device_id, utc_now()
        source = MessageSource(VENDOR, protocol.DATAPOINTS, now, device)
        read = partial(protocol.socket_message, payload, device, now, self._sequence)
        await self.context.forward(VENDOR, admit(payload, source, read))

    async def on_gap(self, gap: Gap) -> None:
        """Publish the gap, and have the machine's status read."""
        await self.context.publisher.publish_soon(gap.envelope(self.machine.device_id))
        self.sockets.missed(self.machine)

    async def on_refused(self, status: int) -> None:
        """Have the token renewed; after a status of `NO_SOCKET` or a redirect, wait for about `registry_seconds`."""
        if status == 401:
            self.cloud.tokens.refused(self._token)
        if status == 403:
            self.sockets.forbidden()
            self.cloud.tokens.refused(self._token, after=_REFUSED_TOKEN_SECONDS)
        if status in NO_SOCKET or is_redirect(status):
            await asyncio.sleep(self.cloud.settings.registry_seconds * (0.5 + random.random()))

    async def _wait_for_token(self) -> str:
        backoff = Backoff(base=2.0, cap=300.0)
        while True:
            try:
                return await self.cloud.tokens.token()
            except VendorError as error:
                self.connection.lost(utc_now(), str(error))
                await asyncio.sleep(backoff.next(random.random()))
