"""When a supervised process must be restarted although it runs: `/livez` does not answer, or says that it is broken."""

from __future__ import annotations

import errno
from dataclasses import dataclass

import aiohttp

_OUR_OWN_SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
"""Errors that say something of the process that asks, and nothing of the process that is asked."""


@dataclass(frozen=True, slots=True)
class LivenessLimits:
    """How often a process is asked, and after how many failures in a row it is restarted.

    Failures are counted instead of seconds, so that a supervisor that was itself frozen for an hour restarts nothing.
    `start_failures` applies until the process has answered once, because a cold start on a busy machine takes long.
    """

    interval_seconds: float = 5.0
    timeout_seconds: float = 5.0
    failures: int = 6
    start_failures: int = 36


DEFAULT_LIMITS = LivenessLimits()


class LivenessRecord:
    """Counts the failures of one process. Pure."""

    def __init__(self, limits: LivenessLimits) -> None:
        self._limits = limits
        self._has_answered = False
        self._failures = 0

    def observe(self, problem: str | None) -> bool:
        """Take the outcome of a probe (None: it is live); True if the process must be restarted."""
        if problem is None:
            self._has_answered, self._failures = True, 0
            return False
        self._failures += 1
        return self._failures >= (self._limits.failures if self._has_answered else self._limits.start_failures)


async def probe_liveness(base: str, timeout_seconds: float) -> str | None:
    """Ask `/livez` of the server at this URL; returns what is wrong, or None. A shortage of our own is no answer."""
    timeout = aiohttp.ClientTimeout(total=timeout_seconds)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{base}/livez") as answer:
            return None if answer.status == 200 else (await answer.text()).strip() or f"status {answer.status}"
    except TimeoutError:
        return f"/livez does not answer within {timeout_seconds:.0f} s"
    except (aiohttp.ClientError, OSError) as error:
        if getattr(error, "errno", None) in _OUR_OWN_SHORTAGE:
            return None
        return f"/livez does not answer: {error or type(error).__name__}"
