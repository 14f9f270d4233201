"""What all endpoints share: refusing requests, answering in JSON, reading bodies and parameters."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any, TypeVar

import msgspec
from aiohttp import web

T = TypeVar("T")

_LEAST_TO_COMPRESS = 4096


class RequestRefused(Exception):
    """A request that is answered with an error: status, code and a sentence for a human reader."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def refusal_response(refused: RequestRefused) -> web.Response:
    """The refusal as `{"error","message"}`."""
    return web.json_response({"error": refused.code, "message": str(refused)}, status=refused.status)


def json_bytes(content: Any) -> bytes:
    """The content as JSON. Not-a-number becomes null."""
    return msgspec.json.encode(content)


async def json_response(request: web.Request, content: Any) -> web.Response:
    """The content as JSON, compressed when it is large."""
    return await body_response(request, json_bytes(content))


async def body_response(request: web.Request, body: bytes) -> web.Response:
    """JSON that is encoded already, compressed when it is large."""
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if len(body) >= _LEAST_TO_COMPRESS and "gzip" in request.headers.get("Accept-Encoding", ""):
        body = await asyncio.to_thread(gzip.compress, body, 3)
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=body, headers=headers)


async def read_body(request: web.Request, kind: type[T]) -> T:
    """The body as a struct. RequestRefused, with field and reason, where it is not one."""
    if request.content_type != "application/json":  # which no other site can send without our consent
        raise RequestRefused(415, "unsupported_media_type", "The body must be application/json")
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.DecodeError as error:
        raise RequestRefused(400, "invalid_request", str(error)) from error


def needed(request: web.Request, name: str) -> str:
    """A parameter of the address. RequestRefused where it is missing."""
    value = request.query.get(name, "")
    if not value:
        raise RequestRefused(400, "invalid_request", f"{name}: must be given")
    return value


def number(request: web.Request, name: str, default: float) -> float:
    """A number of the address. RequestRefused where it is none."""
    try:
        value = float(request.query.get(name, default))
    except ValueError:
        value = float("nan")
    if not -1e15 < value < 1e15:
        raise RequestRefused(400, "invalid_request", f"{name}: must be a number")
    return value
