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

_SECOND = 1_000_000
_DAY_MINUTES = 24 * 60
_DAYS_AHEAD = 16  # two weeks, since hours of one day a week may be skipped, one for the day before, one for the zone


class Schedule:
    """The active hours of one rule, by the local clock of their zone.

    An hour that daylight saving skips does not exist; one that it repeats counts twice.
    """

    def __init__(self, hours: ActiveHours) -> None:
        self._zone = ZoneInfo(hours.timezone)
        self._days = {WEEKDAYS.index(day) for day in hours.days}
        self._starts = _minutes(hours.starts)
        ends = _minutes(hours.ends)
        self._ends = ends if ends > self._starts else ends + _DAY_MINUTES

    def next_active(self, at: int) -> int:
        """The first moment in the active hours that is not before `at`."""
        if self._is_active(at):
            return at
        today = self._local(at).date()
        for ahead in range(-1, _DAYS_AHEAD):
            for moment in self._possible_starts(today + timedelta(days=ahead)):
                if moment > at and self._is_active(moment):
                    return moment
        raise AssertionError("some day of every two weeks is active")

    def _is_active(self, at: int) -> bool:
        """Whether the local clock shows a time in the active hours of that day, or in those of the day before."""
        local = self._local(at)
        minutes = local.hour * 60 + local.minute
        day = local.weekday()
        return (day in self._days and self._starts <= minutes < self._ends) or (
            (day - 1) % 7 in self._days and minutes + _DAY_MINUTES < self._ends
        )

    def _possible_starts(self, day: date) -> list[int]:
        """The moments of a day at which active hours may begin: both passes of the time, and a change of the clock."""
        clock = time(self._starts // 60, self._starts % 60)
        starts = [self._moment(day, clock.replace(fold=fold)) for fold in (0, 1)]
        midnight, next_midnight = self._moment(day, time()), self._moment(day + timedelta(days=1), time())
        if self._offset(midnight) != self._offset(next_midnight):
            starts.append(self._clock_change(midnight, next_midnight))
        return sorted(starts)

    def _clock_change(self, before: int, after: int) -> int:
        """The first moment with the offset of `after`, to the second."""
        while after - before > _SECOND:
            middle = (before + after) // 2 // _SECOND * _SECOND
            if self._offset(middle) == self._offset(before):
                before = middle
            else:
                after = middle
        return after

    def _offset(self, at: int) -> timedelta | None:
        return self._local(at).utcoffset()

    def _local(self, at: int) -> datetime:
        return datetime.fromtimestamp(at // _SECOND, self._zone)

    def _moment(self, day: date, clock: time) -> int:
        return to_micros(datetime.combine(day, clock, self._zone).astimezone(UTC))


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
