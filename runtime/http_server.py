"""What our own HTTP endpoints share: serving, and checking beforehand whether a port is free."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from runtime.checks import CheckResult
from runtime.errors import StageError

_SERVED_BY = "X-Fleetlake-Stage"
"""Header of every answer of our endpoints; it names the stage."""


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, what: str) -> AsyncIterator[int]:
    """Serve while the block lasts; yields the port. StageError names the address when it cannot be bound."""

    async def sign(_: web.Request, response: web.StreamResponse) -> None:
        response.headers[_SERVED_BY] = what

    app.on_response_prepare.append(sign)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise StageError(f"{what} cannot listen on {host}:{port}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


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
    url = f"http://[{address}]:{port}/livez" if ":" in address else f"http://{address}:{port}/livez"
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
            session.get(url) as answer,
        ):
            return answer.headers.get(_SERVED_BY)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None
