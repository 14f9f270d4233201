"""A device that floods: what passes is bounded, what does not is counted. Pure."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.common.rate_limits import FloodGuard
from runtime.metrics import LEFT_OUT


@given(st.lists(st.floats(0, 0.5), max_size=300), st.floats(1, 50), st.integers(1, 20))
def test_no_time_holds_more_than_burst_and_rate(pauses: list[float], rate: float, burst: int) -> None:
    guard, now, passed = FloodGuard("karcher:a", rate, burst), 100.0, 0
    for pause in pauses:
        now += pause
        passed += guard.passes(now)
    assert passed <= burst + (now - 100.0) * rate + 1e-6
    assert passed + guard.left_out >= len(pauses)


def test_begin_and_end_are_logged_once_and_all_messages_left_out_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    counter = LEFT_OUT.labels("connect", "ogmen", "flood")
    before = counter._value.get()
    guard = FloodGuard("ogmen:a", rate=1, burst=5)
    assert [guard.passes(0.0) for _ in range(8)] == [True] * 5 + [False] * 3
    assert guard.passes(1.0) and not guard.passes(1.0)
    assert guard.passes(100.0)
    assert counter._value.get() - before == 4
    assert [r.getMessage() for r in caplog.records] == [
        "ogmen:a floods: messages beyond 1 per second are left out",
        "ogmen:a: the flood is over; 4 messages were left out",
    ]


def test_usual_rates_pass_by_default() -> None:
    guard = FloodGuard("ogmen:a")
    assert all(guard.passes(tick / 150) for tick in range(30_000))  # 50 Hz odometry and two transforms of as much
