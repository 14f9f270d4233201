"""How a ClimaSense device calls its server."""

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import aiohttp

KEEP_STATUSES = frozenset({401, 403, 408, 429})
"""4xx statuses that do not concern the body: it is kept, and sent once more later."""

LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Answer:
    """Status (0: the server is unreachable), ``Retry-After`` in seconds, and the body."""

    status: int
    retry_after: float | None = None
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether it was 2xx."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether sending the same body once more makes no sense."""
        return self.ok or (400 <= self.status < 500 and self.status not in KEEP_STATUSES)

    def json(self) -> dict[str, Any]:
        """The body as an object; empty where it is none."""
        try:
            content = json.loads(self.body)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}


@dataclass(frozen=True)
class Client:
    """Requests to one server."""

    session: aiohttp.ClientSession
    url: str
    retry_seconds: float

    async def ask(self, method: str, path: str, key: str, body: bytes | None = None) -> Answer:
        """One request, whatever comes of it."""
        try:
            async with self.session.request(method, self._at(path), data=body, headers=_headers(key)) as response:
                return Answer(response.status, _seconds(response.headers.get("Retry-After")), await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(0)

    async def deliver(self, path: str, key: str, body: bytes) -> Answer:
        """Post the same body until the server accepts or finally refuses it; the final answer."""
        wait = self.retry_seconds
        while True:
            answer = await self.ask("POST", path, key, body)
            if answer.final:
                return answer
            await asyncio.sleep(wait if answer.retry_after is None else answer.retry_after)
            wait = min(wait * 2, LONGEST_WAIT)

    async def stream(self, path: str, key: str, start: int) -> AsyncGenerator[bytes, None]:
        """A download from byte ``start`` on, piece by piece; ends early where the connection does.

        Raises PermissionError where the server will not give it (now): the text is the status.
        """
        headers = _headers(key) | ({"Range": f"bytes={start}-"} if start else {})
        try:
            async with self.session.get(self._at(path), headers=headers) as response:
                if response.status != (206 if start else 200):
                    raise PermissionError(str(response.status))
                async for piece in response.content.iter_chunked(16 * 1024):
                    yield piece
        except (aiohttp.ClientError, TimeoutError, ConnectionError):
            return

    def _at(self, path: str) -> str:
        return self.url.rstrip("/") + path


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None
