"""What lists have told already: pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.karcher.history import OVERLAP, History

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEPTH = timedelta(days=7)


def restarted(history: History) -> History:
    return History.load(json.loads(json.dumps(history.dump())), DEPTH)


def test_the_first_reading_goes_back_all_the_way_and_the_next_a_little() -> None:
    history = History.load({}, DEPTH)
    assert history.since(NOW) == NOW - DEPTH
    history.read(NOW)
    later = NOW + timedelta(minutes=5)
    assert restarted(history).since(later) == NOW - OVERLAP
    assert restarted(history).since(NOW + timedelta(days=1)) == NOW - DEPTH  # once a day, for what was filed late


def test_what_cannot_be_read_is_as_nothing() -> None:
    for content in ({"told": 1}, {"until": "x", "deep_at": "y", "told": {}}, {"told": {"a": "b"}}):
        assert History.load(content, DEPTH).since(NOW) == NOW - DEPTH


@given(
    st.lists(  # minutes after which an entry happens, and is filed later
        st.tuples(st.integers(0, 20 * 1440), st.integers(0, 5 * 1440)), min_size=1, max_size=30
    ),
    st.lists(st.integers(1, 3 * 1440), min_size=1, max_size=30),
)
def test_every_entry_is_told_once_whenever_it_is_filed_and_we_are_away(
    entries: list[tuple[int, int]], pauses: list[int]
) -> None:
    """Pauses up to three days, each a restart; entries filed up to five days late, which is within the depth."""
    history, told, minute = History(DEPTH), [], 0
    for pause in [*pauses, 40 * 1440, 1440, 1441]:
        minute += pause
        now = NOW + timedelta(minutes=minute)
        since = history.since(now)
        for number, (happened, late) in enumerate(entries):
            at = NOW + timedelta(minutes=happened)
            if happened + late <= minute and since <= at <= now and history.is_new(str(number)):
                told.append(number)
                history.tell(str(number), max(at, now))
        history.read(now)
        history = restarted(history)
    assert sorted(told) == list(range(len(entries)))


def test_what_was_told_is_forgotten_when_it_cannot_come_again() -> None:
    history = History(DEPTH)
    history.tell("old", NOW)
    history.read(NOW)
    history.read(NOW + DEPTH + timedelta(days=2))
    assert history.told == {}
