"""What our own HTTP endpoints share: serving, and checking beforehand whether a port is free."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from runtime.checks import CheckResult
from runtime.errors import StageError
from runtime.http_limits import DEFAULT_LIMITS, ConnectionGuard, ConnectionRegister, RequestLogger, ServerLimits
from runtime.http_tls import ServerCertificate, TlsGate

_SERVED_BY = "X-Fleetlake-Stage"
"""Header of every answer of our endpoints; it names the stage."""


class LimitedServer:
    """An application served on one address, within limits. Bodies arrive as sent: nothing is decompressed."""

    def __init__(self, app: web.Application, limits: ServerLimits, what: str) -> None:
        self._register = ConnectionRegister(_within_descriptors(limits), what)
        self._certificate = (
            ServerCertificate(limits.certificate_file, limits.key_file, f"{what}: certificate_file")
            if limits.certificate_file
            else None
        )
        app.middlewares.insert(0, self._register.middleware)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            shutdown_timeout=5,
            logger=RequestLogger(what),
            keepalive_timeout=limits.idle_seconds,
            auto_decompress=False,
        )
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> None:
        """Bind and serve. OSError if the address is taken."""
        await self._runner.setup()
        self._server = await asyncio.get_running_loop().create_server(self._protocol, host, port, backlog=128)

    def _protocol(self) -> asyncio.Protocol:
        """The protocol of a new connection."""
        serve = self._runner.server
        assert serve is not None
        if self._certificate is None:
            return ConnectionGuard(self._register, serve())
        return TlsGate(
            self._register, self._certificate, lambda address: ConnectionGuard(self._register, serve(), address)
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where it serves."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Stop listening, let requests end for a few seconds, close all connections. Harmless if it never started."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()


def _within_descriptors(limits: ServerLimits) -> ServerLimits:
    """At most a quarter of the process's file descriptors for connections, so that the rest of it goes on."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(limits.max_connections, max(1, descriptors // 4))
    return limits.model_copy(update={"max_connections": most})


@asynccontextmanager
async def serving(
    app: web.Application, host: str, port: int, what: str, limits: ServerLimits = DEFAULT_LIMITS
) -> AsyncIterator[int]:
    """Serve while the block lasts; yields the port.

    StageError names the address that cannot be bound, or the certificate that cannot be used.
    """

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers[_SERVED_BY] = what

    app.on_response_prepare.append(sign)
    server = LimitedServer(app, limits, what)
    try:
        try:
            await server.start(host, port)
        except OSError as error:
            raise StageError(f"{what} cannot listen on {host}:{port}: {error.strerror or error}") from error
        yield server.address[1]
    finally:
        await server.stop()


async def check_port(name: str, host: str, port: int, what: str) -> CheckResult:
    """Check that the port is free, or that `what` serves on it already."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        stage = await _served_by(host, port)
        if stage == what:
            return CheckResult(name, True, f"{host}:{port}: {what} serves there")
        taken = f"{stage} serves there" if stage else error.strerror or str(error)
        return CheckResult(name, False, f"{host}:{port}: {taken}")
    return CheckResult(name, True, f"{host}:{port} is free")


async def _served_by(host: str, port: int) -> str | None:
    """The stage whose endpoint answers there, if any."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        for scheme in ("http", "https"):
            try:
                # The certificate is not checked: nothing is sent, and it need not be for a loopback address.
                async with session.get(f"{scheme}://{where}/livez", ssl=False) as answer:
                    if stage := answer.headers.get(_SERVED_BY):
                        return stage
            except (aiohttp.ClientError, TimeoutError, OSError):
                continue
    return None
