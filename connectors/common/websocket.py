"""One WebSocket kept open: reconnects with jittered back-off, reports gaps, never shows its URL."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from connectors.common.clock import utc_now
from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.coverage import SOCKET, Coverage
from connectors.common.http_client import VendorError, vendor_proxy
from connectors.common.rate_limits import FloodGuard
from runtime.backoff import Backoff
from schemas.topics import MAX_MESSAGE_BYTES

# Kärcher's token travels in the URL, and the library logs requests and exceptions with it. So nothing of the library's
# log may ever be shown, at whatever level the process logs. `ConnectionState` logs each change.
_silent = logging.getLogger("connectors.common.websocket.library")
_silent.disabled = True

_STABLE_SECONDS = 5.0
_QUEUE_FRAMES = 2
"""Frames that a socket holds before it stops reading, whose length the library bounds one by one only: a frame may be
as long as Kafka takes, and a process has many sockets.
"""
NO_SOCKET = (400, 403, 404)
"""Statuses after which a device has no socket: what REST says is all there is, and its silence counts. A handler waits
long after such a refusal."""


class SocketHandler(Protocol):
    """What a WebSocket is for."""

    async def url(self) -> str:
        """Where to connect; asked before each attempt, since a token may be new."""

    async def on_message(self, payload: bytes) -> None:
        """Take a message. The socket is not read further until this returns: that is the back-pressure."""

    async def on_gap(self, gap: Gap) -> None:
        """Take the gap that an outage left; called once the socket is connected again."""

    async def on_refused(self, status: int) -> None:
        """A handshake was refused with this HTTP status. What this raises ends the reader."""


@dataclass(frozen=True)
class SocketOptions:
    """How a WebSocket is opened and kept. Times in seconds."""

    headers: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = MAX_MESSAGE_BYTES
    """A longer message ends the connection."""
    open_timeout: float = 10.0
    ping_interval: float = 20.0


class _ConnectHere(connect):
    """The library's `connect`, which does not follow redirects: they would take the token to another origin."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Treat a redirect like any other refusal."""
        return exc


def is_redirect(status: int) -> bool:
    """Whether a handshake was answered with a redirect."""
    return 300 <= status < 400


@dataclass
class WebSocketReader:
    """Reads one WebSocket until cancelled. Frames are taken as bytes: the handler decides about invalid UTF-8."""

    connection: ConnectionState
    handler: SocketHandler
    handshakes: asyncio.Semaphore
    """Bounds the handshakes at the same time, of all readers that share it."""
    options: SocketOptions = field(default_factory=SocketOptions)
    flood_guard: FloodGuard | None = None
    """Messages that it does not let through are read and dropped."""
    coverage: Coverage = field(default_factory=Coverage)
    """Where it says when the socket is up; see `device`."""
    _backoff: Backoff = field(default_factory=Backoff, init=False)

    @property
    def device(self) -> str:
        """The id of the device whose socket this is: the name of its connection."""
        return self.connection.name

    async def run(self) -> None:
        """Read until cancelled, or until the handler's `on_refused` raises."""
        try:
            while True:
                await self._session()
                await asyncio.sleep(self._backoff.next(random.random()))
        finally:
            self.connection.closed()

    async def probe(self) -> bool:
        """Open the socket once and close it again; whether that worked. Calls `on_refused` after a refusal."""
        try:
            async with await self._open():
                return True
        except InvalidStatus as error:
            await self.handler.on_refused(error.response.status_code)
        except (OSError, WebSocketException, TimeoutError, VendorError):
            pass
        return False

    async def _session(self) -> None:
        """One connection from handshake to end. Every reason to connect again is noted, not raised."""
        opened = 0.0
        try:
            socket = await self._open()
            opened = time.monotonic()
            async with socket:
                gap = self.connection.connected(utc_now())
                await self.coverage.listening(SOCKET, self.device)
                if gap is not None:
                    await self.handler.on_gap(gap)
                while True:
                    message = await socket.recv(decode=False)
                    if self.flood_guard is None or self.flood_guard.passes(time.monotonic()):
                        await self.handler.on_message(_as_bytes(message))
        except VendorError as error:
            self.connection.lost(utc_now(), str(error))
            self.coverage.interrupted(SOCKET, self.device)
        except InvalidStatus as error:
            status = error.response.status_code
            why = ": redirects are refused" if is_redirect(status) else ""
            self.connection.lost(utc_now(), f"HTTP {status}{why}")
            await self._refused(status)
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else error.sent.code if error.sent else 1006
            self.connection.lost(utc_now(), f"closed, code {code}")
            self.coverage.interrupted(SOCKET, self.device)
        except (OSError, WebSocketException, TimeoutError) as error:
            # only the kind of error: the library's texts may contain the URL
            self.connection.lost(utc_now(), type(error).__name__)
            self.coverage.interrupted(SOCKET, self.device)
        if opened and time.monotonic() - opened > _STABLE_SECONDS:
            self._backoff.reset()

    async def _refused(self, status: int) -> None:
        if status in NO_SOCKET:
            await self.coverage.listening(SOCKET, self.device)
        else:
            self.coverage.interrupted(SOCKET, self.device)
        await self.handler.on_refused(status)

    async def _open(self) -> ClientConnection:
        url = await self.handler.url()
        async with self.handshakes:
            return await _ConnectHere(
                url,
                proxy=vendor_proxy(url),
                additional_headers=self.options.headers,
                open_timeout=self.options.open_timeout,
                ping_interval=self.options.ping_interval,
                ping_timeout=self.options.ping_interval,
                max_size=self.options.max_bytes,
                max_queue=_QUEUE_FRAMES,
                logger=_silent,
                user_agent_header="fleetlake",
            )


def _as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
