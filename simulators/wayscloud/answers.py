"""How WAYSCloud's REST answers: items, lists, pages by number, errors."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiohttp import web

DEFAULT_PAGE_SIZE, ALARM_PAGE_SIZE, MAX_PAGE_SIZE = 20, 50, 100

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Item = dict[str, Any]


def problem(status: int, detail: str) -> web.Response:
    """An error; the shape is assumed."""
    return web.json_response({"detail": detail}, status=status)


def not_found() -> web.Response:
    """The answer for an id that does not exist."""
    return problem(404, "Not found")


def moment(text: str) -> float:
    """Epoch seconds of an ISO 8601 parameter. ValueError where it is none."""
    return datetime.fromisoformat(text).timestamp()


def listing(name: str, items: Mapping[str, Item], keys: tuple[str, ...]) -> Handler:
    """The brief form of all items, which leaves fields out (a rule's ``config`` among them)."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({name: [{key: item[key] for key in keys} for item in items.values()]})

    return handler


def one(items: Mapping[str, Item]) -> Handler:
    """One item in full, by the path's ``id``."""

    async def handler(request: web.Request) -> web.Response:
        item = items.get(request.match_info["id"])
        return web.json_response(item) if item else not_found()

    return handler


def fixed(answer: Item) -> Handler:
    """Always the same answer."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    return handler


@dataclass(frozen=True)
class Paging:
    """How a list is paged."""

    name: str
    """The field with the items."""
    page_size: int = DEFAULT_PAGE_SIZE
    has_more: bool = False
    """Whether pages have the field ``has_more``: the list of devices does, that of alarms does not."""
    flaw: str = "sound"
    """What is wrong with the pages (``WaysCloudSimulator.paging``)."""

    def answer(self, request: web.Request, items: Sequence[Item]) -> web.Response:
        """The requested page of ``items``."""
        try:
            number = int(request.query.get("page", 1))
            size = int(request.query.get("page_size", self.page_size))
        except ValueError:
            return problem(422, "page and page_size are whole numbers")
        if number < 1 or not 1 <= size <= MAX_PAGE_SIZE:
            return problem(422, "page or page_size is out of range")
        start = 0 if self.flaw == "same_page" else (number - 1) * size
        page: Item = {
            self.name: items[start : start + size],
            "total": 0 if self.flaw == "total_zero" else len(items),
            "page": number,
            "page_size": size,
        }
        if self.has_more:
            claimed = {"has_more_false": False, "total_zero": False, "has_more_true": True}
            page["has_more"] = claimed.get(self.flaw, start + size < len(items))
        return web.json_response(page)
