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


class Schedule:
    """The active hours of one rule.

    An hour that daylight saving skips does not exist; one that it repeats counts twice.
    """

    def __init__(self, hours: ActiveHours) -> None:
        self._zone = ZoneInfo(hours.timezone)
        self._days = {WEEKDAYS.index(day) for day in hours.days}
        self._starts = _minutes(hours.starts)
        ends = _minutes(hours.ends)
        self._ends = ends if ends > self._starts else ends + 24 * 60

    def next_active(self, at: int) -> int:
        """The first moment in the active hours that is not before `at`."""
        today = datetime.fromtimestamp(at // 1_000_000, self._zone).date()
        for ahead in range(-1, _DAYS_AHEAD):
            day = today + timedelta(days=ahead)
            if day.weekday() in self._days and at < (ends := self._moment(day, self._ends)):
                active = max(at, self._moment(day, self._starts))
                if active < ends:
                    return active
        raise AssertionError("some day of every week is active")

    def _moment(self, day: date, minutes: int) -> int:
        local = datetime.combine(day + timedelta(days=minutes // 1440), time(minutes % 1440 // 60, minutes % 60))
        return to_micros(local.replace(tzinfo=self._zone).astimezone(UTC))


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


@dataclass(frozen=True, slots=True)
class CompiledWindow:
    """A maintenance window: a time in which no rule, or none of the named rules, triggers in a scope."""

    scope: Scope
    starts: int
    ends: int
    rules: frozenset[str] = frozenset()

    def silences(self, rule_id: str, at: int) -> bool:
        """Whether the window keeps this rule from triggering at this moment."""
        return self.starts <= at < self.ends and (not self.rules or rule_id in self.rules)


def silenced(given: Silence, starts: int, ends: int) -> CompiledWindow:
    """The window that silences what `given` names, between two moments in microseconds."""
    return CompiledWindow((given.scope_type, given.scope), starts, ends, frozenset(given.rules))


def window_of(record: MaintenanceWindow) -> CompiledWindow | None:
    """The window of a record: not before it was created, nor after it was cancelled. None: it silences nothing.

    The record alone says when it silences, so that a replay sees what the first run saw.
    """
    starts = max(to_micros(record.starts_at), to_micros(record.created_at))
    ends = to_micros(record.ends_at)
    if record.cancelled_at is not None:
        ends = min(ends, to_micros(record.cancelled_at))
    return silenced(record, starts, ends) if starts < ends else None


def next_allowed(schedule: Schedule | None, windows: Sequence[CompiledWindow], rule_id: str, at: int) -> int:
    """The first moment not before `at` at which the rule may trigger, given the windows of the device's scopes."""
    while True:  # each turn passes the end of a window
        allowed = at if schedule is None else schedule.next_active(at)
        allowed = max((window.ends for window in windows if window.silences(rule_id, allowed)), default=allowed)
        if allowed == at:
            return at
        at = allowed


def windows_of(windows: Iterable[CompiledWindow], scopes: Sequence[Scope]) -> tuple[CompiledWindow, ...]:
    """The windows that concern a device in these scopes."""
    return tuple(window for window in windows if window.scope == FLEET or window.scope in scopes)
