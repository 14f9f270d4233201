"""What the log says of a vendor's connections: one line when many fall at once, and not one line for each.

`ConnectionLines` decides what to say and when (pure); `ConnectionLog` says it by the event loop's clock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from heapq import nlargest
from itertools import takewhile
from typing import Any

_log = logging.getLogger(__name__)

_TOGETHER_SECONDS = 1.0
"""Changes within this time are one line."""
_LEAST_SECONDS = 10.0
"""Least time between two lines of a kind, where there is one after the other."""
_STILL_AWAY_SECONDS = 300.0
_MOST_NAMES = 5
_MOST_FAILURES = 10


@dataclass(frozen=True)
class Line:
    """A line of the log."""

    level: int
    template: str
    arguments: tuple[object, ...]


@dataclass
class _Connection:
    name: str
    was_up: bool = False
    away_since: float | None = None
    """When it was lost, or the first attempt failed; None while nothing is wrong."""
    failed_at: float | None = None
    """When it was lost last, or an attempt failed."""
    reason: str = ""
    """Why it failed last, also when it is up again."""


class _Collected:
    """Connections that changed in the same way and are not in the log yet."""

    def __init__(self) -> None:
        self.waiting: dict[int, _Connection] = {}
        self.due_at: float | None = None
        self._said_at = float("-inf")

    def add(self, key: int, connection: _Connection, now: float) -> None:
        self.waiting[key] = connection
        if self.due_at is None:
            self.due_at = max(now + _TOGETHER_SECONDS, self._said_at + _LEAST_SECONDS)

    def take(self, now: float, *, early: bool = False) -> list[_Connection]:
        """All of them, if it is time; else none."""
        if self.due_at is None or (now < self.due_at and not early):
            return []
        taken, self.waiting = [*self.waiting.values()], {}
        self.due_at, self._said_at = None, now
        return taken


class ConnectionLines:
    """The lines about the connections of one vendor's channel. `now` is in seconds of any steady clock."""

    def __init__(self, vendor: str, channel: str) -> None:
        self._what = (vendor, channel)
        self._connections: dict[int, _Connection] = {}
        self._away: dict[int, _Connection] = {}
        """Those that are away, and of which it was not said yet that they are so for long; oldest first."""
        self._long_away: dict[int, _Connection] = {}
        self._lost = _Collected()
        self._up = _Collected()
        self._back = _Collected()

    def connected(self, key: int, name: str, now: float) -> list[Line]:
        """A connection is up."""
        connection = self._of(key, name)
        said = self._say_lost(now, early=True) if key in self._lost.waiting else []
        if connection.away_since is not None:
            self._back.add(key, connection, now)
        elif not connection.was_up:
            self._up.add(key, connection, now)
        connection.was_up, connection.away_since = True, None
        self._forget_absence(key)
        return said

    def failed(self, key: int, name: str, reason: str, now: float) -> list[Line]:
        """A connection was lost, or an attempt failed. Only the first of several failures is news."""
        connection = self._of(key, name)
        connection.failed_at, connection.reason = now, reason
        if connection.away_since is not None:
            return []
        said = self._say_up(now, early=True) if key in self._up.waiting or key in self._back.waiting else []
        connection.away_since = now
        self._away[key] = connection
        self._lost.add(key, connection, now)
        return said

    def closed(self, key: int, now: float) -> list[Line]:
        """A connection was closed on purpose."""
        said = self.flush(now)
        self._connections.pop(key, None)
        self._forget_absence(key)
        return said

    def flush(self, now: float) -> list[Line]:
        """What waits to be said, before its time."""
        return self._say_lost(now, early=True) + self._say_up(now, early=True)

    def due(self, now: float) -> list[Line]:
        """The lines whose time has come."""
        return self._say_lost(now) + self._say_up(now) + self._say_still_away(now)

    @property
    def next_at(self) -> float | None:
        """When `due` has something to say next; None: not before the next change."""
        oldest = next(iter(self._away.values()), None)
        times = [self._lost.due_at, self._up.due_at, self._back.due_at]
        if oldest is not None and oldest.away_since is not None:
            times.append(oldest.away_since + _STILL_AWAY_SECONDS)
        return min((at for at in times if at is not None), default=None)

    def summary(self, now: float) -> dict[str, Any]:
        """How many connections there are and how many are away, and those that failed last, newest first."""
        failed = [one for one in self._connections.values() if one.failed_at is not None]
        latest = nlargest(_MOST_FAILURES, failed, key=lambda one: (one.away_since is not None, one.failed_at))
        return {
            "vendor": self._what[0],
            "channel": self._what[1],
            "connections": len(self._connections),
            "away": len(self._away) + len(self._long_away),
            "failures": [
                {
                    "name": one.name,
                    "reason": one.reason,
                    "seconds_ago": round(now - (one.failed_at or now), 1),
                    "is_away": one.away_since is not None,
                }
                for one in latest
            ],
        }

    def _forget_absence(self, key: int) -> None:
        self._away.pop(key, None)
        self._long_away.pop(key, None)

    def _of(self, key: int, name: str) -> _Connection:
        connection = self._connections.setdefault(key, _Connection(name))
        connection.name = name
        return connection

    def _say_lost(self, now: float, *, early: bool = False) -> list[Line]:
        lost = self._lost.take(now, early=early)
        reasons = _reasons(lost)
        if len(lost) == 1:
            name = lost[0].name
            template = "%s %s: no connection to %s (%s); trying again"
            return [Line(logging.WARNING, template, (*self._what, name, reasons))]
        if lost:
            template = "%s %s: no connection to %d of %d (%s); trying again: %s"
            counts = (len(lost), len(self._connections))
            return [Line(logging.WARNING, template, (*self._what, *counts, reasons, _names(lost)))]
        return []

    def _say_up(self, now: float, *, early: bool = False) -> list[Line]:
        up, back = self._up.take(now, early=early), self._back.take(now, early=early)
        away = len(self._away) + len(self._long_away)
        lines = []
        if len(up) == 1:
            lines.append(Line(logging.INFO, "%s %s: connected to %s", (*self._what, up[0].name)))
        elif up:
            lines.append(Line(logging.INFO, "%s %s: connected to %d: %s", (*self._what, len(up), _names(up))))
        if len(back) == 1 and not away:
            lines.append(Line(logging.INFO, "%s %s: connected again to %s", (*self._what, back[0].name)))
        elif back:
            template = "%s %s: connected again to %d; %d still away: %s"
            lines.append(Line(logging.INFO, template, (*self._what, len(back), away, _names(back))))
        return lines

    def _say_still_away(self, now: float) -> list[Line]:
        since = now - _STILL_AWAY_SECONDS
        keys = [*takewhile(lambda key: (self._away[key].away_since or 0.0) <= since, self._away)]
        away = [self._away[key] for key in keys]
        for key in keys:
            self._long_away[key] = self._away.pop(key)
        if not away:
            return []
        minutes = _STILL_AWAY_SECONDS / 60
        template = "%s %s: still no connection to %d after %g min (%s): %s"
        return [Line(logging.WARNING, template, (*self._what, len(away), minutes, _reasons(away), _names(away)))]


class ConnectionLog:
    """Writes the lines about the connections of one vendor's channel. Without an event loop, at once."""

    def __init__(self, vendor: str, channel: str) -> None:
        self._lines = ConnectionLines(vendor, channel)
        self._timer: asyncio.TimerHandle | None = None

    def connected(self, key: int, name: str) -> None:
        """A connection is up. `key` identifies it; its name may change."""
        self._say(self._lines.connected(key, name, time.monotonic()))

    def failed(self, key: int, name: str, reason: str) -> None:
        """A connection was lost, or an attempt failed."""
        self._say(self._lines.failed(key, name, reason, time.monotonic()))

    def closed(self, key: int) -> None:
        """A connection was closed on purpose."""
        self._say(self._lines.closed(key, time.monotonic()))

    def summary(self) -> dict[str, Any]:
        """See `ConnectionLines.summary`."""
        return self._lines.summary(time.monotonic())

    def _say(self, lines: Iterable[Line]) -> None:
        _write(lines)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            _write(self._lines.flush(time.monotonic()))
            return
        if (at := self._lines.next_at) is not None:
            self._timer = loop.call_later(max(0.0, at - time.monotonic()), self._on_time)

    def _on_time(self) -> None:
        self._say(self._lines.due(time.monotonic()))


def _write(lines: Iterable[Line]) -> None:
    for line in lines:
        _log.log(line.level, line.template, *line.arguments)


_logs: list[ConnectionLog] = []


@cache
def connection_log(vendor: str, channel: str) -> ConnectionLog:
    """The log of a vendor's channel: one per process."""
    made = ConnectionLog(vendor, channel)
    _logs.append(made)
    return made


def connection_summaries() -> list[dict[str, Any]]:
    """The connections of this process, by vendor and channel, with those that failed last."""
    return [log.summary() for log in _logs]


def _names(connections: list[_Connection]) -> str:
    names = sorted(connection.name for connection in connections)
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _reasons(connections: list[_Connection]) -> str:
    counts = Counter(connection.reason for connection in connections).most_common()
    if len(counts) <= 1:
        return counts[0][0] if counts else ""
    return ", ".join(f"{reason}: {count}" for reason, count in counts[:_MOST_NAMES])
