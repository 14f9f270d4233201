"""Answers in the form that ClimaSense documents; errors are `{"error","message"}`."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from pydantic import BaseModel

from connectors.common.http_server import seconds

_RETRY_AFTER_SECONDS = 5.0


def json_answer(model: BaseModel) -> web.Response:
    """The answer of a request that succeeded."""
    return web.json_response(text=model.model_dump_json(exclude_none=True))


def error_answer(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """The answer of a request that failed."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)


class RequestRefused(Exception):
    """A request that is answered with an error; no body is lost by it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = error_answer(status, code, message, headers)


def unavailable() -> RequestRefused:
    """503 with `Retry-After`: the device keeps what it has, and sends it later."""
    return RequestRefused(503, "unavailable", "Try again later", seconds(_RETRY_AFTER_SECONDS))
