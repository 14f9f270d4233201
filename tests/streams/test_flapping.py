"""Alarms that come and go often, with their repetitions suppressed until it is calm."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.detect.state import decode_state
from tests.streams.partitions import GATEWAY_OFFLINE, fleet, heard, offline
from tests.support.detecting import DEVICE, Detecting, action, record, rule, tick

FLAPPING = {"count": 3, "seconds": 60, "suppress": True}


def hot(**fields: Any) -> Any:
    config = {"metric": "t", "operator": "gt", "value": 40}
    common = {"rule_type": "threshold", "config": config, "auto_resolve": True, "cooldown_seconds": 0}
    return rule(0, 0, "hot", **{**common, "flapping": FLAPPING, **fields})


class Device(Detecting):
    def values(self, *values: tuple[float, float]) -> list[str]:
        """Values by second; what is emitted."""
        emitted = []
        for seconds, value in values:
            emitted += self.feed(record(int(seconds * 10), seconds, {"t": value}))
            self.seen = int(seconds * 10)
        return [each.partition(":")[2] for each in emitted]

    def until(self, seconds: float) -> list[str]:
        return [each.partition(":")[2] for each in self.follow(tick(seconds, self.seen))]

    def flap(self, start: float, times: int) -> list[str]:
        return self.values(*[(start + n, 50.0 if n % 2 == 0 else 30.0) for n in range(2 * times)])


def test_it_is_said_once_and_ends_when_it_is_calm() -> None:
    played = Device(hot())
    assert played.flap(0, 2) == ["triggered", "resolved"] * 2
    assert played.flap(4, 20) == ["triggered"], "the third in a minute: it stays open, and emits no more"
    assert played.alarm.flapping and played.alarm.status == "active"
    name = played.alarm.alarm_id
    assert played.until(102.9) == []
    assert played.until(103.1) == ["resolved"], "the last crossing ended at 43 s"
    assert (played.alarm.alarm_id, played.alarm.occurrence_count, played.alarm.flapping) == (name, 20, False)
    assert played.last.note == "no longer flapping, 20 occurrences in all"
    assert played.values((200, 50.0), (201, 30.0)) == ["triggered", "resolved"], "as before"
    assert not played.alarm.flapping


def test_what_holds_when_it_is_calm_stays_open_and_resolves_as_ever() -> None:
    played = Device(hot())
    played.flap(0, 4)
    assert played.values((10, 50.0), (40, 50.0), (71, 50.0)) == ["repeated"], "calm since 10 s, seen in hindsight"
    assert (played.alarm.flapping, played.alarm.status) == (False, "active")
    assert played.values((80, 30.0)) == ["resolved"]


def test_without_auto_resolve_its_repetitions_are_counted_in_silence() -> None:
    played = Device(hot(auto_resolve=False))
    assert played.flap(0, 10) == ["triggered", "repeated", "repeated"]
    assert played.alarm.flapping
    assert played.until(100) == ["repeated"]
    assert (played.alarm.occurrence_count, played.alarm.flapping, played.alarm.status) == (10, False, "active")


def test_within_the_cooldown_its_repetitions_are_counted_in_silence_too() -> None:
    played = Device(hot(cooldown_seconds=30))
    assert played.flap(0, 10) == ["triggered", "resolved", "repeated", "repeated"]
    assert played.values((31, 50.0), (32, 30.0)) == ["triggered"], "one that flaps: it stays open"
    assert played.alarm.flapping
    assert played.until(93) == ["resolved"]


def test_operators_act_on_it_and_a_latched_one_waits_for_them() -> None:
    played = Device(hot(latch=True, flapping={**FLAPPING, "count": 2}, auto_resolve=True))
    played.flap(0, 5)
    assert played.alarm.flapping
    assert played.until(100) == ["repeated"], "calm, but nobody has acknowledged it"
    assert played.follow(action(0, 110, "acknowledge", played.alarm.alarm_id), tick(111, played.seen)) == [
        "hot:acknowledged",
        "hot:resolved",
    ]


def test_a_restart_and_a_change_of_the_rule_lose_nothing() -> None:
    played = Device(hot())
    played.flap(0, 4)
    played.restart()
    assert played.flap(8, 2) == []
    played.restart()
    assert played.until(72) == ["resolved"]
    assert played.alarm.occurrence_count == 4
    played.flap(100, 4)
    played.follow(rule(5, 110, "hot"))
    assert played.until(111) == ["resolved"], "the rule is gone"
    assert played.until(300) == []


def test_a_rule_with_inhibitors_on_other_devices_flaps_likewise() -> None:
    sensor = offline(
        1, "offline", 5, scope_type="model", scope_model="sensor", flapping=FLAPPING,
        inhibited_by=[{"rule": "gateway-offline", "device": "gateway_id"}],
    )  # fmt: skip
    played = fleet(GATEWAY_OFFLINE, sensor)
    for number in range(10):
        played.feed(heard(number, 10 * number, "wayscloud:s1"))
        played.pass_to(10 * number)
    for seconds in (190, 191, 192):
        played.pass_to(seconds)
    kinds = [kind for kind, _ in played.of_device("wayscloud:s1")]
    assert kinds == ["triggered", "resolved"] * 2 + ["triggered", "repeated"]
    assert played.of_device("wayscloud:s1")[-1][1] == 95 + 60


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 5, 70]), st.booleans()), max_size=40),
    st.booleans(),
    st.sampled_from([0, 20]),
)
def test_an_alarm_that_flaps_emits_its_begin_and_its_end_only(
    steps: list[tuple[int, bool]], auto_resolve: bool, cooldown: int
) -> None:
    played = Device(hot(auto_resolve=auto_resolve, cooldown_seconds=cooldown))
    now = 0.0
    for gap, above in steps:
        now += gap
        played.values((now, 50.0 if above else 30.0))
    before = False
    for event in played.events:
        if before and event.event_type in ("repeated", "resolved"):
            assert not event.alarm.flapping, "of what flaps only the end is emitted"
        before = event.alarm.flapping and event.alarm.status != "resolved"
    played.values((now + 1, 30.0))
    played.until(now + 200)
    state = played.state.get(f"telemetry.readings.v1/{DEVICE}".encode())
    assert state is None or not decode_state(state).calm_timers
    if played.events and auto_resolve:
        assert played.alarm.status == "resolved"


@pytest.mark.parametrize("suppress", [False, True])
def test_it_is_marked_only_unless_asked(suppress: bool) -> None:
    played = Device(hot(flapping={**FLAPPING, "suppress": suppress}))
    emitted = played.flap(0, 10)
    assert (len(emitted) == 20) is not suppress


def test_occurrences_count_together_while_less_than_its_seconds_lie_between_them() -> None:
    within = Device(hot(flapping=FLAPPING | {"suppress": False}))
    within.values((0, 50.0), (1, 30.0), (30, 50.0), (31, 30.0), (59.9, 50.0))
    assert within.alarm.flapping
    at_the_edge = Device(hot(flapping=FLAPPING | {"suppress": False}))
    at_the_edge.values((0, 50.0), (1, 30.0), (30, 50.0), (31, 30.0), (60, 50.0))
    assert not at_the_edge.alarm.flapping
