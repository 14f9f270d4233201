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


OCTOBER = datetime(2026, 10, 25, tzinfo=UTC)
MARCH = datetime(2026, 3, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "start", "end", "active"),
    [
        # 29 March: 02:00 to 03:00 is skipped at 01:00 UTC.
        (MARCH, "02:30", "03:30", ["01:00-01:30"]),  # 03:00 to 03:30 by the clock
        (MARCH, "01:30", "02:30", ["00:30-01:00"]),  # until the clock jumps
        (MARCH, "02:10", "02:50", []),
        (MARCH, "01:30", "04:00", ["00:30-02:00"]),
        # 25 October: 02:00 to 03:00 comes twice, from 00:00 and from 01:00 UTC.
        (OCTOBER, "02:30", "02:45", ["00:30-00:45", "01:30-01:45"]),
        (OCTOBER, "01:30", "02:30", ["23:30-00:30", "01:00-01:30"]),
        (OCTOBER, "02:30", "03:30", ["00:30-01:00", "01:30-02:30"]),
        (OCTOBER, "02:00", "03:00", ["00:00-02:00"]),
    ],
)
def test_active_hours_go_by_the_local_clock_where_it_changes(
    day: datetime, start: str, end: str, active: list[str]
) -> None:
    """The ranges are in UTC, found by asking for each minute of the night."""
    schedule = hours(**{"from": start, "to": end})
    first = to_micros(day) - 3_600_000_000
    minutes = [first + n * 60_000_000 for n in range(5 * 60)]
    active_minutes = [at for at in minutes if schedule.next_active(at) == at]
    edges = [at for at in active_minutes if at - 60_000_000 not in active_minutes]
    ends = [at + 60_000_000 for at in active_minutes if at + 60_000_000 not in active_minutes]
    assert [f"{from_micros(a):%H:%M}-{from_micros(b):%H:%M}" for a, b in zip(edges, ends, strict=True)] == active
    for at in minutes:
        after = schedule.next_active(at)
        assert after in active_minutes or after > minutes[-1]
        assert all(after <= later for later in active_minutes if later >= at), "the first one after it"


def test_hours_that_are_skipped_on_their_only_day_come_a_week_later() -> None:
    sunday = hours(**{"from": "02:10", "to": "02:50", "days": ["sun"]})
    assert sunday.next_active(local("2026-03-22T02:50")) == local("2026-04-05T02:10")


TIMES = st.integers(to_micros(datetime(2026, 1, 1, tzinfo=UTC)), to_micros(datetime(2027, 1, 1, tzinfo=UTC)))
CLOCKS = st.builds("{:02d}:{:02d}".format, st.integers(0, 23), st.sampled_from([0, 30]))


@settings(max_examples=200, deadline=None)
@given(TIMES, CLOCKS, CLOCKS, st.lists(st.sampled_from(WEEKDAYS), min_size=1, unique=True))
def test_the_next_active_moment_is_active_and_within_fifteen_days(
    at: int, start: str, end: str, days: list[str]
) -> None:
    schedule = hours(**{"from": start, "to": end, "days": days})
    first = schedule.next_active(at)
    assert at <= first <= at + 15 * 86_400_000_000 + 3_600_000_000
    assert schedule.next_active(first) == first
    if first > at:
        assert f"{from_micros(first).astimezone(OSLO):%H:%M}" == start or _clock_changes(first)


def _clock_changes(at: int) -> bool:
    """Whether the clock changes at this moment."""
    before, after = (from_micros(each).astimezone(OSLO).utcoffset() for each in (at - 1_000_000, at))
    return before != after


def test_maintenance_and_hours_together() -> None:
    office = hours(**{"from": "08:00", "to": "16:00"})
    at = local("2026-03-16T09:00")
    lasting = timedelta(hours=8) // timedelta(microseconds=1)
    windows = (CompiledWindow(FLEET, at, at + lasting), CompiledWindow(FLEET, at, at + 1, frozenset({"other"})))
    assert next_allowed(office, windows, "r", at) == local("2026-03-17T08:00")
    assert next_allowed(None, windows, "r", at) == at + lasting
    assert next_allowed(None, windows, "r", at - 1) == at - 1
