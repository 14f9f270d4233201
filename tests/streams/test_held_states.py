"""Rules on polled states: a state that does not change is emitted once, and holds until it changes."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pytest

from schemas.envelope import Envelope
from schemas.topics import READINGS, raw_topic
from streams.detect.options import DetectOptions
from tests.support.detecting import Detecting, at, millis, report, rule, tick
from tests.support.normalising import normalise_step, of, raw
from tests.support.records import ConsumedRecord

TOPIC = raw_topic("ogmen")
LOW = {"rule_type": "threshold", "auto_resolve": True, "cooldown_seconds": 0}
CONFIG = {"metric": "battery.level", "operator": "lt", "value": 15}


def low(duration: float = 0, **fields: Any) -> ConsumedRecord:
    return rule(0, -10, "low", **(LOW | fields), config=CONFIG | {"duration_seconds": duration})


class Robot:
    """A robot whose battery we ask for, from the answer to the alarm: through the normaliser and the alarm engine."""

    def __init__(self, *rules: ConsumedRecord, **options: Any) -> None:
        self.fleet = Detecting(*rules, **options)
        self.step = normalise_step(TOPIC)
        self.rows = 0
        self._offsets = count()

    def poll(self, level: float, seconds: float) -> list[str]:
        """One answer; then time goes on to it."""
        body = json.dumps({"battery_level": level}).encode()
        envelope = Envelope(f"battery {seconds}", "ogmen.battery.log", "t", "ogmen:one", at(seconds), body)
        offset = next(self._offsets)
        events: list[str] = []
        for made in of(self.step.process([raw(envelope, offset, TOPIC)], 0), READINGS):
            self.rows += 1
            events += self.fleet.feed(ConsumedRecord(READINGS, offset, made.key, made.value, millis(seconds)))
        return events + self.fleet.follow(tick(seconds, self.step.source_progress.emitted[READINGS], "ogmen"))

    def polls(self, level: float, start: int, end: int) -> list[str]:
        """An answer every thirty seconds."""
        return [event for seconds in range(start, end, 30) for event in self.poll(level, seconds)]


@pytest.mark.parametrize("duration", [0, 60, 3600])
def test_a_state_that_stays_triggers_when_it_has_lasted_and_resolves_when_it_changes(duration: int) -> None:
    robot = Robot(low(duration))
    assert robot.polls(80, 0, 300) == []
    assert robot.polls(8, 300, 301 + duration + 60) == ["low:triggered"]
    assert robot.fleet.alarm.triggered_at == at(300 + duration)
    assert robot.polls(80, 7000, 7300) == ["low:resolved"]
    assert robot.rows == 3


def test_a_state_that_changes_before_its_time_triggers_nothing() -> None:
    robot = Robot(low(60))
    assert robot.polls(8, 0, 60) + robot.polls(80, 60, 900) == []
    assert robot.polls(8, 900, 960) + robot.polls(9, 960, 1200) == ["low:triggered"], "another value, still too low"
    assert robot.fleet.alarm.triggered_at == at(960)


def test_a_state_that_stays_triggers_after_the_cooldown() -> None:
    robot = Robot(low(0, cooldown_seconds=600))
    assert robot.polls(8, 0, 60) + robot.polls(80, 60, 120) == ["low:triggered", "low:resolved"]
    assert robot.polls(8, 120, 590) == ["low:repeated"]
    assert robot.polls(8, 600, 900) == ["low:triggered"]
    assert robot.fleet.alarm.triggered_at == at(600)


@pytest.mark.parametrize("level", [8, 80])
def test_a_state_does_not_last_while_nobody_asks(level: float) -> None:
    """The connector was away from 100 to 5,000 s; the first answer after it comes 20 s later."""
    robot = Robot(low(600), report((-100, None), until=100, vendor="ogmen"))
    assert robot.polls(8, 0, 100) == []
    assert robot.fleet.follow(tick(5_001, 0, "ogmen")) == []
    back = report((-100, 100), (5_000, None), until=9_000, vendor="ogmen")
    assert robot.fleet.follow(back) + robot.fleet.follow(tick(5_002, 0, "ogmen")) == []
    events = robot.polls(level, 5_020, 6_000)
    if level > 15:
        assert events == [], "it has changed, and nobody knows when"
    else:
        assert events == ["low:triggered"]
        assert robot.fleet.alarm.triggered_at == at(5_500), "600 s less the 100 s before the outage"


def test_a_cooldown_that_ends_while_nobody_asks_triggers_when_somebody_asks_again() -> None:
    robot = Robot(low(0, cooldown_seconds=600), report((-100, None), until=300, vendor="ogmen"))
    assert robot.polls(8, 0, 60) + robot.polls(80, 60, 120) == ["low:triggered", "low:resolved"]
    assert robot.polls(8, 120, 300) == ["low:repeated"]
    assert robot.fleet.follow(report((-100, 300), (5_000, None), until=9_000, vendor="ogmen")) == []
    assert robot.polls(8, 5_020, 5_100) == ["low:triggered"]
    assert robot.fleet.alarm.last_triggered_at == at(5_000)


def test_the_state_of_a_held_condition_survives_a_restart() -> None:
    robot = Robot(low(600))
    assert robot.polls(8, 0, 300) == []
    robot.fleet.restart()
    assert robot.polls(8, 300, 900) == ["low:triggered"]


def test_a_late_change_is_waited_for_before_a_state_has_lasted() -> None:
    robot = Robot(low(60), options=DetectOptions(late_allowance=20_000_000))
    assert robot.polls(8, 0, 30) == []
    assert robot.poll(80, 55) + robot.polls(80, 80, 300) == [], "it changed before the minute was over"
    assert robot.polls(8, 300, 420) == ["low:triggered"]
    assert robot.fleet.alarm.triggered_at == at(360)


def test_a_state_that_was_true_before_active_hours_triggers_when_they_begin() -> None:
    hours = {"timezone": "UTC", "from": "00:10", "to": "12:00", "days": ["mon"]}
    robot = Robot(low(0, active_hours=hours))
    assert robot.polls(8, 0, 600) == []
    assert robot.polls(8, 600, 700) == ["low:triggered"]
    assert robot.fleet.alarm.triggered_at == at(600)
