"""When a rule may trigger: active hours by a time zone, and maintenance windows (pure; times in microseconds)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.records import WEEKDAYS, ActiveHours, MaintenanceWindow, Silence
from schemas.timestamps import to_micros

Scope = tuple[str, str]
"""`("fleet", "")`, `("vendor", name)`, `("device", id)`, `("model", name)`, `("group", id)`, `("profile", id)`."""

FLEET: Scope = ("fleet", "")

NEVER = 1 << 62
"""Later than any time."""

_DAYS_AHEAD = 9  # a week, one for the hours that begin the day before, one for the time zone


class Hours:
    """The active hours of one rule. Hours that daylight saving skips do not exist; those it repeats count twice."""

    def __init__(self, hours: ActiveHours) -> None:
        self._zone = ZoneInfo(hours.timezone)
        self._days = {WEEKDAYS.index(day) for day in hours.days}
        self._starts = _minutes(hours.starts)
        ends = _minutes(hours.ends)
        self._ends = ends if ends > self._starts else ends + 24 * 60

    def next_active(self, at: int) -> int:
        """The first moment from `at` on that lies in the active hours: `at` itself, where it does."""
        today = datetime.fromtimestamp(at // 1_000_000, self._zone).date()
        for ahead in range(-1, _DAYS_AHEAD):
            day = today + timedelta(days=ahead)
            if day.weekday() in self._days and at < (ends := self._moment(day, self._ends)):
                found = max(at, self._moment(day, self._starts))
                if found < ends:
                    return found
        raise AssertionError("some day of every week is active")

    def _moment(self, day: date, minutes: int) -> int:
        local = datetime.combine(day + timedelta(days=minutes // 1440), time(minutes % 1440 // 60, minutes % 60))
        return to_micros(local.replace(tzinfo=self._zone).astimezone(UTC))


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


@dataclass(frozen=True, slots=True)
class Maintenance:
    """A time in which a scope triggers nothing; of the named rules only, if there are any."""

    scope: Scope
    starts: int
    ends: int
    rules: frozenset[str] = frozenset()

    def silences(self, rule_id: str, at: int) -> bool:
        """Whether this rule triggers nothing at this moment, in this scope."""
        return self.starts <= at < self.ends and (not self.rules or rule_id in self.rules)


def silenced(given: Silence, starts: int, ends: int) -> Maintenance:
    """The window in which what `given` says is in force."""
    return Maintenance((given.scope_type, given.scope), starts, ends, frozenset(given.rules))


def window_of(told: MaintenanceWindow) -> Maintenance | None:
    """When it silences: not before it was created, nor after it was cancelled. None: it never does.

    The record says all there is to know, so that a replay sees what the first run saw.
    """
    starts = max(to_micros(told.starts_at), to_micros(told.created_at))
    ends = to_micros(told.ends_at)
    if told.cancelled_at is not None:
        ends = min(ends, to_micros(told.cancelled_at))
    return silenced(told, starts, ends) if starts < ends else None


def next_allowed(hours: Hours | None, windows: Sequence[Maintenance], rule_id: str, at: int) -> int:
    """The first moment from `at` on at which the rule may trigger, given the windows of the device's scopes."""
    while True:  # each turn leaves a window behind for good
        found = at if hours is None else hours.next_active(at)
        found = max((window.ends for window in windows if window.silences(rule_id, found)), default=found)
        if found == at:
            return at
        at = found


def windows_of(windows: Iterable[Maintenance], scopes: Sequence[Scope]) -> tuple[Maintenance, ...]:
    """The windows that concern a device in these scopes."""
    return tuple(window for window in windows if window.scope == FLEET or window.scope in scopes)
