"""Active hours and maintenance windows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.records import WEEKDAYS, ActiveHours
from schemas.timestamps import from_micros, to_micros
from streams.detect.schedules import FLEET, CompiledWindow, Schedule, next_allowed

OSLO = ZoneInfo("Europe/Oslo")


def hours(**fields: object) -> Schedule:
    return Schedule(ActiveHours.model_validate({"timezone": "Europe/Oslo", **fields}))


def local(text: str) -> int:
    return to_micros(datetime.fromisoformat(text).replace(tzinfo=OSLO).astimezone(UTC))


@pytest.mark.parametrize(
    ("at", "active"),
    [
        ("2026-03-16T07:59", "2026-03-16T08:00"),
        ("2026-03-16T08:00", "2026-03-16T08:00"),
        ("2026-03-16T15:59", "2026-03-16T15:59"),
        ("2026-03-16T16:00", "2026-03-17T08:00"),
        ("2026-03-20T16:00", "2026-03-23T08:00"),  # Friday to Monday
        ("2026-03-27T17:00", "2026-03-30T08:00"),  # over the change to summer time
    ],
)
def test_working_hours(at: str, active: str) -> None:
    office = hours(**{"from": "08:00", "to": "16:00", "days": list(WEEKDAYS[:5])})
    assert office.next_active(local(at)) == local(active)


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    friday = hours(**{"from": "22:00", "to": "06:00", "days": ["fri"]})
    assert friday.next_active(local("2026-03-21T05:59")) == local("2026-03-21T05:59"), "Saturday morning"
    assert friday.next_active(local("2026-03-21T06:00")) == local("2026-03-27T22:00")


TIMES = st.integers(to_micros(datetime(2026, 1, 1, tzinfo=UTC)), to_micros(datetime(2027, 1, 1, tzinfo=UTC)))
CLOCKS = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 30]))


@settings(max_examples=200, deadline=None)
@given(TIMES, CLOCKS, CLOCKS, st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True))
def test_the_next_active_moment_is_active_and_within_eight_days(at: int, start: str, end: str, days: list[str]) -> None:
    schedule = hours(**{"from": start, "to": end, "days": days})
    first = schedule.next_active(at)
    assert at <= first <= at + 8 * 86_400_000_000 + 3_600_000_000
    assert schedule.next_active(first) == first
    if first > at:
        assert f"{from_micros(first).astimezone(OSLO):%H:%M}" == start or not _exists(first, start)


def _exists(near: int, clock: str) -> bool:
    """Whether this time of day is on the clock of that day (summer time skips an hour)."""
    day = from_micros(near).astimezone(OSLO).date()
    naive = datetime.combine(day, datetime.strptime(clock, "%H:%M").time())
    return naive.replace(tzinfo=OSLO).astimezone(UTC).astimezone(OSLO).replace(tzinfo=None) == naive


def test_maintenance_and_hours_together() -> None:
    office = hours(**{"from": "08:00", "to": "16:00"})
    at = local("2026-03-16T09:00")
    lasting = timedelta(hours=8) // timedelta(microseconds=1)
    windows = (CompiledWindow(FLEET, at, at + lasting), CompiledWindow(FLEET, at, at + 1, frozenset({"other"})))
    assert next_allowed(office, windows, "r", at) == local("2026-03-17T08:00")
    assert next_allowed(None, windows, "r", at) == at + lasting
    assert next_allowed(None, windows, "r", at - 1) == at - 1
