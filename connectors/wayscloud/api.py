"""WAYSCloud's REST API: requests within our limit, and lists read to their end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from connectors.common.http_client import FixedHeaders, RestClient
from connectors.common.rate_limits import shared_limiter
from connectors.wayscloud import objects
from connectors.wayscloud.settings import WayscloudSettings
from schemas.device import quote_id

_BASE = "/v1/iot"
_MAX_PAGES = 10_000
"""A list that has more pages never ends."""


class WayscloudApi:
    """The API of one account. VendorError where a request fails for good, ValueError where the answer is malformed."""

    def __init__(self, settings: WayscloudSettings, http: aiohttp.ClientSession, state_dir: Path) -> None:
        key = settings.api_key.get_secret_value() if settings.api_key else ""
        limiter = shared_limiter(state_dir, "wayscloud-rest", settings.requests_per_second, 1.0)
        self._page_size = settings.page_size
        authorization = FixedHeaders({"X-API-Key": key})
        self.rest = RestClient(http, settings.api_url.rstrip("/"), authorization, limiter=lambda _: limiter)

    async def get(self, *path: str, **params: str) -> bytes:
        """Return the answer of an endpoint, e.g. `get("devices", "sensor-001", "health")`."""
        name = "/".join([path[0], *path[2:]])
        return await self.rest.get("/".join([_BASE, *map(quote_id, path)]), params or None, endpoint=name)

    async def read(self, *path: str) -> dict[str, Any]:
        """Return the object that an endpoint answers."""
        return objects.read_object(await self.get(*path))

    async def items(self, name: str, identity: str = "id", **params: str) -> list[dict[str, Any]]:
        """Return all items of a list, each once, whatever its pages say of how many there are."""
        items: dict[str, dict[str, Any]] = {}
        for number in range(1, _MAX_PAGES):
            page = objects.read_page(
                await self.get(name, page=str(number), page_size=str(self._page_size), **params), name
            )
            listed = {str(item[identity]): item for item in page.items if objects.is_id(item.get(identity))}
            is_last = not page.may_go_on or listed.keys() <= items.keys()
            items |= listed
            if is_last:
                break
        return list(items.values())
