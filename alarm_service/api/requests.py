"""What all endpoints share: reading requests, refusing them, and answering in JSON.

Errors are `{"error","message"}`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import pydantic_core
from aiohttp import web
from pydantic import BaseModel, ValidationError

from schemas.records import AlarmRule
from schemas.validation_words import validation_words
from schemas.words import KeyRole

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ACTOR = web.RequestKey("actor", str)
"""The name of the API key that a request was admitted by."""
ROLE = web.RequestKey("role", KeyRole)
"""The role of that key."""

_RETRY_AFTER_SECONDS = "5"

B = TypeVar("B", bound=BaseModel)


class RequestRefused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = error_response(status, code, message)


def error_response(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """An error: `{"error","message"}`."""
    return web.json_response({"error": code, "message": message}, status=status, headers=headers)


def unavailable(what: str = "Kafka") -> RequestRefused:
    """503, with the time after which to try once more."""
    refused = RequestRefused(503, "unavailable", f"{what} does not answer; try again later")
    refused.answer.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    return refused


def json_response(model: BaseModel, status: int = 200) -> web.Response:
    """The model as JSON. A rule leaves out what it does not define."""
    text = model.model_dump_json(by_alias=True, exclude_none=isinstance(model, AlarmRule))
    return web.json_response(text=text, status=status)


def parse_body(body: bytes, model: type[B]) -> B:
    """The body as a model. RequestRefused where it is not one."""
    return validated(lambda: model.model_validate_json(body))


def validated(read: Callable[[], B]) -> B:
    """What `read` returns. RequestRefused, with the field and the reason, where it is not valid."""
    try:
        return read()
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        where, words = ".".join(str(part) for part in first["loc"]), validation_words(first)
        raise RequestRefused(400, "invalid_request", f"{where}: {words}" if where else words) from wrong


def parse_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. RequestRefused where it is not one."""
    try:
        content = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise RequestRefused(400, "invalid_request", f"The body is not JSON: {wrong}") from wrong
    if not isinstance(content, dict):
        raise RequestRefused(400, "invalid_request", "The body must be a JSON object")
    return content


def parse_number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number from 1 to `most`. RequestRefused for anything else."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= most):
        raise RequestRefused(400, "invalid_request", f"{name}: must be a number from 1 to {most}")
    return int(text)


def parse_word(query: Mapping[str, str], name: str, words: list[str]) -> str | None:
    """One of these words, or None where the query does not name one. RequestRefused for anything else."""
    word = query.get(name)
    if word is not None and word not in words:
        raise RequestRefused(400, "invalid_request", f"{name}: must be one of {', '.join(words)}")
    return word
