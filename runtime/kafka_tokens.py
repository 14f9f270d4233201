"""Tokens for signing in to Kafka by OAUTHBEARER: from an OAuth 2 server, or signed for Amazon MSK.

A provider is asked at every new connection, from any event loop, and remembers its token until shortly before it
expires.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import aiohttp
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaError
from pydantic import SecretStr

from runtime.errors import StageError

_MARGIN_SECONDS = 30.0
"""So long before its end a token is no longer used; at most half of its life."""
_ANSWER_SECONDS = 10.0
_DEFAULT_LIFE = 300.0


class TokenError(KafkaError):  # type: ignore[misc]  # aiokafka is untyped
    """No token could be had. The text never holds a secret."""


@dataclass
class _Remembered:
    token: str = field(repr=False)
    until: float


class TokenProvider(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is untyped
    """Remembers a token. A subclass says where new ones come from. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._remembered: _Remembered | None = None

    async def token(self) -> str:
        """A token that is good for a while. TokenError where none can be had."""
        remembered = self._remembered
        if remembered is None or self._clock() >= remembered.until:
            token, life = await self.fetch()
            until = self._clock() + life - min(_MARGIN_SECONDS, life / 2)
            remembered = self._remembered = _Remembered(token, until)
        return remembered.token

    async def fetch(self) -> tuple[str, float]:
        """A new token, and its life in seconds. TokenError where none can be had."""
        raise NotImplementedError


@dataclass(frozen=True)
class OAuthClient:
    """Who asks an OAuth 2 server for tokens, and for what (RFC 6749, 4.4: client credentials)."""

    url: str
    client_id: str
    secret: SecretStr
    scope: str = ""


class ClientCredentials(TokenProvider):
    """Tokens of an OAuth 2 server."""

    def __init__(self, client: OAuthClient, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock)
        self._client = client

    async def fetch(self) -> tuple[str, float]:
        """Ask the server."""
        client = self._client
        form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
        auth = aiohttp.encode_basic_auth(client.client_id, client.secret.get_secret_value())
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
                session.post(client.url, data=form, headers={"Authorization": auth}, allow_redirects=False) as answer,
            ):
                if answer.status != 200:
                    raise TokenError(f"the token server {client.url} answers {answer.status}")
                body = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise TokenError(f"the token server {client.url}: {error or type(error).__name__}") from error
        if not isinstance(body, dict) or not isinstance(body.get("access_token"), str):
            raise TokenError(f"the token server {client.url} answers without access_token")
        life = body.get("expires_in")
        return body["access_token"], float(life) if isinstance(life, int | float) and life > 0 else _DEFAULT_LIFE


class MskTokens(TokenProvider):
    """Tokens for Amazon MSK with IAM, signed here with the credentials that AWS's libraries find."""

    def __init__(self, region: str, clock: Callable[[], float] = time.monotonic) -> None:
        """StageError where the extra `msk` is not installed."""
        super().__init__(clock)
        try:
            from aws_msk_iam_sasl_signer import MSKAuthTokenProvider
        except ImportError as error:
            raise StageError(
                "[kafka] sasl_mechanism: AWS_MSK_IAM needs aws-msk-iam-sasl-signer-python (the extra `msk`)"
            ) from error
        self._region = region
        self._sign = MSKAuthTokenProvider.generate_auth_token

    async def fetch(self) -> tuple[str, float]:
        """Sign a token. AWS's libraries may ask the machine's metadata service for credentials, so not in the loop."""
        try:
            token, expires_ms = await asyncio.to_thread(self._sign, self._region)
        except Exception as error:  # whatever AWS's libraries raise
            raise TokenError(f"no credentials of AWS: {error}") from error
        return token, max(1.0, expires_ms / 1000 - time.time())
