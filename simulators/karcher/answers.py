"""How Kärcher's REST reads parameters and writes answers: pages and errors, as documented."""

import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from aiohttp import web

from simulators.net import page

DEFAULT_LIMIT, DEFAULT_REPORT_LIMIT, MAX_LIMIT = 10, 15, 100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class InvalidParameter(ValueError):
    """A request parameter is missing or wrong; becomes ``400 invalid_parameter``."""


class NotFound(LookupError):
    """There is no such machine or execution; becomes ``404 not_found``."""


def problem(status: int, message: str, retry_after: float | None = None) -> web.Response:
    """The documented shape of an error."""
    headers = {"Retry-After": str(math.ceil(retry_after))} if retry_after is not None else None
    return web.json_response({"status": status, "message": message}, status=status, headers=headers)


def machine_ids(request: web.Request) -> list[str] | None:
    """The ids of the parameter ``machineIds``; None when it is absent."""
    given = request.query.get("machineIds")
    return [each for each in given.split(",") if each] if given else None


def moment(text: str) -> float:
    """Epoch seconds of an ISO 8601 parameter."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidParameter from error


def paged(request: web.Request, items: Sequence[Any], default_limit: int = DEFAULT_LIMIT) -> web.Response:
    """The requested page of ``items``, which are in ascending order; ``sort=desc`` reverses them."""
    try:
        limit = int(request.query.get("limit", default_limit))
        sort = request.query.get("sort", "asc")
        if not 1 <= limit <= MAX_LIMIT or sort not in ("asc", "desc"):
            raise InvalidParameter
        data, info = page(items if sort == "asc" else items[::-1], limit, request.query.get("cursor"))
    except ValueError as error:
        raise InvalidParameter from error
    return web.json_response({"data": list(data), "pageInfo": info})
