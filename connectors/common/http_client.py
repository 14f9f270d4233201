"""GET requests to vendors' REST APIs: authorization, limits, retries."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Protocol

import aiohttp

from connectors.common.clock import utc_now
from connectors.common.rate_limits import SharedLimiter
from runtime.backoff import Backoff
from runtime.proxy import ProxySettingError, proxy_for

_LARGEST_ANSWER = 64 * 1024 * 1024


class VendorError(RuntimeError):
    """A request to a vendor failed for good. The text names endpoint and status, never a URL or a token."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


def vendor_proxy(url: str) -> str | None:
    """The proxy through which a vendor is reached. VendorError where the environment names an unusable one."""
    try:
        return proxy_for(url)
    except ProxySettingError as error:
        raise VendorError(str(error)) from error


def retry_after_seconds(headers: Mapping[str, str], default: float, cap: float = 3600.0) -> float:
    """`Retry-After` as seconds (RFC 9110, 10.2.3: a number or a date); `default` where it is absent or unreadable."""
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - utc_now()).total_seconds()
    except (ValueError, TypeError):
        return default
    return min(cap, max(0.0, seconds))


_MESSAGE = re.compile(rb'"message"\s*:\s*"([A-Za-z][A-Za-z _-]{1,60})"')


def _explain(status: int, body: bytes) -> str:
    """The status, the vendor's message (plain words only, so that nothing personal gets into a log), and what to do."""
    if not status:
        return "no answer"
    message = _MESSAGE.search(body[:2000])
    text = f"HTTP {status}" + (f", {message[1].decode()}" if message else "")
    return f"{text}: these credentials may not read it; ask the vendor for the permission" if status == 403 else text


class Authorization(Protocol):
    """How a client shows that it may read an API."""

    async def headers(self) -> dict[str, str]:
        """The headers of the next request. May raise VendorError."""

    def refused(self, headers: Mapping[str, str]) -> None:
        """A request with these headers was answered with 401."""


@dataclass(frozen=True)
class FixedHeaders:
    """An authorization that never changes, e.g. an API key; empty where the API asks for none."""

    values: Mapping[str, str] = field(default_factory=dict)

    async def headers(self) -> dict[str, str]:
        """See `Authorization.headers`."""
        return dict(self.values)

    def refused(self, headers: Mapping[str, str]) -> None:
        """Nothing to renew."""


@dataclass
class RestClient:
    """GET requests to one vendor.

    401: the authorization is renewed once. 429: waits as long as `Retry-After` says. 5xx, time-outs and lost
    connections: retried with jittered back-off, `attempts` times in all. Any other status raises VendorError at once.
    """

    http: aiohttp.ClientSession
    base_url: str
    authorization: Authorization
    limiter: Callable[[str], SharedLimiter] | None = None
    """The limiter of an endpoint; None: no limit."""
    attempts: int = 4
    _backoff_base: float = field(default=1.0, init=False)

    async def get(self, path: str, params: Mapping[str, str] | None = None, endpoint: str = "") -> bytes:
        """The body of a 200 answer. `endpoint` is the name for limits and errors (default: the path). VendorError."""
        endpoint = endpoint or path
        backoff = Backoff(self._backoff_base)
        renewed = False
        for attempt in range(1, self.attempts + 1):
            if self.limiter is not None:
                await self.limiter(endpoint).acquire()
            headers = await self.authorization.headers()
            status, answer_headers, body = await self._request(path, params, headers)
            if status == 200:
                return body
            if status == 401 and not renewed:
                self.authorization.refused(headers)
                renewed = True
            elif status == 429 and attempt < self.attempts:
                wait = retry_after_seconds(answer_headers, default=1.0)
                if self.limiter is not None:
                    self.limiter(endpoint).hold(wait)
                await asyncio.sleep(wait + backoff.next(random.random()))
            elif (status == 0 or status >= 500) and attempt < self.attempts:
                await asyncio.sleep(backoff.next(random.random()))
            else:
                raise VendorError(f"{endpoint}: {_explain(status, body)}", status or None)
        raise VendorError(f"{endpoint}: HTTP 401", 401)

    async def _request(
        self, path: str, params: Mapping[str, str] | None, headers: dict[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body; status 0 where no answer came."""
        url = self.base_url + path
        proxy = vendor_proxy(url)
        try:
            async with self.http.get(
                url, params=params, headers=headers, allow_redirects=False, proxy=proxy
            ) as response:
                return response.status, response.headers, await _whole(response.content)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0, {}, b""


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """All of a body (one `read` gives what has arrived so far); cut off at the limit, which makes it unparsable."""
    body = bytearray()
    while len(body) < _LARGEST_ANSWER and (part := await content.read(_LARGEST_ANSWER - len(body))):
        body += part
    return bytes(body)
