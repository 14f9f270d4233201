"""Limits of our HTTP servers against whoever can reach their port: connections, and time for headers and bodies.

A `ConnectionGuard` stands between a connection and aiohttp's protocol, which has no such limits of its own.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ConfigDict, Field

log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
_REFUSAL = (
    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
    "Connection: close\r\n{further}\r\n{body}"
)


class ServerLimits(BaseModel):
    """Keys of every configuration section that opens an HTTP server to others."""

    model_config = ConfigDict(extra="forbid", frozen=False)

    max_connections: int = Field(default=512, ge=1, description="Connections at a time; further ones get 503.")
    max_connections_per_address: int = Field(
        default=128,
        ge=1,
        description="Connections at a time from one address; further ones get 503. Behind a proxy all connections have "
        "the proxy's address.",
    )
    header_seconds: float = Field(
        default=15, gt=0, description="How long a client may take to send the head of a request; then it is cut off."
    )
    body_seconds: float = Field(
        default=60, gt=0, description="How long a client may take to send a request's body; then it gets 408."
    )
    idle_seconds: float = Field(
        default=75, gt=0, description="How long an open connection may wait for its next request."
    )
    certificate_file: Path | None = Field(
        default=None,
        description="Certificate in PEM: serve HTTPS. It is read again when it changes. Default: HTTP, for a TLS proxy "
        "in front.",
    )
    key_file: Path | None = Field(
        default=None, description="Key of the certificate. Default: it is in the certificate's file."
    )

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.certificate_file else "http"


DEFAULT_LIMITS = ServerLimits()


class ConnectionRegister:
    """The open connections of one server, and how many each address has."""

    def __init__(self, limits: ServerLimits, what: str) -> None:
        self.limits = limits
        self.guards: dict[asyncio.Protocol, ConnectionGuard] = {}
        self._total = 0
        self._by_address: Counter[str] = Counter()
        self.log = OncePerMinute(what)

    def admit(self, address: str) -> bool:
        """Count one more connection; False, uncounted, beyond the limits."""
        if self._total >= self.limits.max_connections:
            self.log("%d connections are open (max_connections); refusing further ones", self.limits.max_connections)
            return False
        if self._by_address[address] >= self.limits.max_connections_per_address:
            self.log("%s has too many connections (max_connections_per_address); refusing further ones", address)
            return False
        self._total += 1
        self._by_address[address] += 1
        return True

    def leave(self, address: str) -> None:
        """A counted connection ended."""
        self._total -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        """Start and end the time of a request's body."""
        guard = self.guards.get(cast(asyncio.Protocol, request.protocol))
        if guard is not None:
            guard.request_started(request)
        try:
            response: web.StreamResponse = await handler(request)
            return response
        except web.RequestPayloadError as error:  # broken chunks
            raise web.HTTPBadRequest(reason="The body cannot be read") from error
        finally:
            if guard is not None:
                guard.request_ended()


class ConnectionGuard(asyncio.Protocol):
    """Passes a connection's events to aiohttp's protocol, unless there are too many connections or it is too slow."""

    def __init__(self, register: ConnectionRegister, inner: web.RequestHandler, admitted: str | None = None) -> None:
        """`admitted` is the address of a connection that the register has admitted already."""
        self._register = register
        self._inner = inner
        self._transport: asyncio.Transport | None = None
        self._address = admitted or ""
        self._admitted = admitted is not None
        self._in_request = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Admit the connection; the time for the head of the first request begins."""
        self._transport = cast(asyncio.Transport, transport)
        if not self._admitted:
            peer = transport.get_extra_info("peername")
            self._address = peer[0] if isinstance(peer, tuple) else ""
            self._admitted = self._register.admit(self._address)
        if not self._admitted:
            self._refuse("503 Service Unavailable", "Too many connections", "Retry-After: 5\r\n")
            return
        self._register.guards[self._inner] = self
        self._inner.connection_made(transport)
        self._start_timer(self._register.limits.header_seconds, self._cut_off)

    def data_received(self, data: bytes) -> None:
        """Pass the data on; the first data after a request begin the next head."""
        if not self._admitted:
            return
        if not self._in_request and self._timer is None:
            self._start_timer(self._register.limits.header_seconds, self._cut_off)
        self._inner.data_received(data)

    def eof_received(self) -> None:
        """Pass the end of the input on."""
        if self._admitted:
            self._inner.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass the end of the connection on, and count it no more."""
        self._stop_timer()
        if self._admitted:
            self._register.guards.pop(self._inner, None)
            self._register.leave(self._address)
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client reads slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        self._inner.resume_writing()

    def request_started(self, request: web.Request) -> None:
        """The head of a request is complete; the time for its body begins."""
        self._stop_timer()
        self._in_request = True
        if not request.content.is_eof():
            self._start_timer(self._register.limits.body_seconds, lambda: self._body_late(request))

    def request_ended(self) -> None:
        """The request is answered. How long the connection may be idle now is aiohttp's own limit."""
        self._stop_timer()
        self._in_request = False

    def _body_late(self, request: web.Request) -> None:
        self._timer = None
        if not request.content.is_eof():
            self._refuse("408 Request Timeout", "The body took too long", "")

    def _cut_off(self) -> None:
        """Close without an answer: there was no request."""
        self._timer = None
        if self._transport is not None:
            self._transport.abort()

    def _refuse(self, status: str, message: str, further: str) -> None:
        assert self._transport is not None
        body = f'{{"error": "{status.partition(" ")[2].lower().replace(" ", "_")}", "message": "{message}"}}'
        self._transport.write(
            _REFUSAL.format(status=status, length=len(body), further=further, body=body).encode("ascii")
        )
        self._transport.close()

    def _start_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class OncePerMinute:
    """Logs each kind of line at most once per minute, so that an attacker cannot fill the log."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._logged_at: dict[Hashable, float] = {}

    def __call__(self, message: str, *arguments: object) -> None:
        """Log a warning, unless the same message (whatever its arguments) was logged in the last minute."""
        now = time.monotonic()
        if now - self._logged_at.get(message, -_LOG_SECONDS) >= _LOG_SECONDS:
            self._logged_at[message] = now
            log.warning("%s: " + message, self._what, *arguments)


class RequestLogger(logging.Logger):
    """aiohttp's log of one server: clients' errors are one line per minute, our own keep their traceback."""

    def __init__(self, what: str) -> None:
        super().__init__(__name__)
        self.parent = log
        self._once = OncePerMinute(what)

    def exception(self, msg: object, *args: object, exc_info: Any = True, **options: Any) -> None:
        """Log an error of a request."""
        if isinstance(exc_info, HttpProcessingError):
            self._once("a client sent what is not HTTP (%s)", type(exc_info).__name__)
        elif not isinstance(exc_info, (ConnectionError, web.RequestPayloadError)):
            log.error(msg, *args, exc_info=exc_info)
