"""What the log says of connections: few lines, and the ones that somebody reads at night."""

from __future__ import annotations

import logging

import pytest

from connectors.common.connection_log import ConnectionLines, Line
from connectors.common.connection_state import ConnectionState
from tests.support.samples import NOON
from tests.support.waiting import eventually

ROBOTS = [f"ogmen:r{number:02}" for number in range(22)]


def texts(lines: list[Line]) -> list[str]:
    return [line.template % line.arguments for line in lines]


def fleet(now: float = 0.0) -> ConnectionLines:
    """22 connections that are up, and of which that was said."""
    lines = ConnectionLines("ogmen", "websocket")
    for number, name in enumerate(ROBOTS):
        assert lines.connected(number, name, now) == []
    said = texts(lines.due(now + 1))
    assert said == [f"ogmen websocket: connected to 22: {', '.join(ROBOTS[:5])} and 17 more"]
    return lines


def test_a_vendor_that_falls_is_one_line_with_the_number_of_devices() -> None:
    lines = fleet()
    for number, name in enumerate(ROBOTS):
        reason = "HTTP 503" if number == 3 else "closed, code 1006"
        assert lines.failed(number, name, reason, 100 + number / 100) == []
    assert lines.next_at == 101 and lines.due(100.9) == []
    assert texts(lines.due(101)) == [
        "ogmen websocket: no connection to 22 of 22 (closed, code 1006: 21, HTTP 503: 1); trying again: "
        f"{', '.join(ROBOTS[:5])} and 17 more"
    ]
    for number, name in enumerate(ROBOTS):
        assert lines.failed(number, name, "HTTP 503", 105) == [], "further attempts that fail are no news"


def test_those_that_come_back_one_by_one_are_a_line_every_ten_seconds() -> None:
    lines = fleet()
    for number, name in enumerate(ROBOTS):
        lines.failed(number, name, "closed", 100)
    lines.due(101)
    said = []
    for second, (number, name) in enumerate(list(enumerate(ROBOTS))[:21]):
        said += lines.connected(number, name, 110 + second) + lines.due(110 + second)
    assert len(said) == 2 and texts(said)[0].startswith(
        "ogmen websocket: connected again to 2; 20 still away: ogmen:r00"
    )
    assert texts(lines.due(400)) == [
        "ogmen websocket: connected again to 9; 1 still away: "
        "ogmen:r12, ogmen:r13, ogmen:r14, ogmen:r15, ogmen:r16 and 4 more",
        "ogmen websocket: still no connection to 1 after 5 min (closed): ogmen:r21",
    ]
    assert lines.next_at is None and lines.due(10_000) == [], "that is said once"
    assert lines.connected(21, "ogmen:r21", 11_000) == []
    assert texts(lines.due(11_001)) == ["ogmen websocket: connected again to ogmen:r21"]


def test_one_of_many_is_named() -> None:
    lines = fleet()
    lines.failed(7, ROBOTS[7], "closed, code 1006", 100)
    assert texts(lines.due(101)) == ["ogmen websocket: no connection to ogmen:r07 (closed, code 1006); trying again"]


def test_the_first_connection_is_said() -> None:
    lines = ConnectionLines("wayscloud", "mqtt")
    lines.connected(1, "mqtt.example:8883", 5)
    assert texts(lines.due(6)) == ["wayscloud mqtt: connected to mqtt.example:8883"]


def test_what_is_lost_and_back_within_a_moment_is_said_in_order() -> None:
    lines = fleet()
    lines.failed(1, ROBOTS[1], "closed", 100)
    said = lines.connected(1, ROBOTS[1], 100.2)
    said += lines.failed(1, ROBOTS[1], "closed", 100.4) + lines.due(200)
    assert texts(said) == [
        "ogmen websocket: no connection to ogmen:r01 (closed); trying again",
        "ogmen websocket: connected again to ogmen:r01",
        "ogmen websocket: no connection to ogmen:r01 (closed); trying again",
    ]


def test_what_is_closed_on_purpose_is_not_away() -> None:
    lines = fleet()
    lines.failed(1, ROBOTS[1], "closed", 100)
    assert len(lines.closed(1, 100.1)) == 1
    assert lines.next_at is None and lines.due(1000) == []
    lines.failed(2, ROBOTS[2], "closed", 1000)
    lines.failed(3, ROBOTS[3], "closed", 1000)
    assert "no connection to 2 of 21 " in texts(lines.due(1001))[0]


async def test_the_lines_come_by_themselves(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    states = [ConnectionState("later", "socket", f"later:{number}") for number in range(3)]
    for state in states:
        state.connected(NOON)
    await eventually(lambda: "later socket: connected to 3: later:0, later:1, later:2" in caplog.messages)
    for state in states:
        state.lost(NOON, "closed")
    for state in states:
        state.closed()
    assert caplog.messages[-1].startswith("later socket: no connection to 3 of 3 (closed); trying again"), (
        "at the end, too"
    )


def test_without_an_event_loop_they_come_at_once(caplog: pytest.LogCaptureFixture) -> None:
    state = ConnectionState("now", "socket", "now:1")
    state.lost(NOON, "refused")
    assert caplog.messages == ["now socket: no connection to now:1 (refused); trying again"]
    state.closed()


def test_the_summary_shows_what_failed_last_and_why() -> None:
    lines = fleet()
    lines.failed(1, ROBOTS[1], "closed, code 1006", 100)
    lines.failed(2, ROBOTS[2], "HTTP 503", 101)
    lines.connected(2, ROBOTS[2], 102)
    lines.failed(1, ROBOTS[1], "HTTP 401", 110)
    assert lines.summary(120) == {
        "vendor": "ogmen",
        "channel": "websocket",
        "connections": 22,
        "away": 1,
        "failures": [
            {"name": "ogmen:r01", "reason": "HTTP 401", "seconds_ago": 10, "is_away": True},
            {"name": "ogmen:r02", "reason": "HTTP 503", "seconds_ago": 19, "is_away": False},
        ],
    }
