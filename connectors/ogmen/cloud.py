"""Ogmen's REST API: requests, and whether it answers at all."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

import aiohttp

from connectors.common.clock import utc_now
from connectors.common.connection_state import Gap
from connectors.common.http_client import FixedHeaders, RestClient, VendorError
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.settings import OgmenSettings
from runtime.metrics import GAPS

_log = logging.getLogger(__name__)

_FAILURES_OF_AN_OUTAGE = 3
"""How many requests in a row without an answer make an outage."""


@dataclass
class Outage:
    """Whether the API answers at all. Logs one line when it stops, and one when it answers again, which ends a gap."""

    host: str
    is_down: bool = False
    _failures: int = 0
    _since: datetime | None = None
    _reason: str = ""

    def failed(self, now: datetime, reason: str) -> None:
        """A request had no answer, or one that only a broken server gives."""
        self._failures += 1
        self._since = self._since or now
        if self._failures >= _FAILURES_OF_AN_OUTAGE and not self.is_down:
            self.is_down = True
            self._reason = reason
            _log.warning("ogmen: the API at %s does not answer (%s); trying again", self.host, reason)

    def answered(self, now: datetime) -> Gap | None:
        """A request was answered; returns the gap where this ends an outage."""
        gap = None
        if self.is_down and self._since is not None:
            _log.info("ogmen: the API at %s answers again", self.host)
            GAPS.labels(VENDOR).inc()
            gap = Gap(VENDOR, "rest", self._since, now, self._reason)
        self.is_down, self._failures, self._since = False, 0, None
        return gap


class Cloud:
    """Requests to the API. `on_gap` is called after an outage of the whole API."""

    def __init__(
        self, settings: OgmenSettings, http: aiohttp.ClientSession, on_gap: Callable[[Gap], Awaitable[None]]
    ) -> None:
        self._rest = rest_client(settings, http)
        self._on_gap = on_gap
        self._outage = Outage(urlsplit(settings.api_url).hostname or "")

    @property
    def is_down(self) -> bool:
        """Whether the API does not answer at all."""
        return self._outage.is_down

    async def get(self, path: str, endpoint: str, params: dict[str, str] | None = None) -> bytes:
        """The body of an answer; `endpoint` is its name for errors. VendorError."""
        try:
            body = await self._rest.get(path, params, endpoint=endpoint)
        except VendorError as error:
            if error.status is None or error.status >= 500:
                self._outage.failed(utc_now(), loggable(error))
            else:
                await self._answered()
            raise
        await self._answered()
        return body

    async def _answered(self) -> None:
        gap = self._outage.answered(utc_now())
        if gap is not None:
            await self._on_gap(gap)


def rest_client(settings: OgmenSettings, http: aiohttp.ClientSession) -> RestClient:
    """The client of the REST API, with the bearer token where one is configured."""
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}
    return RestClient(http, settings.api_url.rstrip("/"), FixedHeaders(headers))


def loggable(error: Exception) -> str:
    """The text of an error without the vendor's words: of an answer, the status only."""
    if isinstance(error, VendorError):
        return f"HTTP {error.status}" if error.status else "no answer"
    return str(error)
