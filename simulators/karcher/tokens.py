"""Kärcher's token endpoint: OAuth2 client credentials."""

import base64
import hashlib

from aiohttp import web

from simulators.karcher.answers import problem
from simulators.karcher.misbehaviour import Misbehaviour
from simulators.net import Clock, RateLimit
from simulators.settings import SimulatorSettings

TOKEN_WINDOW = 600.0
"""Seconds over which the documented limit of token requests counts."""


class TokenServer:
    """Issues access tokens, and knows which are valid."""

    def __init__(self, settings: SimulatorSettings, clock: Clock, misbehaviour: Misbehaviour) -> None:
        self._seed, self._settings = settings.seed, settings.karcher
        self._clock = clock
        self._misbehaviour = misbehaviour
        self._expires: dict[str, float] = {}
        self.limit = RateLimit(settings.karcher.token_limit, TOKEN_WINDOW)

    async def answer(self, request: web.Request) -> web.Response:
        """Answer ``POST /oauth2/token``."""
        return self._misbehaviour.answer("token") or await self._token(request)

    @property
    def issued(self) -> list[str]:
        """All tokens issued so far, expired ones too."""
        return list(self._expires)

    def accepts(self, token: str) -> bool:
        """Whether the token is valid now."""
        return self._expires.get(token, 0.0) > self._clock() and not self._misbehaviour.refuse_tokens

    def expire_all(self) -> None:
        """Refuse every token issued so far from now on."""
        self._expires = dict.fromkeys(self._expires, 0.0)

    async def _token(self, request: web.Request) -> web.Response:
        settings = self._settings
        form = await request.post()
        wait = self.limit.wait(str(form.get("client_id")), self._clock())
        if wait:
            return problem(429, "too_many_requests", wait)
        if request.query or form.get("grant_type") != "client_credentials":
            return problem(400, "invalid_request")
        secret = settings.client_secret.get_secret_value()
        if (form.get("client_id"), form.get("client_secret")) != (settings.client_id, secret):
            return problem(401, "invalid_client")
        token = self._issue()
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": settings.token_seconds})

    def _issue(self) -> str:
        digest = hashlib.sha256(f"{self._seed}/{len(self._expires)}/{self._clock()}".encode()).digest()
        token = "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(digest).decode().rstrip("=")
        self._expires[token] = self._clock() + self._settings.token_seconds
        return token
