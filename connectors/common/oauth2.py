"""OAuth2 client credentials: one token for all callers, and never more requests than the vendor allows.

Three rules limit the requests. The limiter keeps to the vendor's limit, for all processes of the host and over
restarts. After a failed request, the next one is made only after a growing pause; callers get the same error at once
meanwhile. A token that the vendor refuses is renewed only after a pause, which doubles with every new token that is
refused as well.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
from pydantic import SecretStr

from connectors.common.http_client import VendorError, retry_after_seconds, vendor_proxy
from connectors.common.rate_limits import SharedLimiter
from runtime.backoff import Backoff
from runtime.metrics import TOKEN_REQUESTS

_MIN_RENEWAL_SECONDS = 60.0
"""A token refused sooner than this after it was issued is not renewed: the next one would be refused as well."""
_MAX_RENEWAL_SECONDS = 600.0
"""The longest such pause. A token that worked for longer than this has simply expired."""


_REFUSALS = (400, 401, 403)
_OUTCOMES = {200: "granted", 429: "limited", **dict.fromkeys(_REFUSALS, "refused")}
"""What an answer's status means, as the metric names it."""


class CredentialsError(VendorError):
    """The token endpoint refused the client (wrong credentials, or the wrong request)."""


@dataclass(frozen=True)
class ClientCredentials:
    """Who asks for a token, and where."""

    token_url: str
    client_id: str
    client_secret: SecretStr
    scope: str = ""
    """Empty: everything that the client is entitled to."""


@dataclass
class TokenSource:
    """Hands out the current access token, and requests a new one before the old one expires.

    The token stays in memory; only the times of requests are written to disk, by the limiter. Many callers that wait at
    the same time cost one request.
    """

    http: aiohttp.ClientSession
    credentials: ClientCredentials
    limiter: SharedLimiter
    vendor: str
    """Whose requests its metric counts."""
    clock: Callable[[], float] = time.monotonic
    _failure: VendorError | None = field(default=None, init=False)
    _retry_at: float = field(default=0.0, init=False)
    _backoff: Backoff = field(default_factory=lambda: Backoff(base=1.0, cap=300.0), init=False)
    _refused_in_a_row: int = field(default=0, init=False)
    _token: str = field(default="", init=False, repr=False)
    _issued: float = field(default=0.0, init=False)
    _renew_at: float = field(default=0.0, init=False)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        for outcome in {*_OUTCOMES.values(), "failed"}:
            TOKEN_REQUESTS.labels(self.vendor, outcome)  # 0 before the first, so that Prometheus sees it rise

    async def token(self) -> str:
        """A token that stays valid for a while. VendorError (CredentialsError) where none can be obtained now."""
        async with self._lock:
            if not self._token or self.clock() >= self._renew_at:
                await self._renew()
            return self._token

    def refused(self, token: str, *, after: float = _MIN_RENEWAL_SECONDS) -> None:
        """Drop a token that the vendor answered with 401, so that the next caller gets a new one.

        A token younger than `after` seconds is kept; longer, where the tokens before it were refused as well.
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
            raise type(failed)(str(failed), failed.status)  # a new one: an error raised twice would keep both stacks
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
            "client_id": self.credentials.client_id,
            "client_secret": self.credentials.client_secret.get_secret_value(),
        }
        if self.credentials.scope:
            form["scope"] = self.credentials.scope
        url = self.credentials.token_url
        proxy = vendor_proxy(url)
        await self.limiter.acquire()
        try:
            async with self.http.post(url, data=form, allow_redirects=False, proxy=proxy) as response:
                status, headers = response.status, response.headers
                body = await response.json(content_type=None) if status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._count("failed")
            raise VendorError(f"token endpoint: {type(error).__name__}") from None
        self._count(_OUTCOMES.get(status, "failed"))
        if status == 429:
            self.limiter.hold(retry_after_seconds(headers, default=60))
        if status in _REFUSALS:
            raise CredentialsError(f"token endpoint: HTTP {status}; check client_id and client_secret", status)
        if status != 200:
            raise VendorError(f"token endpoint: HTTP {status}", status)
        self._take(body)

    def _count(self, outcome: str) -> None:
        TOKEN_REQUESTS.labels(self.vendor, outcome).inc()

    def _take(self, body: object) -> None:
        token = body.get("access_token") if isinstance(body, dict) else None
        lifetime = body.get("expires_in", 3600) if isinstance(body, dict) else None
        if not isinstance(token, str) or not token or not isinstance(lifetime, (int, float)):
            raise VendorError("token endpoint: the answer has no access_token")
        self._token = token
        self._issued = self.clock()
        self._renew_at = self._issued + lifetime - min(300.0, lifetime * 0.1)


@dataclass(frozen=True)
class BearerAuthorization:
    """Requests with the current access token."""

    tokens: TokenSource

    async def headers(self) -> dict[str, str]:
        """See `Authorization.headers`."""
        return {"Authorization": f"Bearer {await self.tokens.token()}"}

    def refused(self, headers: Mapping[str, str]) -> None:
        """See `Authorization.refused`."""
        self.tokens.refused(headers["Authorization"].removeprefix("Bearer "))
