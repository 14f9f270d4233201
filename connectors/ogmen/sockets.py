"""The WebSockets of the robots that this process owns."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from connectors.common.clock import utc_now
from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.device_ownership import DeviceTasks
from connectors.common.entrance import admit
from connectors.common.rate_limits import FloodGuard
from connectors.common.websocket import SocketOptions, WebSocketReader, is_redirect
from connectors.ogmen import protocol
from connectors.ogmen.account_data import unusable
from connectors.ogmen.channel import CHANNEL
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings


@dataclass
class Pace:
    """At most `per_second` handshakes per second, evenly spaced: a fleet that lost its connections together does not
    come back all at once.
    """

    per_second: float
    _next: float = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = time.monotonic()
        self._next = max(now, self._next + 1 / self.per_second)
        await asyncio.sleep(self._next - now)


class Resynchronisation(Protocol):
    """What a socket needs of REST."""

    async def read_privacy(self, robot: Robot) -> None:
        """Read a robot's privacy mode unless it is known."""

    def resynchronise(self, robot: Robot) -> None:
        """Have a robot's states and logs read at once."""


class RobotSockets:
    """One WebSocket for each owned robot; none where `socket_url` is empty.

    Delivery: a socket has no replay. An outage leaves a gap record, and what REST offers is read again at once.
    Nothing is ever sent on a device's channel: the robot and all other clients would receive it.
    """

    def __init__(
        self,
        settings: OgmenSettings,
        context: Context,
        registry: RobotRegistry,
        tasks: asyncio.TaskGroup,
        rest: Resynchronisation,
    ) -> None:
        self._settings = settings
        self._context = context
        self._registry = registry
        self._rest = rest
        self._tasks = DeviceTasks(tasks)
        self._handshakes = asyncio.Semaphore(settings.concurrent_handshakes)
        self._pace = Pace(settings.handshakes_per_second)

    def reconcile(self) -> None:
        """Connect to the owned robots, and to no other."""
        if self._settings.socket_url:
            robots = self._registry.robots.items()
            self._tasks.keep({native_id: partial(self._listen, robot) for native_id, robot in robots})

    async def _listen(self, robot: Robot) -> None:
        lapsed_at = self._registry.take_lapsed(robot.native_id)
        await self._context.coverage.resume(robot.device, lapsed_at)
        await self._rest.read_privacy(robot)
        connection = ConnectionState(VENDOR, "websocket", robot.device)
        if lapsed_at is not None:
            connection.interrupted(lapsed_at, "held by no process, or handed over")
        socket = RobotSocket(robot, self._settings.socket_url, self._pace, self._context, self._rest)
        rate = self._settings.messages_per_second
        flood_guard = FloodGuard(robot.device, rate, burst=10 * rate)
        coverage = self._context.coverage
        await WebSocketReader(connection, socket, self._handshakes, self._options, flood_guard, coverage).run()

    @property
    def _options(self) -> SocketOptions:
        token = self._settings.token.get_secret_value() if self._settings.token else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return SocketOptions(headers, self._settings.max_frame_bytes)


@dataclass
class RobotSocket:
    """The socket of one robot, as a `SocketHandler`."""

    robot: Robot
    url_template: str
    pace: Pace
    context: Context
    rest: Resynchronisation

    async def url(self) -> str:
        """The URL; waits for the turn of this socket."""
        await self.pace.turn()
        return protocol.fill(self.url_template, device_id=self.robot.native_id)

    async def on_message(self, payload: bytes) -> None:
        """Forward a message."""
        robot, now = self.robot, utc_now()
        source = MessageSource(VENDOR, CHANNEL, now, robot.device)
        refuse = partial(unusable, hidden=robot.gate.hides())
        message = admit(payload, source, lambda: robot.channel.message(payload, now), refuse)
        await self.context.forward(VENDOR, message)

    async def on_gap(self, gap: Gap) -> None:
        """Publish the gap, and have the robot's states and logs read."""
        await self.context.publisher.publish_soon(gap.envelope(self.robot.device))
        self.rest.resynchronise(self.robot)

    async def on_refused(self, status: int) -> None:
        """Wait about a minute after a status that another attempt would not change soon."""
        if status in (400, 401, 403, 404) or is_redirect(status):
            await asyncio.sleep(60 * (0.5 + random.random()))
