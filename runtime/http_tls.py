"""HTTPS for our HTTP servers: certificates that are renewed while they serve, and connections counted from the start.

asyncio's own TLS servers tell a protocol of a connection when its handshake is complete. A client that never begins one
would then count in no limit. A `TlsGate` counts a connection first, and has it speak TLS afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from runtime.errors import StageError
from runtime.http_limits import ConnectionGuard, ConnectionRegister
from runtime.tls import load_certificate

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 10.0
"""How often the files are looked at, at most, when connections arrive."""


class ServerCertificate:
    """A server's certificate and key, read again when their files change.

    StageError, which begins with `setting`, where they cannot be used at the start. Later, the old ones stay in use.
    """

    def __init__(self, certificate: Path, key: Path | None, setting: str) -> None:
        self._certificate = certificate
        self._key = key
        self._setting = setting
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_certificate(self._context, certificate, key, setting)
        self._loaded = self._modified()
        self._looked_at = time.monotonic()

    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self.renew()
        return self._context

    def renew(self) -> None:
        """Load the files if they changed."""
        try:
            modified = self._modified()
            if modified != self._loaded:
                load_certificate(self._context, self._certificate, self._key, self._setting)
                _log.info("%s: renewed", self._setting)
        except (StageError, OSError) as error:
            _log.warning("the certificate before stays in use: %s", error)
        else:
            self._loaded = modified

    def _modified(self) -> list[int]:
        return [path.stat().st_mtime_ns for path in (self._certificate, self._key) if path is not None]


class TlsGate(asyncio.Protocol):
    """Admits a connection, has it speak TLS, and then passes everything to a guard (`ConnectionGuard`)."""

    def __init__(
        self, register: ConnectionRegister, certificate: ServerCertificate, guard: Callable[[str], ConnectionGuard]
    ) -> None:
        """`guard` makes the guard of an admitted address."""
        self._register = register
        self._certificate = certificate
        self._make_guard = guard
        self._guard: ConnectionGuard | None = None
        self._early: list[bytes] = []
        self._lost = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, and begin the handshake."""
        if self._task is not None:  # of the secured transport: uvloop says so, asyncio does not
            return
        plain = cast(asyncio.Transport, transport)
        peer = plain.get_extra_info("peername")
        address = peer[0] if isinstance(peer, tuple) else ""
        if not self._register.admit(address):
            plain.abort()
            return
        plain.pause_reading()
        self._task = asyncio.get_running_loop().create_task(self._secure(plain, address))

    async def _secure(self, plain: asyncio.Transport, address: str) -> None:
        try:
            secure = await asyncio.get_running_loop().start_tls(
                plain,
                self,
                self._certificate.context(),
                server_side=True,
                ssl_handshake_timeout=self._register.limits.header_seconds,
            )
        except OSError as error:  # of TLS, of the connection, or too late
            self._register.leave(address)
            plain.abort()
            if isinstance(error, ssl.SSLError):
                self._register.log("a client's TLS handshake failed (%s)", error.reason)
            return
        except BaseException:
            self._register.leave(address)
            plain.abort()
            raise
        if secure is None or self._lost:
            self._register.leave(address)
            return
        self._guard = self._make_guard(address)
        self._guard.connection_made(secure)
        for data in self._early:
            self._guard.data_received(data)
        self._early.clear()

    def data_received(self, data: bytes) -> None:
        """Pass data on; they may come a moment before the guard is there."""
        if self._guard is None:
            self._early.append(data)
        else:
            self._guard.data_received(data)

    def eof_received(self) -> None:
        """Pass the end of the input on. TLS then closes the connection."""
        if self._guard is not None:
            self._guard.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Pass the end of the connection on, and count it no more."""
        self._lost = True
        if self._guard is not None:
            self._guard.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client reads slowly."""
        if self._guard is not None:
            self._guard.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client reads again."""
        if self._guard is not None:
            self._guard.resume_writing()
