"""What the simulated clouds share at their edges: serving, pacing, limits, pages, and channels of sockets."""

import asyncio
import base64
import binascii
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from aiohttp import WSMsgType, web

log = logging.getLogger(__name__)

Clock = Callable[[], float]
"""Epoch seconds."""

Item = TypeVar("Item")
SEND_TIMEOUT = 10.0
"""Seconds after which a client that does not read its socket is cut off, so that it does not hold up the others."""


@asynccontextmanager
async def serve(app: web.Application, host: str, port: int) -> AsyncIterator[int]:
    """Serve on loopback until the block ends; yields the port (a free one for 0). Raises OSError if it is taken."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def ticks(rate: float, offset: float = 0.0) -> AsyncIterator[None]:
    """Yield ``rate`` times per second. What is missed under load is skipped, not made up for in a burst."""
    loop = asyncio.get_running_loop()
    due = loop.time() + offset
    while True:
        await asyncio.sleep(max(0.0, due - loop.time()))
        yield
        due = max(due + 1 / rate, loop.time())


class RateLimit:
    """At most ``limit`` requests in any ``window`` seconds for each key."""

    def __init__(self, limit: int, window: float) -> None:
        self._limit, self._window = limit, window
        self._seen: dict[str, deque[float]] = {}

    def wait(self, key: str, now: float) -> float:
        """Count the request if it is allowed and return 0; otherwise return the seconds until one will be allowed."""
        seen = self._seen.setdefault(key, deque())
        while seen and seen[0] <= now - self._window:
            seen.popleft()
        if len(seen) >= self._limit:
            return seen[0] + self._window - now
        seen.append(now)
        return 0.0


def page(items: Sequence[Item], limit: int, cursor: str | None) -> tuple[Sequence[Item], dict[str, Any]]:
    """One page and its ``pageInfo``; ValueError for a cursor that is not ours."""
    start = _offset(cursor) if cursor is not None else 0
    end = min(start + limit, len(items))
    info: dict[str, Any] = {"totalCount": len(items), "hasNextPage": end < len(items)}
    if end < len(items):
        info["endCursor"] = base64.urlsafe_b64encode(json.dumps({"offset": end}).encode()).decode()
    return items[start:end], info


def _offset(cursor: str) -> int:
    try:
        offset = json.loads(base64.urlsafe_b64decode(cursor))["offset"]
    except (binascii.Error, ValueError, TypeError, KeyError) as error:
        raise ValueError("not a cursor") from error
    if not isinstance(offset, int) or offset < 0:
        raise ValueError("not a cursor")
    return offset


Pump = Callable[["Channel"], Awaitable[None]]
"""Sends a device's messages on its channel until cancelled."""


class Channel:
    """The sockets that listen to one device. Its pump runs while there is any."""

    def __init__(self, pump: Pump) -> None:
        self._sockets: dict[web.WebSocketResponse, web.Request] = {}
        self._pump = pump
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._sockets)

    @asynccontextmanager
    async def joined(self, socket: web.WebSocketResponse, request: web.Request) -> AsyncIterator[None]:
        """Let a socket listen while the block lasts."""
        self._sockets[socket] = request
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            self._sockets.pop(socket, None)
            if not self._sockets and self._task is not None:
                self._task.cancel()
                self._task = None

    async def send(self, payload: bytes, besides: web.WebSocketResponse | None = None) -> None:
        """Send a text frame to all sockets but ``besides``. The bytes go out as they are, valid UTF-8 or not."""
        for socket in [each for each in self._sockets if each is not besides]:
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await socket.send_frame(payload, WSMsgType.TEXT)
            except (ConnectionError, TimeoutError, RuntimeError):
                self._abort(socket)

    def drop(self) -> None:
        """Cut all connections without a close frame."""
        for socket in list(self._sockets):
            self._abort(socket)

    def _abort(self, socket: web.WebSocketResponse) -> None:
        request = self._sockets.pop(socket, None)
        if request is not None and request.transport is not None:
            request.transport.abort()

    async def _run(self) -> None:
        try:
            await self._pump(self)
        except Exception:
            log.exception("a simulated device has stopped")
            self.drop()


class Channels:
    """The channels of a fleet, by device; ``pump_of`` makes a device's pump."""

    def __init__(self, pump_of: Callable[[str], Pump], devices: Iterable[str]) -> None:
        self._pump_of = pump_of
        self._channels = {device: Channel(pump_of(device)) for device in devices}

    def of(self, device: str) -> Channel:
        """The device's channel; created now for a device that is new in the fleet."""
        if device not in self._channels:
            self._channels[device] = Channel(self._pump_of(device))
        return self._channels[device]

    def items(self) -> Sequence[tuple[str, Channel]]:
        """All devices with their channels."""
        return list(self._channels.items())

    def listeners(self) -> dict[str, int]:
        """The number of open sockets by device."""
        return {device: len(channel) for device, channel in self._channels.items()}

    def drop_all(self) -> None:
        """Cut the connections of all devices without a close frame."""
        for channel in self._channels.values():
            channel.drop()
