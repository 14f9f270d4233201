"""Waiting times between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.backoff import Backoff, backoff_seconds


@pytest.mark.parametrize(("failures", "whole"), [(1, 0.5), (2, 1.0), (3, 2.0), (7, 32.0), (8, 60.0), (10_000, 60.0)])
def test_the_time_doubles_up_to_the_cap_and_half_of_it_is_jitter(failures: int, whole: float) -> None:
    assert backoff_seconds(failures, 0.5, 60.0, 0.0) == whole / 2
    assert backoff_seconds(failures, 0.5, 60.0, 0.5) == whole * 0.75


@given(failures=st.integers(1, 100_000), random=st.floats(0, 1, exclude_max=True))
def test_it_is_between_half_and_the_whole(failures: int, random: float) -> None:
    assert 1.0 <= backoff_seconds(failures, 2.0, 2.0, random) <= 2.0


def test_a_very_high_cap_is_reached_slowly_and_no_float_overflows() -> None:
    assert backoff_seconds(30, 1.0, 1e300, 0.0) == 2.0**28
    assert backoff_seconds(31, 1.0, 1e300, 0.0) == backoff_seconds(5_000, 1.0, 1e300, 0.0) == 2.0**29


def test_a_success_starts_over() -> None:
    backoff = Backoff()
    assert [backoff.next(0.0) for _ in range(3)] == [0.25, 0.5, 1.0]
    assert backoff.failures == 3
    backoff.reset()
    assert (backoff.failures, backoff.next(0.0)) == (0, 0.25)
    assert Backoff().cap == 60.0
