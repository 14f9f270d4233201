"""OAuth2 client credentials: one token for all users of it, never more requests than the vendor allows.

Three things hold requests back. The limiter keeps to the vendor's limit, for all processes of the host and over
restarts. After a request that failed, the next is made only after a growing pause, and whoever asks meanwhile gets the
same error at once. And a token that the vendor refuses is renewed only after a pause that doubles with every fresh
token that is refused as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from pydantic import SecretStr

from connectors.common.http_client import VendorError, retry_after_seconds
from connectors.common.rate_limits import SharedLimiter
from runtime.backoff import Backoff

_MIN_RENEWAL_SECONDS = 60.0
"""A token refused sooner than this after it was issued is not renewed again: another one would be refused as well."""
_MAX_RENEWAL_SECONDS = 600.0
"""The longest such pause; a token that was good for longer than this had simply ended."""


class CredentialsError(VendorError):
    """The token endpoint refused the client (wrong credentials, or the wrong request)."""


@dataclass
class TokenSource:
    """Hands out the current access token; asks for a new one before the old one ends (karcher.txt, «authenticate»).

    The token itself stays in memory; only the times of requests are written to disk, by the limiter. All waits of many
    callers are one request.
    """

    http: aiohttp.ClientSession
    url: str
    client_id: str
    client_secret: SecretStr
    limiter: SharedLimiter
    scope: str = ""
    clock: Callable[[], float] = time.monotonic
    _failure: VendorError | None = field(default=None, init=False)
    _retry_at: float = field(default=0.0, init=False)
    _backoff: Backoff = field(default_factory=lambda: Backoff(base=1.0, cap=300.0), init=False)
    _refused_in_a_row: int = field(default=0, init=False)
    _token: str = field(default="", init=False, repr=False)
    _issued: float = field(default=0.0, init=False)
    _renew_at: float = field(default=0.0, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def token(self) -> str:
        """A token that is good for a while. VendorError (CredentialsError) where there is none to be had now."""
        async with self._lock:
            if not self._token or self.clock() >= self._renew_at:
                await self._renew()
            return self._token

    def refused(self, token: str, *, after: float = _MIN_RENEWAL_SECONDS) -> None:
        """The vendor answered 401 to this token: the next caller gets a new one, unless it is new already, i.e. younger
        than `after` seconds (longer where the tokens before it were refused, too).
        """
        if not token or token != self._token:
            return
        age = self.clock() - self._issued
        if age > _MAX_RENEWAL_SECONDS:
            self._refused_in_a_row = 0
        if age > min(_MAX_RENEWAL_SECONDS, after * 2.0**self._refused_in_a_row):
            self._refused_in_a_row += 1
            self._token = ""

    async def _renew(self) -> None:
        failed = self._failure
        if failed is not None and self.clock() < self._retry_at:
            raise type(failed)(str(failed), failed.status)  # anew: one raised twice would keep both stacks
        try:
            await self._request()
        except VendorError as error:
            self._failure = error
            self._retry_at = self.clock() + self._backoff.next(random.random())
            raise
        self._failure = None
        self._backoff.reset()

    async def _request(self) -> None:
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": self.client_secret.get_secret_value(),
        }
        if self.scope:
            form["scope"] = self.scope
        await self.limiter.acquire()
        try:
            async with self.http.post(self.url, data=form, allow_redirects=False) as response:
                status, headers = response.status, response.headers
                body = await response.json(content_type=None) if status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise VendorError(f"token endpoint: {type(error).__name__}") from None
        if status == 429:
            self.limiter.hold(retry_after_seconds(headers, default=60))
        if status in (400, 401, 403):
            raise CredentialsError(f"token endpoint: HTTP {status}; check client_id and client_secret", status)
        if status != 200:
            raise VendorError(f"token endpoint: HTTP {status}", status)
        self._take(body)

    def _take(self, body: object) -> None:
        token = body.get("access_token") if isinstance(body, dict) else None
        lifetime = body.get("expires_in", 3600) if isinstance(body, dict) else None
        if not isinstance(token, str) or not token or not isinstance(lifetime, (int, float)):
            raise VendorError("token endpoint: an answer without access_token")
        self._token = token
        self._issued = self.clock()
        self._renew_at = self._issued + lifetime - min(300.0, lifetime * 0.1)
