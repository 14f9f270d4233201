"""What our own HTTP endpoints share: serving, bounded bodies, answers that wait for Kafka."""

from __future__ import annotations

import asyncio
import hashlib
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from connectors.errors import ConnectorError
from connectors.publisher import Publisher
from runtime.checks import CheckResult
from schemas.envelope import Envelope
from schemas.wire import DeadLetter, Device

SERVED_BY = "X-Fleetlake-Stage"
"""Header of every answer of our endpoints."""

_LONGEST_BODY = 8 * 1024 * 1024
"""A longer body is not even read to its end."""


@dataclass(frozen=True)
class Body:
    """A request's body: whole (`too_large` false), or its beginning with the length and SHA-256 of all of it."""

    data: bytes
    length: int
    sha256: str
    too_large: bool


@asynccontextmanager
async def serving(app: web.Application, host: str, port: int, what: str) -> AsyncIterator[int]:
    """Serve while the block lasts; yields the port. ConnectorError names the address where it cannot be had."""
    app.on_response_prepare.append(_sign)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConnectorError(f"{what} cannot listen on {host}:{port}: {error.strerror or error}") from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def read_body(request: web.Request, limit: int) -> Body:
    """The body, of which at most `limit` bytes are kept."""
    kept = bytearray()
    digest = hashlib.sha256()
    length = 0
    async for chunk in request.content.iter_chunked(64 * 1024):
        length += len(chunk)
        digest.update(chunk)
        kept += chunk[: max(0, limit - len(kept))]
        if length > _LONGEST_BODY:
            break
    return Body(bytes(kept), length, digest.hexdigest(), length > limit)


async def settled(publisher: Publisher, record: Envelope | Device | DeadLetter, timeout: float) -> bool:
    """Whether Kafka has acknowledged the record within `timeout` seconds; False at once while Kafka is away."""
    if publisher.problem:
        return False
    try:
        async with asyncio.timeout(timeout):
            match record:
                case Envelope():
                    await publisher.publish(record)
                case Device():
                    await publisher.publish_device(record)
                case _:
                    await publisher.dead_letter(record)
    except TimeoutError:
        return False
    return True


async def check_port(name: str, host: str, port: int) -> CheckResult:
    """Whether the port can be listened on, or a connector serves on it already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if await _is_ours(host, port):
                return CheckResult(name, True, f"{host}:{port}: a connector serves there")
            return CheckResult(name, False, f"{host}:{port}: {error.strerror or error}")
    return CheckResult(name, True, f"{host}:{port} is free")


async def _is_ours(host: str, port: int) -> bool:
    address = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session,
            session.get(f"http://{address}:{port}/livez") as answer,
        ):
            return answer.headers.get(SERVED_BY) is not None
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


async def _sign(_: web.Request, response: web.StreamResponse) -> None:
    response.headers[SERVED_BY] = "connect"


def seconds(wait: float) -> dict[str, str]:
    """The header `Retry-After`, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(wait)))}
