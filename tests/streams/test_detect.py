"""The alarm operators: all types of rules, watermarks and hindsight, operators' actions, rules that change, scopes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import records, wire
from schemas.topics import ALARM_ACTIONS, EVENTS
from streams.detect.options import DetectOptions
from streams.detect.rule_operator import RuleOperator
from streams.detect.schedules import CompiledWindow
from tests.support.detecting import (
    DEVICE,
    T0,
    Detecting,
    action,
    alert,
    at,
    device,
    millis,
    record,
    rule,
    tick,
    window,
)
from tests.support.records import ConsumedRecord

OFFLINE = {"rule_type": "offline", "config": {"duration_seconds": 300}, "auto_resolve": True, "cooldown_seconds": 0}
HOT = {
    "rule_type": "threshold",
    "config": {"metric": "t", "operator": "gt", "value": 40},
    "auto_resolve": True,
    "cooldown_seconds": 0,
}


# -- silence


def test_a_watermark_raises_a_silence_with_the_time_it_was_due() -> None:
    fleet = Detecting(rule(0, -10, "off", **OFFLINE))
    assert fleet.feed(record(0, 0, {"t": 1})) == []
    assert fleet.follow(tick(300, 0)) == [], "due at 300, which a record received at 300 would still prevent"
    assert fleet.follow(tick(301, 0)) == ["off:triggered"]
    assert fleet.alarm.triggered_at == at(300)
    assert fleet.alarm.message == "nothing received for 300 s"
    assert fleet.follow(tick(900, 0)) == [], "emitted once"
    assert fleet.feed(record(1, 1000, {"t": 1})) == ["off:resolved"]
    assert fleet.alarm.resolved_at == at(1000)
    records.AlarmEvent.model_validate_json(wire.encode(fleet.last))


def test_a_gap_between_two_readings_shows_it_in_hindsight_with_the_same_times() -> None:
    fleet = Detecting(rule(0, -10, "off", **OFFLINE))
    assert fleet.feed(record(0, 0, {"t": 1}), record(1, 1000, {"t": 1})) == ["off:triggered", "off:resolved"]
    assert [event.created_at for event in fleet.events] == [at(300), at(1000)]


def test_a_watermark_holds_once_what_it_names_was_read() -> None:
    fleet = Detecting(rule(0, -10, "off", **OFFLINE))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(400, 1)) == [], "record 1, normalised already, may prevent the alarm"
    assert fleet.feed(record(1, 200, {"t": 1})) == []
    assert fleet.follow(tick(501, 1)) == ["off:triggered"]
    assert fleet.alarm.triggered_at == at(500)


def test_without_rules_readings_need_not_be_read_and_watermarks_do_not_wait_for_them() -> None:
    fleet = Detecting()
    fleet.follow(tick(400, 5))
    mark = fleet.step.skip_mark()
    fleet.follow(tick(500, 7))
    assert mark is not None
    fleet.step.skipped(mark)
    fleet.feed()
    assert msgspec.msgpack.decode(fleet.state[b"telemetry.readings.v1#seen"]) == {"wayscloud": 5}, "7 may be unread"
    fleet.follow(rule(0, -10, "off", **OFFLINE))
    assert fleet.step.skip_mark() is None
    events = Detecting(topic=EVENTS)
    assert events.step.skip_mark() is None, "vendors' own alarms need no rule"


def test_watermarks_of_another_vendor_say_nothing() -> None:
    fleet = Detecting(rule(0, -10, "off", **OFFLINE))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(400, -1, vendor="karcher")) == []


def test_a_lag_does_not_put_watermarks_off_for_ever() -> None:
    fleet = Detecting(rule(0, -10, "off", **OFFLINE))
    fleet.feed(record(0, 0, {"t": 1}), record(1, 0, {"t": 1}, "wayscloud:b"))
    for second in range(310, 320):
        fleet.follow(tick(second, second))
    assert fleet.feed(record(310, 309, {"t": 1}, "wayscloud:b")) == ["off:triggered", "off:resolved", "off:triggered"]
    assert fleet.alarm.device_id == DEVICE


def test_an_interval_comes_from_the_registry_or_the_rule() -> None:
    missed = {**OFFLINE, "config": {"missed_intervals": 3, "reporting_interval_seconds": 60}}
    fleet = Detecting(
        rule(0, -10, "off", **missed), device(0, "wayscloud:b", attributes={"reporting_interval_seconds": 10})
    )
    fleet.feed(record(0, 0, {"t": 1}), record(1, 0, {"t": 1}, "wayscloud:b"))
    fleet.follow(tick(1000, 1))
    assert {e.alarm.device_id: e.alarm.triggered_at for e in fleet.events} == {DEVICE: at(180), "wayscloud:b": at(30)}


def test_missing_data_is_of_one_metric() -> None:
    missing = {**OFFLINE, "rule_type": "missing_data", "config": {"metric": "t", "duration_seconds": 100}}
    fleet = Detecting(rule(0, -10, "missing", **missing))
    fleet.feed(record(0, 0, {"t": 1}), record(1, 90, {"h": 1}))
    assert fleet.feed(record(2, 150, {"h": 1})) == []
    assert fleet.follow(tick(151, 2)) == ["missing:triggered"]
    assert fleet.alarm.triggered_at == at(100)
    assert fleet.feed(record(3, 160, {"t": 1})) == ["missing:resolved"]


# -- rates


def test_a_message_rate_is_evaluated_when_its_window_ends() -> None:
    rate = {
        "rule_type": "message_rate",
        "config": {"operator": "gt", "value": 2, "window_seconds": 60},
        "auto_resolve": True,
        "cooldown_seconds": 0,
    }
    fleet = Detecting(rule(0, -10, "flood", **rate))
    assert fleet.feed(*(record(n, 60 + n, {"t": 1}) for n in range(3))) == []
    assert fleet.feed(record(3, 120, {"t": 1})) == ["flood:triggered"]
    assert fleet.alarm.triggered_at == at(120)
    assert fleet.alarm.message == "messages in 60 s > 2; now 3"
    assert fleet.follow(tick(180, 3)) == ["flood:resolved"]
    assert fleet.last.created_at == at(180)


def test_too_few_messages_are_noticed_once_and_the_first_window_is_not_evaluated_if_it_began_before() -> None:
    rate = {
        "rule_type": "message_rate",
        "config": {"operator": "lt", "value": 2, "window_seconds": 60},
        "auto_resolve": True,
        "cooldown_seconds": 0,
    }
    fleet = Detecting(rule(0, -10, "starved", **rate))
    assert fleet.feed(record(0, 59, {"t": 1}), record(1, 60, {"t": 1}), record(2, 61, {"t": 1})) == []
    assert fleet.follow(tick(120, 2)) == []
    assert fleet.follow(tick(10_000, 2)) == ["starved:triggered"]
    assert fleet.last.created_at == at(180)
    emitted = fleet.feed(record(3, 10_020, {"t": 1}), record(4, 10_030, {"t": 1}), record(5, 10_081, {"t": 1}))
    assert emitted == ["starved:resolved"]
    assert fleet.last.created_at == at(10_080)


@pytest.mark.parametrize(
    ("metric", "values"),
    [("network.connected", [True, False, True, True, False, True]), ("connection.last_connected", list("aabbc"))],
)
def test_reconnects_are_counted(metric: str, values: list[Any]) -> None:
    rate = {"rule_type": "reconnect_rate", "config": {"value": 2}, "cooldown_seconds": 0, "auto_resolve": True}
    fleet = Detecting(rule(0, -10, "unstable", **rate))
    for number, value in enumerate(values):
        assert fleet.feed(record(number, number, {metric: value})) == []
    assert fleet.follow(tick(3601, len(values) - 1)) == ["unstable:triggered"]
    assert fleet.last.metadata is not None and fleet.last.metadata["count"] == 2
    assert fleet.follow(tick(7201, len(values) - 1)) == ["unstable:resolved"]


# -- operators


def test_acknowledging_goes_by_its_time_and_once() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    name = fleet.alarm.alarm_id
    assert fleet.follow(action(0, 10, "acknowledge", name, note="on my way")) == []
    assert fleet.feed(record(1, 11, {"t": 42})) == ["hot:acknowledged"]
    last = fleet.last
    assert (last.alarm.status, last.actor, last.note, last.created_at) == (
        "acknowledged",
        "ops@example.com",
        "on my way",
        at(10),
    )
    assert last.sequence == 2 and last.alarm.acknowledged_at == at(10)
    fleet.follow(action(1, 12, "acknowledge", name), action(2, 13, "acknowledge", name, name="action 0"))
    assert fleet.feed(record(2, 20, {"t": 39})) == ["hot:resolved"]
    fleet.follow(action(3, 21, "acknowledge", name), action(4, 21, "snooze", name, until=at(99)))
    assert fleet.follow(tick(30, 2)) == [], "what is resolved is neither acknowledged nor snoozed"


def test_resolved_by_hand_it_does_not_come_back_before_the_condition_does() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    fleet.follow(action(0, 10, "resolve", fleet.alarm.alarm_id))
    assert fleet.follow(tick(11, 0)) == ["hot:resolved"]
    assert fleet.feed(record(1, 20, {"t": 42}), record(2, 30, {"t": 39})) == []
    assert fleet.feed(record(3, 40, {"t": 42})) == ["hot:triggered"]


def test_reopened_it_stays_open_until_the_next_crossing_ends() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}), record(1, 1, {"t": 39}))
    first = fleet.alarm.alarm_id
    fleet.follow(action(0, 10, "reopen", first))
    assert fleet.follow(tick(11, 1)) == ["hot:reopened"]
    assert (fleet.alarm.status, fleet.alarm.resolved_at) == ("active", None)
    assert fleet.feed(record(2, 20, {"t": 38})) == []
    assert fleet.feed(record(3, 30, {"t": 41}), record(4, 40, {"t": 38})) == ["hot:repeated", "hot:resolved"]
    assert fleet.alarm.alarm_id == first


def test_a_latched_alarm_waits_for_somebody() -> None:
    fleet = Detecting(rule(0, -10, "hot", latch=True, **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    name = fleet.alarm.alarm_id
    assert fleet.feed(record(1, 1, {"t": 39})) == []
    fleet.follow(action(0, 10, "acknowledge", name))
    assert fleet.follow(tick(11, 1)) == ["hot:acknowledged", "hot:resolved"]
    assert fleet.feed(record(2, 20, {"t": 41})) == ["hot:triggered"]
    fleet.follow(action(1, 21, "acknowledge", fleet.alarm.alarm_id))
    assert fleet.feed(record(3, 30, {"t": 39})) == ["hot:acknowledged", "hot:resolved"]


def test_snoozing_is_an_entry() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    fleet.follow(action(0, 10, "snooze", fleet.alarm.alarm_id, until=at(600)))
    assert fleet.follow(tick(11, 0)) == ["hot:snoozed"]
    assert fleet.alarm.snoozed_until == at(600)
    fleet.follow(action(1, 12, "resolve", fleet.alarm.alarm_id))
    assert fleet.follow(tick(13, 0)) == ["hot:resolved"]
    assert (fleet.alarm.snoozed_until, fleet.alarm.resolved_at) == (None, at(12)), "over, and no longer snoozed"
    records.AlarmEvent.model_validate_json(wire.encode(fleet.last))


def test_the_end_of_a_snooze_is_an_entry_while_the_alarm_is_open() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    name = fleet.alarm.alarm_id
    fleet.follow(action(0, 10, "snooze", name, until=at(600)), action(1, 20, "snooze", name, until=at(300)))
    assert fleet.follow(tick(21, 0)) == ["hot:snoozed", "hot:snoozed"]
    assert fleet.follow(tick(300, 0)) == []
    fleet.restart()
    assert fleet.follow(tick(301, 0)) == ["hot:snooze_ended"], "the snooze that was asked for last counts"
    assert (fleet.alarm.snoozed_until, fleet.alarm.status, fleet.last.created_at) == (None, "active", at(300))
    assert (fleet.last.actor, fleet.last.origin.topic) == ("rule_engine", ALARM_ACTIONS)
    records.AlarmEvent.model_validate_json(wire.encode(fleet.last))
    assert fleet.follow(tick(700, 0)) == [], "once"
    fleet.follow(action(2, 710, "snooze", name, until=at(800)), action(3, 720, "resolve", name))
    assert fleet.follow(tick(721, 0)) == ["hot:snoozed", "hot:resolved"]
    assert fleet.follow(tick(900, 0)) == [], "it is resolved"


def test_the_next_record_brings_the_end_of_a_snooze_that_no_watermark_has() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 0, {"t": 41}))
    fleet.follow(action(0, 10, "snooze", fleet.alarm.alarm_id, until=at(300)))
    assert fleet.feed(record(1, 400, {"t": 41})) == ["hot:snoozed", "hot:snooze_ended"]


def test_the_snooze_of_a_vendors_alarm_ends() -> None:
    fleet = Detecting(topic=EVENTS)
    fleet.feed(alert(0, 0))
    fleet.follow(action(0, 10, "snooze", fleet.alarm.alarm_id, "ogmen:1", until=at(300)))
    assert fleet.follow(tick(301, 0, "ogmen"))[-1].endswith("snooze_ended")
    assert (fleet.alarm.snoozed_until, fleet.last.created_at) == (None, at(300))


def test_an_operator_whose_clock_is_behind_resolves_no_earlier_than_the_trigger() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    fleet.feed(record(0, 100, {"t": 41}))
    fleet.follow(replace(action(0, 50, "resolve", fleet.alarm.alarm_id), timestamp=millis(110)))
    assert fleet.follow(tick(111, 0)) == ["hot:resolved"]
    assert (fleet.alarm.resolved_at, fleet.last.created_at) == (at(100), at(100))


def test_an_action_written_before_its_alarm_in_a_replay_waits_for_its_time() -> None:
    live = Detecting(rule(0, -10, "hot", **HOT))
    live.feed(record(0, 0, {"t": 41}))
    acknowledged = action(0, 10, "acknowledge", live.alarm.alarm_id)
    live.follow(acknowledged)
    live.feed(record(1, 20, {"t": 39}))
    again = Detecting(rule(0, -10, "hot", **HOT), acknowledged)
    again.feed(record(0, 0, {"t": 41}), record(1, 20, {"t": 39}))
    assert again.events == live.events
    assert [event.event_type for event in again.events] == ["triggered", "acknowledged", "resolved"]


def test_what_is_no_action_is_left_out() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT))
    good = action(0, 10, "acknowledge", "x")
    for bad in (b"rubbish", b"{}", (good.value or b"").replace(b"wayscloud:a", b"nobody:a")):
        fleet.follow(replace(good, value=bad))
    assert fleet.feed(record(0, 0, {"t": 41})) == ["hot:triggered"]


# -- rules that change


def test_a_rule_takes_effect_while_running_and_its_alarm_ends_with_it() -> None:
    fleet = Detecting()
    assert fleet.feed(record(0, 0, {"t": 41})) == []
    fleet.follow(rule(0, 1, "hot", **HOT, created_at="2026-03-16T00:00:01Z"))
    assert fleet.feed(record(1, 2, {"t": 41})) == ["hot:triggered"]
    fleet.follow(rule(1, 5, "hot", **HOT, is_enabled=False))
    assert fleet.follow(tick(6, 1)) == ["hot:resolved"]
    assert (fleet.last.actor, fleet.last.created_at) == ("rule_engine", at(5))
    assert fleet.last.note == "the rule was removed, disabled, or no longer concerns the device"
    fleet.follow(rule(2, 10, "hot", **HOT))
    assert fleet.feed(record(2, 11, {"t": 41})) == ["hot:triggered"]
    fleet.follow(rule(3, 12, "hot"))
    assert fleet.feed(record(3, 13, {"t": 41})) == []
    assert fleet.follow(tick(14, 3)) == ["hot:resolved"]


def test_a_reading_meets_the_rules_of_its_time() -> None:
    changed = {**HOT, "config": {"metric": "t", "operator": "gt", "value": 50}}
    fleet = Detecting(rule(0, -10, "hot", **HOT), rule(1, 100, "hot", **changed))
    assert fleet.feed(record(0, 50, {"t": 45}), record(1, 150, {"t": 45})) == ["hot:triggered", "hot:resolved"]


def test_a_bad_rule_is_refused_and_stops_nothing() -> None:
    fleet = Detecting(rule(0, -10, "hot", **HOT), rule(1, -9, "bad", rule_type="threshold", config={}))
    fleet.follow(ConsumedRecord("telemetry.rules.v1", 2, b"worse", b"rubbish", millis(-8)))
    assert isinstance(fleet.step, RuleOperator)
    assert [str(refused) for refused in fleet.step.refused] == [
        "rule bad: config: either metric or datapoint_id must be given"
    ]
    assert fleet.feed(record(0, 0, {"t": 41})) == ["hot:triggered"]


def test_a_rule_names_a_datapoint_of_the_account_by_its_id() -> None:
    """Its definition comes with the rule; the value is in the unit of the datapoint, unless it says another."""

    def in_unit(offset: int, name: str, unit: str, config: dict[str, Any]) -> ConsumedRecord:
        facts = {"dp-1": {"name": "temperature", "unit": unit, "type": "number"}}
        given = {**HOT, "config": {"datapoint_id": "dp-1", "operator": "gt", **config}}
        return replace(rule(offset, -10, name, **given), headers=[("ce_datapoints", json.dumps(facts).encode())])

    fleet = Detecting(in_unit(0, "celsius", "°C", {"value": 40}), in_unit(1, "fahrenheit", "°F", {"value": 104}))
    fleet.follow(
        in_unit(2, "kelvin", "°F", {"value": 313.15, "unit": "K"}), in_unit(3, "wrong", "°F", {"value": 1, "unit": "m"})
    )
    told_of = [f"{name}:triggered" for name in ("celsius", "fahrenheit", "kelvin")]
    assert fleet.feed(record(0, 0, {"environment.temperature": 40})) == []
    assert fleet.feed(record(1, 1, {"environment.temperature": 40.01})) == told_of
    assert fleet.events[1].alarm.message == "environment.temperature > 40 (104 [degF]); now 40.01"
    assert isinstance(fleet.step, RuleOperator)
    (refused,) = fleet.step.refused
    assert str(refused) == "rule wrong: config.unit: 'm' cannot be converted to 'Cel', the unit of the readings"


def test_a_rule_that_no_longer_concerns_a_device_ends_its_alarm() -> None:
    by_model = {**HOT, "scope_type": "model", "scope_model": "B"}
    fleet = Detecting(rule(0, -10, "hot", **by_model), device(0, DEVICE, model="B"))
    assert fleet.feed(record(0, 0, {"t": 41})) == ["hot:triggered"]
    fleet.follow(device(1, DEVICE, model="C"))
    assert fleet.follow(tick(1, 0)) == ["hot:resolved"]


# -- scopes


@pytest.mark.parametrize(
    "scope",
    [
        {"scope_type": "model", "scope_model": "B"},
        {"scope_type": "group", "scope_group_id": "plant"},
        {"scope_type": "group", "scope_group_id": "tagged"},
        {"scope_type": "profile", "scope_profile_id": "p1"},
        {"scope_type": "profile", "scope_profile_id": "p2"},
    ],
)
def test_scopes_from_the_registry_and_from_configuration(scope: dict[str, str]) -> None:
    options = DetectOptions(groups={"plant": ["wayscloud:a*"]}, profiles={"p2": [DEVICE]})
    registered = device(0, DEVICE, model="B", attributes={"tags": ["tagged"], "profile_id": "p1"})
    fleet = Detecting(rule(0, -10, "hot", **HOT, **scope), registered, options=options)
    assert fleet.feed(record(0, 0, {"t": 41}), record(1, 0, {"t": 41}, "wayscloud:b")) == ["hot:triggered"]
    assert fleet.alarm.device_id == DEVICE


# -- conditions


def test_a_clear_condition_is_a_dead_band() -> None:
    config = {**HOT["config"], "clear": {"operator": "lt", "value": 35}}  # type: ignore[dict-item]
    fleet = Detecting(rule(0, -10, "hot", **{**HOT, "config": config}))
    values = [41, 38, 41, 36, 34, 38, 41]
    made = [fleet.feed(record(n, n, {"t": v})) for n, v in enumerate(values)]
    assert made == [["hot:triggered"], [], [], [], ["hot:resolved"], [], ["hot:triggered"]]


def test_all_and_any_of_several_metrics() -> None:
    door = {"metric": "open", "operator": "eq", "value": True}
    cold = {"metric": "t", "operator": "lt", "value": 5}
    fleet = Detecting(rule(0, -10, "both", **{**HOT, "config": {"all": [door, cold]}}))
    assert fleet.feed(record(0, 0, {"t": 4})) == [], "the door is not known yet"
    assert fleet.feed(record(1, 1, {"open": True})) == ["both:triggered"]
    assert fleet.alarm.message == "open = true and t < 5; now True"
    assert fleet.feed(record(2, 2, {"t": 6})) == ["both:resolved"]
    fleet = Detecting(rule(0, -10, "either", **{**HOT, "config": {"any": [door, cold]}}))
    assert fleet.feed(record(0, 0, {"t": 4})) == ["either:triggered"], "one part alone decides"


def test_comparison_with_another_metric_and_with_an_attribute() -> None:
    than = {"metric": "in", "operator": "gt", "than_metric": "out"}
    fleet = Detecting(rule(0, -10, "warmer", **{**HOT, "config": than}))
    assert fleet.feed(record(0, 0, {"in": 20}), record(1, 1, {"out": 15})) == ["warmer:triggered"]
    limit = {"metric": "t", "operator": "gt", "than_attribute": "limit"}
    registered = device(0, DEVICE, attributes={"limit": 30})
    fleet = Detecting(rule(0, -10, "limit", **{**HOT, "config": limit}), registered)
    assert fleet.feed(record(0, 0, {"t": 31}), record(1, 0, {"t": 99}, "wayscloud:b")) == ["limit:triggered"]


def test_rate_of_change() -> None:
    config = {"metric": "t", "operator": "gte", "value": 5, "change_seconds": 60}
    fleet = Detecting(rule(0, -10, "jump", **{**HOT, "config": config}))
    assert fleet.feed(record(0, 0, {"t": 20})) == []
    assert fleet.feed(record(1, 60, {"t": 24.9})) == []
    assert fleet.feed(record(2, 72, {"t": 25.9})) == ["jump:triggered"], "1 in 12 s is 5 in 60 s"
    assert fleet.alarm.message == "change of t in 60 s ≥ 5; now 25.9"


def test_active_hours() -> None:
    hours = {"timezone": "Europe/Oslo", "from": "08:00", "to": "16:00", "days": ["mon", "tue"]}  # 07:00 to 15:00 UTC
    both = {"active_hours": hours}
    fleet = Detecting(rule(0, -10, "hot", **HOT, **both), rule(1, -10, "off", **OFFLINE, **both))
    hour = 3600
    assert fleet.feed(record(0, 6 * hour, {"t": 41})) == []
    assert fleet.feed(record(1, 7 * hour, {"t": 41})) == ["hot:triggered"], "and silence would begin to count now"
    assert fleet.feed(record(2, 15 * hour, {"t": 39})) == ["off:triggered", "off:resolved", "hot:resolved"]
    assert fleet.events[1].created_at == at(7 * hour + 300)
    fleet.follow(tick(24 * hour, 2))
    assert fleet.events[-1].event_type == "resolved"
    fleet.follow(tick(32 * hour, 2))
    assert (fleet.alarm.rule_id, fleet.alarm.triggered_at) == ("off", at(31 * hour)), "still silent next morning"


def test_a_window_that_is_added_silences_from_then_on_and_is_seen_by_a_replay_alike() -> None:
    """It was made at 10 s, when one alarm had been raised, and cancelled at 60 s."""
    added = window(0, 10, 0, 500, scope_type="device", scope=DEVICE, rules=["hot"])
    cancelled = window(1, 10, 0, 500, scope_type="device", scope=DEVICE, rules=["hot"], cancelled_at=at(60))
    expected = {5: ["hot:triggered"], 6: ["hot:resolved"], 20: [], 21: [], 50: [], 70: ["hot:triggered"]}
    values = {5: 41, 6: 39, 20: 41, 21: 39, 50: 41, 70: 41}

    def play(fleet: Detecting, seconds: int) -> list[str]:
        return fleet.feed(record(seconds, seconds, {"t": values[seconds]}))

    fleet = Detecting(rule(0, -10, "hot", **HOT))
    emitted = {seconds: play(fleet, seconds) for seconds in (5, 6)}
    fleet.follow(added)
    emitted |= {seconds: play(fleet, seconds) for seconds in (20, 21)}
    fleet.restart()
    emitted |= {50: play(fleet, 50)}
    fleet.follow(cancelled)
    emitted |= {70: play(fleet, 70)}
    assert emitted == expected
    replay = Detecting(rule(0, -10, "hot", **HOT), cancelled)
    assert {seconds: play(replay, seconds) for seconds in values} == expected
    assert [event.event_id for event in replay.events] == [event.event_id for event in fleet.events]


def test_a_window_cancelled_before_it_began_or_of_another_scope_silences_nothing() -> None:
    never = window(0, -10, 5, 500, cancelled_at=at(1))
    assert Detecting(rule(0, -10, "hot", **HOT), never).feed(record(0, 10, {"t": 41})) == ["hot:triggered"]
    other = window(0, -10, 0, 500, scope_type="model", scope="B")
    fleet = Detecting(rule(0, -10, "hot", **HOT), other, device(0, DEVICE, model="A"))
    assert fleet.feed(record(0, 10, {"t": 41}), record(1, 11, {"t": 39})) == ["hot:triggered", "hot:resolved"]
    fleet.follow(device(1, DEVICE, model="B"))
    assert fleet.feed(record(2, 12, {"t": 41})) == []
    fleet.follow(ConsumedRecord(other.topic, 1, b"w", None), ConsumedRecord(other.topic, 2, b"x", b"rubbish"))
    assert fleet.feed(record(3, 13, {"t": 41})) == ["hot:triggered"]


def test_maintenance_silences_a_scope_for_a_time() -> None:
    starts, ends = millis(100) * 1000, millis(200) * 1000
    options = DetectOptions(maintenance=(CompiledWindow(("device", DEVICE), starts, ends),))
    fleet = Detecting(rule(0, -10, "hot", **HOT), options=options)
    assert fleet.feed(record(0, 150, {"t": 41}), record(1, 199, {"t": 41})) == []
    assert fleet.feed(record(2, 150, {"t": 41}, "wayscloud:b")) == ["hot:triggered"]
    assert fleet.feed(record(3, 200, {"t": 41})) == ["hot:triggered"]


def test_an_inhibitor_hides_what_follows_until_it_ends() -> None:
    missing = {**OFFLINE, "rule_type": "missing_data", "config": {"metric": "t", "duration_seconds": 300}}
    fleet = Detecting(rule(0, -10, "missing", **missing, inhibited_by=["off"]), rule(1, -10, "off", **OFFLINE))
    fleet.feed(record(0, 0, {"t": 1}))
    assert fleet.follow(tick(1000, 0)) == ["off:triggered"], "both are due at once; the inhibitor comes first"
    assert fleet.feed(record(1, 1100, {"h": 1})) == ["off:resolved"]
    assert fleet.follow(tick(1101, 1)) == ["missing:triggered"]
    assert fleet.alarm.triggered_at == at(1100)


def test_flapping_is_marked_and_unmarked() -> None:
    fleet = Detecting(rule(0, -10, "hot", **{**HOT, "cooldown_seconds": 300}, flapping={"count": 3, "seconds": 60}))
    for number in range(6):
        fleet.feed(record(number, number * 10, {"t": 41 if number % 2 == 0 else 39}))
    assert [e.alarm.flapping for e in fleet.events if e.event_type != "resolved"] == [False, False, True]
    fleet.feed(record(6, 1000, {"t": 41}))
    assert not fleet.alarm.flapping


def test_late_readings_within_the_allowance_are_put_in_order() -> None:
    options = DetectOptions(late_allowance=30_000_000)
    lasting = {**HOT, "config": {**HOT["config"], "duration_seconds": 20}}  # type: ignore[dict-item]
    fleet = Detecting(rule(0, -10, "hot", **lasting), options=options)
    fleet.feed(record(0, 0, {"t": 41}), record(1, 25, {"t": 41}))
    fleet.feed(record(2, 29, {"t": 39}, observed=10))
    assert fleet.follow(tick(100, 2)) == [], "the reading of second 10, received at 29, ends the crossing"
    fleet.feed(record(3, 101, {"t": 45}, observed=5))
    assert fleet.events == []


# -- vendors' alarms


def test_an_alert_resolves_after_its_quiet_time_and_the_next_is_a_new_alarm() -> None:
    ogmen = Detecting(topic=EVENTS, options=DetectOptions(quiet={"ogmen": 3_600_000_000}))
    assert ogmen.feed(alert(0, 0), alert(1, 1000)) == [
        "ogmen:alert:navigation:Stuck:triggered",
        "ogmen:alert:navigation:Stuck:repeated",
    ]
    assert ogmen.follow(tick(4600, 1, "ogmen")) == []
    assert ogmen.follow(tick(4601, 1, "ogmen")) == ["ogmen:alert:navigation:Stuck:resolved"]
    assert ogmen.last.created_at == at(4600)
    first = ogmen.alarm.alarm_id
    assert ogmen.feed(alert(2, 9000)) == ["ogmen:alert:navigation:Stuck:triggered"]
    assert ogmen.alarm.alarm_id != first
    again = Detecting(topic=EVENTS, options=DetectOptions(quiet={"ogmen": 3_600_000_000}))
    again.feed(alert(0, 0), alert(1, 1000), alert(2, 9000))
    assert again.events == ogmen.events, "in hindsight it is the same"


def test_operators_act_on_vendors_alarms() -> None:
    ogmen = Detecting(topic=EVENTS)
    ogmen.feed(alert(0, 0))
    ogmen.follow(action(0, 5, "acknowledge", ogmen.alarm.alarm_id, device="ogmen:1"))
    assert ogmen.follow(tick(6, 0, "ogmen")) == ["ogmen:alert:navigation:Stuck:acknowledged"]


# -- whatever comes when, the alarms are the same

RULES = [
    rule(0, -10, "hot", **{**HOT, "cooldown_seconds": 20}),
    rule(1, -10, "off", **{**OFFLINE, "config": {"duration_seconds": 25}, "cooldown_seconds": 40}),
    rule(
        2,
        -10,
        "missing",
        rule_type="missing_data",
        config={"metric": "t", "duration_seconds": 30},
        inhibited_by=["off"],
        auto_resolve=True,
        cooldown_seconds=0,
    ),
    rule(
        3,
        -10,
        "few",
        rule_type="message_rate",
        config={"operator": "lt", "value": 2, "window_seconds": 20},
        auto_resolve=True,
        cooldown_seconds=30,
    ),
    rule(4, -10, "unstable", rule_type="reconnect_rate", config={"value": 1, "window_seconds": 30}, cooldown_seconds=0),
    rule(5, -10, "band", **{**HOT, "config": {**HOT["config"], "clear": {"operator": "lt", "value": 38}}}),  # type: ignore[dict-item]
    rule(6, -10, "later", **{**HOT, "latch": True, "created_at": (T0 + timedelta(seconds=60)).isoformat()}),
    rule(7, 120, "hot"),
]
STEPS = st.lists(
    st.tuples(
        st.integers(0, 40),
        st.sampled_from(["a", "b"]),
        st.dictionaries(
            st.sampled_from(["t", "h", "network.connected"]),
            st.sampled_from([36.0, 39.0, 41.0, True, False]),
            min_size=1,
        ),
        st.integers(-8, 0),
    ),
    min_size=1,
    max_size=25,
)
ALLOWANCE = st.sampled_from([0, 5_000_000])


def day(steps: list[Any]) -> list[ConsumedRecord]:
    now, made = 0, []
    for offset, (pause, name, values, lateness) in enumerate(steps):
        now += pause
        made.append(record(offset, now, values, f"wayscloud:{name}", observed=now + lateness))
    return made


def seconds_of(given: ConsumedRecord) -> float:
    return (wire.decode_observation(given.value or b"").received_at - T0).total_seconds()


@settings(max_examples=150, deadline=None)
@given(STEPS, ALLOWANCE, st.data())
def test_watermarks_batches_restarts_and_replays_change_nothing(
    steps: list[Any], late: int, data: st.DataObject
) -> None:
    made = day(steps)
    end = seconds_of(made[-1]) + 500
    options = DetectOptions(late_allowance=late)
    draft = Detecting(*RULES, options=options)
    draft.feed(*made)
    draft.follow(tick(end, len(made) - 1))
    begun = {}  # an operator knows of an alarm only when it has begun
    for event in draft.events:
        known = event.alarm.alarm_id, event.alarm.device_id
        begun.setdefault(known, math.ceil((event.created_at - T0).total_seconds()))
    kinds = st.sampled_from(["acknowledge", "resolve", "reopen"])
    drawn = st.tuples(st.integers(0, int(end) - 1), kinds, st.sampled_from(sorted(begun) or [("", "")]))
    chosen = data.draw(st.lists(drawn, max_size=6 if begun else 0))
    due = sorted((max(moment, begun[known]), kind, known) for moment, kind, known in chosen)
    actions = [action(number, moment, kind, *known) for number, (moment, kind, known) in enumerate(due)]
    whole = Detecting(*RULES, *actions, options=options)
    whole.feed(*made)
    whole.follow(tick(end, len(made) - 1))

    split = Detecting(*RULES, options=options)
    unfollowed, start = list(actions), 0
    while start < len(made):
        stop = data.draw(st.integers(start + 1, len(made)))
        until = seconds_of(made[stop - 1])
        while unfollowed and unfollowed[0].timestamp < millis(until):
            split.follow(unfollowed.pop(0))
        if data.draw(st.booleans()):
            split.restart()
            start = data.draw(st.integers(0, start))
        split.feed(*made[start:stop])
        start = stop
        following = seconds_of(made[stop]) if stop < len(made) else end
        moment = data.draw(st.integers(0, int(following)))
        while unfollowed and unfollowed[0].timestamp < millis(moment):
            split.follow(unfollowed.pop(0))
        split.follow(tick(moment, stop - 1))
    split.follow(*unfollowed)
    split.follow(tick(end, len(made) - 1))

    def by_device(events: list[wire.AlarmEvent]) -> dict[str, list[wire.AlarmEvent]]:
        return {name: [e for e in events if e.alarm.device_id == name] for name in ("wayscloud:a", "wayscloud:b")}

    assert by_device(split.events) == by_device(whole.events)
    assert split.step.open_alarms == whole.step.open_alarms
    status = {event.alarm.alarm_id: event.alarm.status for event in whole.events}
    assert whole.step.open_alarms == sum(each != "resolved" for each in status.values())
