"""The shapes of Ogmen's REST answers: the usual ones, and those that the document has somewhere."""

from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from aiohttp import web

from simulators.ogmen import payloads
from simulators.wire import encode

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Shape = Callable[[list[dict[str, Any]]], object]
"""Makes an answer of log entries."""


def problem(status: int, message: str) -> web.Response:
    """The standard shape of an error: ``{code, status, message, data}``."""
    body = {"code": status, "status": "error", "message": message, "data": None}
    return web.json_response(body, status=status)


def as_array(entries: list[dict[str, Any]]) -> object:
    """The entries as a bare array."""
    return entries


def as_envelopes(entries: list[dict[str, Any]]) -> object:
    """Each entry in an envelope of its own."""
    return [payloads.envelope("Connectivity logs retrieved successfully.", entry) for entry in entries]


def as_envelope(entries: list[dict[str, Any]]) -> object:
    """One envelope; a single entry comes without an array."""
    data: object = entries[0] if len(entries) == 1 else entries
    return payloads.envelope("Location logs retrieved successfully.", data)


def as_bare(entries: list[dict[str, Any]]) -> object:
    """A bare array; a single entry comes without it."""
    return entries[0] if len(entries) == 1 else entries


class OddShapes:
    """Chooses another of the documented shapes for each answer, at random."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def of(self, usual: object, data: object) -> object:
        """The answer with ``data``, whose usual shape is ``usual``."""
        entries = data if isinstance(data, list) else [data]
        shapes: tuple[Callable[[], object], ...] = (
            lambda: usual,
            lambda: entries,
            lambda: {"code": 200, "status": "SUCCESS", "message": "ok", "data": entries},
            lambda: [payloads.envelope("ok", entry) for entry in entries],
            lambda: {"code": 200, "status": "success", "message": "ok", "data": "null"},
            lambda: {"status": "success", "data": entries},
            lambda: {"code": 200, "status": "success", "message": "ok", "data": encode(entries).decode()},
            lambda: {"code": 200, "status": "success", "message": "ok", "data": None},
        )
        return self._rng.choice(shapes)()
