"""Rate limits: the vendors' limits on our requests (shared by all processes of a host), and our limits on senders."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runtime.locks import FileLock
from runtime.metrics import LEFT_OUT
from schemas.device import quote_id, split_device_id

_log = logging.getLogger(__name__)


def reserve(times: Sequence[float], now: float, limit: int, window: float) -> tuple[float, list[float]]:
    """The time of the next request, so that no `window` seconds contain more than `limit`; and the new reservations.

    Pure. `times` are earlier reservations, which may lie in the future. After the clock was set back, requests wait no
    longer than the reservations themselves justify.
    """
    horizon = now + window * (1 + len(times) / limit)
    kept = sorted(t for t in times if now - window < t <= horizon)
    at = now if len(kept) < limit else max(now, kept[-limit] + window)
    return at, [*kept, at]


class SharedLimiter:
    """At most `limit` requests in `window` seconds by all processes that share `path`, over restarts, too.

    A reservation is written, under a file lock, before the request is made. A crash can waste a reservation, but never
    exceed the limit.
    """

    def __init__(
        self,
        path: Path,
        limit: int,
        window: float,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._path = path
        self._limit = limit
        self._window = window
        self._clock = clock
        self._sleep = sleep

    async def acquire(self) -> float:
        """Reserve the next free time and wait for it; returns the seconds waited."""
        now = self._clock()
        at = self._reserve(now)
        await self._sleep(max(0.0, at - now))
        return max(0.0, at - now)

    def hold(self, seconds: float) -> None:
        """Let no request through for `seconds`: the vendor said that there were too many."""
        until = self._clock() + min(seconds, self._window * 10)
        self._update(lambda times: [*times, *[until - self._window] * self._limit])

    def _reserve(self, now: float) -> float:
        result = now

        def book(times: list[float]) -> list[float]:
            nonlocal result
            result, kept = reserve(times, now, self._limit, self._window)
            return kept

        self._update(book)
        return result

    def _update(self, change: Callable[[list[float]], list[float]]) -> None:
        with FileLock(self._path) as lock:
            times = change(_times(lock.read_text()))
            lock.write_text(json.dumps([round(t, 3) for t in times]))


def shared_limiter(state_dir: Path, name: str, limit: int, window: float) -> SharedLimiter:
    """The limiter of this name in the state folder."""
    return SharedLimiter(state_dir / f"limit-{quote_id(name)}.json", limit, window)


def _times(text: str) -> list[float]:
    try:
        return [float(t) for t in json.loads(text)]
    except (ValueError, TypeError):  # empty, or cut off by a crash of the machine
        return []


@dataclass
class RateWindow:
    """At most `limit` requests of a key in any `window` seconds. Pure: the clock is an argument.

    Keys that have been silent for a window are forgotten, so that strangers cannot fill the memory.
    """

    limit: int
    window: float
    _seen: dict[str, list[float]] = field(default_factory=dict)
    _swept: float = 0.0

    def check(self, key: str, now: float) -> float:
        """Count a request within the limit and return 0; otherwise return the seconds until one would be within it."""
        if now - self._swept > self.window:
            self._swept = now
            self._seen = {k: times for k, times in self._seen.items() if times[-1] > now - self.window}
        times = [t for t in self._seen.get(key, ()) if t > now - self.window]
        if len(times) >= self.limit:
            return times[-self.limit] + self.window - now
        self._seen[key] = [*times, now]
        return 0.0


@dataclass
class FloodGuard:
    """Lets `rate` messages of a device per second through, after a burst of `burst`; leaves out and counts the rest.

    Messages left out are counted in `fleetlake_left_out_total` with reason `flood`. One log line reports the beginning,
    and one the end, a minute after the last message left out. This does not slow down the sender: a WebSocket has no
    way to tell it.
    """

    device: str
    rate: float = 200.0
    burst: float = 2000.0
    left_out: int = field(default=0, init=False)
    """Messages left out since the flood began."""
    _tokens: float = field(default=-1.0, init=False)
    _last: float = field(default=0.0, init=False)
    _flooded_at: float = field(default=0.0, init=False)

    def passes(self, now: float) -> bool:
        """Whether a message received at `now` (seconds of a monotonic clock) may pass."""
        if self._tokens < 0:
            self._tokens, self._last = self.burst, now
        self._tokens = min(self.burst, self._tokens + (now - self._last) * self.rate)
        self._last = now
        if self._tokens >= 1:
            self._tokens -= 1
            self._log_end(now)
            return True
        self._leave_out(now)
        return False

    def _leave_out(self, now: float) -> None:
        if not self.left_out:
            _log.warning("%s floods: messages beyond %g per second are left out", self.device, self.rate)
        self.left_out += 1
        self._flooded_at = now
        LEFT_OUT.labels("connect", split_device_id(self.device)[0], "flood").inc()

    def _log_end(self, now: float) -> None:
        if self.left_out and now - self._flooded_at > 60:
            _log.info("%s: the flood is over; %d messages were left out", self.device, self.left_out)
            self.left_out = 0
