"""Parts of our own HTTP endpoints: bounded bodies, answers that wait for Kafka."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from connectors.common.dead_letters import Digest
from connectors.common.publisher import Publisher
from runtime.http_body import BodyEncodingError, body_pieces

_LONGEST_BODY = 8 * 1024 * 1024
"""Bytes after which a body is not read further."""


@dataclass(frozen=True)
class Body:
    """A request's body: whole (`too_large` false), or its beginning with the digest of the whole.

    `problem` says why the body cannot be decompressed; `data` is then what could be.
    """

    data: bytes
    digest: Digest
    too_large: bool
    problem: str = ""


async def read_body(request: web.Request, limit: int) -> Body:
    """The body, decompressed, of which at most `limit` bytes are kept."""
    kept = bytearray()
    sha256 = hashlib.sha256()
    length = 0
    problem = ""
    try:
        async for piece in body_pieces(request):
            length += len(piece)
            sha256.update(piece)
            kept += piece[: max(0, limit - len(kept))]
            if length > _LONGEST_BODY:
                break
    except BodyEncodingError as error:
        problem = str(error)
    return Body(bytes(kept), Digest(length, sha256.hexdigest()), length > limit, problem)


async def in_time(publisher: Publisher, publish: Callable[[], Awaitable[None]], timeout: float) -> bool:
    """Call `publish`, a method of the publisher with its record; whether Kafka has acknowledged that in time.

    `timeout` is in seconds. While Kafka is away the answer is False at once.
    """
    if publisher.away:
        return False
    try:
        async with asyncio.timeout(timeout):
            await publish()
    except TimeoutError:
        return False
    return True


def seconds(wait: float) -> dict[str, str]:
    """The header `Retry-After`, in whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(wait)))}
