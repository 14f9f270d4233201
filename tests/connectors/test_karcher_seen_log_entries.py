"""Which entries of lists were published already: pure."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from connectors.karcher.seen_log_entries import OVERLAP, SeenLogEntries

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DEPTH = timedelta(days=7)


def restarted(seen: SeenLogEntries) -> SeenLogEntries:
    return SeenLogEntries.load(json.loads(json.dumps(seen.dump())), DEPTH)


def test_the_first_reading_goes_back_all_the_way_and_the_next_a_little() -> None:
    seen = SeenLogEntries.load({}, DEPTH)
    assert seen.since(NOW) == NOW - DEPTH
    assert timedelta(hours=6) == OVERLAP, "as docs/vendors/karcher.md says"
    seen.finish(NOW)
    later = NOW + timedelta(minutes=5)
    assert restarted(seen).since(later) == NOW - OVERLAP
    assert restarted(seen).since(NOW + timedelta(days=1)) == NOW - DEPTH  # once a day, for what was filed late


def test_content_that_cannot_be_read_is_as_none() -> None:
    for content in ({"told": 1}, {"until": "x", "deep_at": "y", "told": {}}, {"told": {"a": "b"}}):
        assert SeenLogEntries.load(content, DEPTH).since(NOW) == NOW - DEPTH


@given(
    st.lists(  # minutes after which an entry happens, and is filed later
        st.tuples(st.integers(0, 20 * 1440), st.integers(0, 5 * 1440)), min_size=1, max_size=30
    ),
    st.lists(st.integers(1, 3 * 1440), min_size=1, max_size=30),
)
def test_every_entry_is_published_once_whenever_it_is_filed_and_however_long_we_are_away(
    entries: list[tuple[int, int]], pauses: list[int]
) -> None:
    """Pauses up to three days, each a restart; entries filed up to five days late, which is within the depth."""
    seen, published, minute = SeenLogEntries(DEPTH), [], 0
    for pause in [*pauses, 40 * 1440, 1440, 1441]:
        minute += pause
        now = NOW + timedelta(minutes=minute)
        since = seen.since(now)
        for number, (happened, late) in enumerate(entries):
            at = NOW + timedelta(minutes=happened)
            if happened + late <= minute and since <= at <= now and seen.is_new(str(number)):
                published.append(number)
                seen.add(str(number), max(at, now))
        seen.finish(now)
        seen = restarted(seen)
    assert sorted(published) == list(range(len(entries)))


def test_an_entry_is_forgotten_when_no_reading_can_return_it() -> None:
    seen = SeenLogEntries(DEPTH)
    seen.add("old", NOW)
    seen.finish(NOW)
    seen.finish(NOW + DEPTH + timedelta(days=2))
    assert seen.seen == {}


def test_the_state_file_keeps_the_names_of_earlier_versions() -> None:
    content = {
        "until": "2026-03-01T00:00:00Z",
        "deep_at": "2026-02-28T12:00:00Z",
        "told": {"a": "2026-02-28T00:00:00Z"},
    }
    seen = SeenLogEntries.load(content, DEPTH)
    assert not seen.is_new("a") and seen.is_new("b") and seen.since(NOW + timedelta(minutes=1)) == NOW - OVERLAP
    assert seen.dump() == content
