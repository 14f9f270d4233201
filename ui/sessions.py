"""Who is signed in. Sessions are kept in memory: a restart of the page asks people to sign in once more."""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from schemas.words import KeyRole

COOKIE = "fleetlake_session"
_MOST = 10_000
_VERIFY_SECONDS = 60.0


@dataclass(frozen=True)
class Viewer:
    """Who looks at the page, and what they may do. The name is the actor of what they do."""

    name: str
    role: KeyRole


FindKey = Callable[[str], Awaitable[Viewer | None]]
"""Whose key this is; None if it is not in force."""


@dataclass
class _Session:
    key: str
    viewer: Viewer
    ends: float
    verified: float


@dataclass
class Sessions:
    """The sessions by their secret. A key that is revoked ends its sessions within a minute."""

    find: FindKey
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _sessions: dict[str, _Session] = field(default_factory=dict)

    async def begin(self, key: str) -> tuple[str, Viewer] | None:
        """Sign in with a key: the secret of a new session, and who it is; None if the key is not in force."""
        viewer = await self.find(key)
        if viewer is None:
            return None
        now = self.clock()
        self._sessions = {secret: one for secret, one in self._sessions.items() if one.ends > now}
        while len(self._sessions) >= _MOST:
            del self._sessions[next(iter(self._sessions))]
        secret = secrets.token_urlsafe(32)
        self._sessions[secret] = _Session(key, viewer, now + self.seconds, now)
        return secret, viewer

    async def viewer(self, secret: str) -> Viewer | None:
        """Who has this session; None if it has ended."""
        session, now = self._sessions.get(secret), self.clock()
        if session is None or session.ends <= now:
            return None
        if now - session.verified >= _VERIFY_SECONDS:
            viewer = await self.find(session.key)
            if viewer is None:
                self.end(secret)
                return None
            session.viewer, session.verified = viewer, now
        return session.viewer

    def end(self, secret: str) -> None:
        """Sign out."""
        self._sessions.pop(secret, None)
