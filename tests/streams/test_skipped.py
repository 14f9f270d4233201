"""Counts of what changed no state: each is added to its own metric once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.metrics import DUPLICATES, LEFT_OUT
from streams.detect.skipped import SkippedCounts

COUNTS = st.integers(0, 5)
VENDOR = "skipped-test"


def reported() -> tuple[float, ...]:
    """What the metrics say: replayed, late, suspect, void."""
    left_out = [LEFT_OUT.labels("detect", VENDOR, reason) for reason in ("late", "suspect_time", "void_action")]
    return tuple(each._value.get() for each in [DUPLICATES.labels("detect", VENDOR), *left_out])


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_what_is_reported_is_what_was_counted_and_only_once(replayed: int, late: int, suspect: int, void: int) -> None:
    before = reported()
    counts = SkippedCounts(late=late, replayed=replayed, suspect=suspect, void=void)
    counts.report(VENDOR)
    counts.report(VENDOR)
    after = reported()
    assert [now - then for now, then in zip(after, before, strict=True)] == [replayed, late, suspect, void]
    assert counts == SkippedCounts()
