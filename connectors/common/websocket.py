"""One WebSocket kept open: reconnects with jittered back-off, tells gaps, never shows its URL."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import utc_now
from connectors.common.rate_limits import FloodGuard
from runtime.backoff import Backoff
from schemas.topics import MAX_MESSAGE_BYTES

# Kärcher's token travels in the URL, and the library logs requests and exceptions with it: nothing of its own log may
# ever be shown, whatever level the process has. The links tell what there is to tell.
_silent = logging.getLogger("connectors.common.websocket.library")
_silent.disabled = True

_STABLE_SECONDS = 5.0


@dataclass
class WebSocketFeed:
    """Reads one WebSocket for ever. Frames are taken as bytes, so that invalid UTF-8 is the caller's to judge.

    `url` is asked before each attempt (a token may be new). `on_message` returning late holds the socket back: that is
    the back-pressure. `on_gap` is called once it is connected again. `on_status` is called with the HTTP status of a
    refused handshake; what it raises ends `run`.
    """

    link: ConnectionState
    url: Callable[[], Awaitable[str]]
    on_message: Callable[[bytes], Awaitable[None]]
    on_gap: Callable[[Gap], Awaitable[None]]
    on_status: Callable[[int], Awaitable[None]]
    handshakes: asyncio.Semaphore
    headers: Mapping[str, str] = field(default_factory=dict)
    max_bytes: int = MAX_MESSAGE_BYTES
    """A longer message ends the connection."""
    open_timeout: float = 10.0
    ping_interval: float = 20.0
    backoff: Backoff = field(default_factory=Backoff)
    flood: FloodGuard | None = None
    """What it does not let through is read and dropped."""

    async def run(self) -> None:
        """Until cancelled, or until `on_status` gives up."""
        try:
            while True:
                await self._session()
                await asyncio.sleep(self.backoff.next(random.random()))
        finally:
            self.link.closed()

    async def probe(self) -> bool:
        """Open it once and close it again: whether it could be opened. `on_status` is told of a refusal."""
        try:
            async with await self._open():
                return True
        except InvalidStatus as error:
            await self.on_status(error.response.status_code)
        except (OSError, WebSocketException, TimeoutError):
            pass
        return False

    async def _session(self) -> None:
        """One connection from handshake to its end; every reason to try again is noted, not raised."""
        opened = 0.0
        try:
            socket = await self._open()
            opened = time.monotonic()
            async with socket:
                gap = self.link.connected(utc_now())
                if gap is not None:
                    await self.on_gap(gap)
                while True:
                    message = await socket.recv(decode=False)
                    if self.flood is None or self.flood.passes(time.monotonic()):
                        await self.on_message(_as_bytes(message))
        except InvalidStatus as error:
            self.link.lost(utc_now(), f"HTTP {error.response.status_code}")
            await self.on_status(error.response.status_code)
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else error.sent.code if error.sent else 1006
            self.link.lost(utc_now(), f"closed, code {code}")
        except (OSError, WebSocketException, TimeoutError) as error:
            # only the kind of error: the library's texts may hold the URL
            self.link.lost(utc_now(), type(error).__name__)
        if opened and time.monotonic() - opened > _STABLE_SECONDS:
            self.backoff.reset()

    async def _open(self) -> ClientConnection:
        url = await self.url()
        async with self.handshakes:
            return await connect(
                url,
                additional_headers=self.headers,
                open_timeout=self.open_timeout,
                ping_interval=self.ping_interval,
                ping_timeout=self.ping_interval,
                max_size=self.max_bytes,
                max_queue=32,
                logger=_silent,
                user_agent_header="fleetlake",
            )


def _as_bytes(message: str | bytes) -> bytes:
    return message.encode() if isinstance(message, str) else message
