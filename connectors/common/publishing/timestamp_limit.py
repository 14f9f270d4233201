"""Records whose time Kafka refuses, because this machine's clock is ahead of the broker's (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable

_NEARLY_MS = 30 * 60 * 1000
"""Half of the hour that Kafka allows by default: what is right is further below anything refused."""

NO_TIMESTAMP = -1
"""A record without a time of its own. Kafka takes it always, and keeps it by the time at which its file was written."""


class TimestampLimit:
    """Knows which times the broker would refuse, from those that it has refused.

    The broker refuses what is too far ahead of its own clock, which goes on. So a refusal says the same of every time
    that is at least as far ahead of a monotonic clock, or nearly so; what is not so far ahead is tried.
    """

    def __init__(self) -> None:
        self._refused_ahead = math.inf

    def refused(self, timestamps_ms: Iterable[int], monotonic_seconds: float) -> bool:
        """The broker has refused a batch with these times; False where none of them was written, so that another
        attempt would be no different.
        """
        tried = [at for at in timestamps_ms if self.allowed(at, monotonic_seconds) != NO_TIMESTAMP]
        if not tried:
            return False
        self._refused_ahead = min(self._refused_ahead, max(tried) - _NEARLY_MS - monotonic_seconds * 1000)
        return True

    def allowed(self, timestamp_ms: int, monotonic_seconds: float) -> int:
        """The time to write: the one given, or `NO_TIMESTAMP` where the broker would refuse it."""
        ahead = timestamp_ms - monotonic_seconds * 1000
        return NO_TIMESTAMP if ahead >= self._refused_ahead else timestamp_ms
