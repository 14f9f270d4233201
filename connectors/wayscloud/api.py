"""WAYSCloud's REST API: requests within our limit, and lists read to their end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from connectors.common.http_client import FixedHeaders, RestClient
from connectors.common.publisher import Publisher
from connectors.common.rate_limits import shared_limiter
from connectors.common.unusable_answers import UnusableAnswers
from connectors.wayscloud import objects
from connectors.wayscloud.settings import WayscloudSettings
from schemas.device import quote_id
from schemas.redact import redact_value
from schemas.wire import Problem, encode

T = TypeVar("T")

_BASE = "/v1/iot"
_MAX_PAGES = 10_000
"""A list that has more pages never ends."""


class WayscloudApi:
    """The API of one account. VendorError where a request fails for good, ValueError where the answer is malformed."""

    def __init__(
        self,
        settings: WayscloudSettings,
        http: aiohttp.ClientSession,
        state_dir: Path,
        publisher: Publisher | None = None,
    ) -> None:
        """Dead letters of answers go to the publisher, if any."""
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        limiter = shared_limiter(state_dir, "wayscloud-rest", settings.requests_per_second, 1.0)
        self._page_size = settings.page_size
        self._unusable = UnusableAnswers(objects.VENDOR, publisher)
        authorization = FixedHeaders({"X-API-Key": key})
        self.rest = RestClient(http, settings.api_url.rstrip("/"), authorization, limiter=lambda _: limiter)

    async def get(self, *path: str, **params: str) -> bytes:
        """Return the answer of an endpoint, e.g. `get("devices", "sensor-001", "health")`."""
        name = "/".join([path[0], *path[2:]])
        return await self.rest.get("/".join([_BASE, *map(quote_id, path)]), params or None, endpoint=name)

    async def read(self, *path: str) -> dict[str, Any]:
        """Return the object that an endpoint answers."""
        return await self.parsed(objects.read_object, *path)

    async def parsed(self, read: Callable[[bytes], T], *path: str) -> T:
        """Return what `read` makes of an endpoint's answer. ValueError, and a dead letter, where it cannot read it."""
        return await self._read(path[0], "/".join(path), await self.get(*path), read)

    async def _refuse(self, name: str, identity: str, items: Iterable[dict[str, Any]]) -> None:
        for item in items:
            if not objects.is_id(item.get(identity)):
                problem = Problem(identity, "missing", f"an entry of {name} needs {identity}")
                await self._unusable.entry(name, encode(redact_value(item)), problem)

    async def _read(self, endpoint: str, request: str, body: bytes, read: Callable[[bytes], T]) -> T:
        """Read an answer. One that cannot be read is a dead letter, and raises ValueError."""
        try:
            answer = read(body)
        except ValueError as error:
            await self._unusable.answer(endpoint, request, body, error)
            raise
        self._unusable.usable(request)
        return answer

    async def items(self, name: str, identity: str = "id", **params: str) -> list[dict[str, Any]]:
        """Return all items of a list, each once, whatever its pages say of how many there are."""
        items: dict[str, dict[str, Any]] = {}
        for number in range(1, _MAX_PAGES):
            body = await self.get(name, page=str(number), page_size=str(self._page_size), **params)
            page = await self._read(name, f"{name} {number} {params}", body, lambda body: objects.read_page(body, name))
            await self._refuse(name, identity, page.items)
            listed = {str(item[identity]): item for item in page.items if objects.is_id(item.get(identity))}
            is_last = not page.may_go_on or listed.keys() <= items.keys()
            items |= listed
            if is_last:
                break
        return list(items.values())
