"""The alarm state machine: what triggers, repeats, resolves; and what holds for any stream of readings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import records, wire
from schemas.records import AlarmRule
from schemas.rules import parse_rule
from schemas.topics import EVENTS
from schemas.topics import READINGS as READINGS_TOPIC
from streams.detect.device import EvaluationContext, Profile, TrackedDevice
from streams.detect.device_alarms import DeviceAlarms
from streams.detect.rule_book import RuleBook
from streams.detect.rule_compiler import compile_rule
from streams.detect.rules import CompiledRule
from streams.detect.skipped import SkippedCounts
from streams.detect.state import DeviceState, decode_state, encode_state
from streams.detect.vendor_alarms import VendorAlarms, VendorAlarmSettings

T0 = datetime(2026, 3, 16, tzinfo=UTC)
DEVICE = "karcher:1.454-500.0/002005"
PROFILE = Profile(DEVICE, "karcher", (("vendor", "karcher"), ("device", DEVICE)))


def rule(**fields: Any) -> CompiledRule:
    config = {name: fields.pop(name) for name in ("metric", "operator", "value") if name in fields}
    more = fields.pop("config", {})
    given: dict[str, Any] = {"id": "hot", "name": "Hot", "rule_type": "threshold", "severity": "major"}
    given |= {"auto_resolve": True, "cooldown_seconds": fields.pop("cooldown", 0)}
    default = {"metric": "t", "operator": "gt", "value": 40.0}
    given["config"] = {**(default if "rule_type" not in fields else {}), **config, **more}
    if "duration" in fields:
        given["config"]["duration_seconds"] = fields.pop("duration")
    parsed = parse_rule(given | fields)
    assert isinstance(parsed, AlarmRule), parsed
    return compile_rule(parsed)


class Device:
    """One device under some rules, fed with a record for each call."""

    def __init__(self, *rules: CompiledRule) -> None:
        self.context = EvaluationContext(RuleBook(rules))
        self.state = DeviceState()
        self.skipped = SkippedCounts()
        self.offsets = count()
        self.events: list[wire.AlarmEvent] = []

    def feed(self, *readings: tuple[float, Any], offset: int | None = None, quality: str = "ok") -> list[str]:
        """Readings as (seconds, value); the types of the events they cause."""
        made = [reading_at(seconds, value, quality) for seconds, value in readings]
        number = next(self.offsets) if offset is None else offset
        found = self.observe(made, number)
        self.events += found
        return [event.event_type for event in found]

    def observe(self, readings: list[wire.Reading], offset: int) -> list[wire.AlarmEvent]:
        origin = wire.Origin(READINGS_TOPIC, 0, offset)
        observation = wire.Observation("id", DEVICE, "karcher", T0, origin, readings)
        device = TrackedDevice(self.state, PROFILE, READINGS_TOPIC, skipped=self.skipped)
        events = DeviceAlarms(device, self.context).apply(observation, origin)
        self.state = decode_state(encode_state(self.state))  # as over a restart between any two records
        return events

    @property
    def alarm(self) -> wire.Alarm:
        return self.events[-1].alarm


def reading_at(seconds: float, value: Any, quality: str = "ok") -> wire.Reading:
    kinds = {bool: "value_boolean", str: "value_text"}
    field = kinds.get(type(value), "value_number")
    return wire.Reading("t", T0 + timedelta(seconds=seconds), time_quality=quality, **{field: value})


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def test_a_crossing_triggers_once_and_resolves_by_itself() -> None:
    device = Device(rule())
    assert device.feed((0, 39)) == []
    assert device.feed((1, 41)) == ["triggered"]
    assert device.alarm.status == "active"
    assert device.feed((2, 42)) == []
    assert device.feed((3, 40)) == ["resolved"]
    assert device.alarm.status == "resolved"
    assert (device.alarm.triggered_at, device.alarm.resolved_at) == (at(1), at(3))
    assert device.state.open_alarms == 0
    assert device.feed((31 * 86400, 40)) == []
    assert device.state.rules == {}, "nothing is kept of what has long been over"


def test_a_condition_must_last() -> None:
    device = Device(rule(duration=3))
    assert device.feed((0, 41)) == []
    assert device.feed((2.999, 41)) == []
    assert device.feed((3, 39)) == []
    assert device.feed((4, 41)) == []
    assert device.feed((6.9, 41)) == []
    assert device.feed((7, 41)) == ["triggered"]
    assert device.alarm.triggered_at == at(7)


def test_an_alarm_after_a_resolved_one_is_a_new_one() -> None:
    device = Device(rule())
    device.feed((1, 41))
    first = device.alarm.alarm_id
    device.feed((2, 39))
    assert device.feed((3, 41)) == ["triggered"]
    assert device.alarm.alarm_id != first
    assert device.events[-1].sequence == 1


def test_without_auto_resolve_further_crossings_are_occurrences() -> None:
    device = Device(rule(auto_resolve=False))
    device.feed((1, 41))
    assert device.feed((2, 39)) == []
    assert device.feed((3, 41)) == ["repeated"]
    assert device.feed((4, 42)) == [], "the same crossing"
    assert device.alarm.occurrence_count == 2
    assert device.alarm.last_triggered_at == at(3)
    assert device.alarm.triggered_at == at(1)


def test_a_crossing_within_the_cooldown_is_counted_not_triggered() -> None:
    device = Device(rule(cooldown=300))
    device.feed((0, 41))
    first = device.alarm.alarm_id
    device.feed((10, 39))
    assert device.feed((20, 41)) == ["repeated"]
    assert (device.alarm.alarm_id, device.alarm.status, device.alarm.occurrence_count) == (first, "resolved", 2)
    assert device.alarm.last_triggered_at == at(0)
    assert device.events[-1].note == "within the cooldown"
    assert device.feed((30, 42)) == [], "counted once"
    assert device.feed((299.9, 42)) == []
    assert device.feed((300, 42)) == ["triggered"], "it still holds after the cooldown"
    assert device.alarm.alarm_id != first
    assert device.alarm.occurrence_count == 1


def test_a_crossing_within_the_cooldown_of_an_open_alarm_is_counted() -> None:
    device = Device(rule(cooldown=300, auto_resolve=False))
    device.feed((0, 41), (1, 39), (2, 41))
    assert [e.event_type for e in device.events] == ["triggered", "repeated"]
    assert device.alarm.last_triggered_at == at(0)
    device.feed((3, 39))
    assert device.feed((400, 41)) == ["repeated"]
    assert device.alarm.last_triggered_at == at(400)
    assert device.alarm.occurrence_count == 3


def test_late_readings_change_nothing_and_are_counted() -> None:
    device = Device(rule())
    device.feed((10, 41))
    assert device.feed((5, 39)) == []
    assert device.feed((9.999, 39)) == []
    assert device.skipped.late == 2
    assert device.feed((10, 39)) == ["resolved"], "equal times of different values are two readings"


@pytest.mark.parametrize("quality", ["future", "ancient"])
def test_suspect_times_change_nothing_and_make_nothing_late(quality: str) -> None:
    device = Device(rule())
    assert device.feed((10**9, 41), quality=quality) == []
    assert device.skipped.suspect == 1
    assert device.feed((1, 41)) == ["triggered"]


def test_a_record_that_comes_again_changes_nothing() -> None:
    device = Device(rule(auto_resolve=False))
    device.feed((1, 41), offset=5)
    before = encode_state(device.state)
    assert device.feed((1, 41), offset=5) == []
    assert device.feed((2, 39), offset=4) == []
    assert encode_state(device.state) == before
    assert device.skipped.replayed == 2


def test_readings_of_one_message_are_applied_in_order_of_time() -> None:
    device = Device(rule())
    assert device.feed((3, 39), (1, 41), (2, 42)) == ["triggered", "resolved"]


def test_two_alarms_in_one_instant_stay_one_alarm() -> None:
    device = Device(rule())
    device.feed((1, 41), (1, 39), (1, 42), (1, 38))
    assert [e.event_type for e in device.events] == ["triggered", "resolved", "repeated"]
    assert len({e.event_id for e in device.events}) == 3


def test_rules_do_not_disturb_each_other() -> None:
    device = Device(rule(id="a"), rule(id="b", value=50.0))
    assert device.feed((1, 45)) == ["triggered"]
    assert device.feed((2, 55)) == ["triggered"]
    assert device.feed((3, 45)) == ["resolved"]
    assert device.alarm.rule_id == "b"
    assert device.state.open_alarms == 1


def test_booleans_and_texts() -> None:
    device = Device(rule(operator="eq", value=True))
    assert device.feed((1, True)) == ["triggered"]
    assert device.feed((2, False)) == ["resolved"]
    device = Device(rule(operator="neq", value="Idle"))
    assert device.feed((1, "Idle")) == []
    assert device.feed((2, "Docking")) == ["triggered"]


def test_an_alarm_event_keeps_the_contract_and_says_what_happened() -> None:
    device = Device(rule(duration=3, severity="Urgent"))
    device.feed((0, 41), (3, 41.5))
    event = records.AlarmEvent.model_validate_json(wire.encode(device.events[0]))
    assert event.alarm.title == "Hot: 1.454-500.0/002005"
    assert event.alarm.message == "t > 40 for 3 s; now 41.5"
    assert event.metadata == {"severity": "warning", "value": 41.5, "severity_original": "Urgent"}
    assert event.actor == "rule_engine"
    assert event.created_at == at(3)
    assert UUID(str(event.event_id)).version == UUID(str(event.alarm.alarm_id)).version == 5


# -- what holds for any stream

VALUES = st.sampled_from([38.0, 39.0, 41.0, 42.0, 55.0])
READINGS = st.lists(
    st.tuples(st.integers(0, 60), VALUES, st.sampled_from(["ok", "ok", "ok", "future"])), min_size=1, max_size=40
)
RULES = st.lists(
    st.builds(
        rule,
        duration=st.sampled_from([0, 1, 5]),
        cooldown=st.sampled_from([0, 3, 20]),
        auto_resolve=st.booleans(),
        value=st.sampled_from([40.0, 50.0]),
    ),
    min_size=1,
    max_size=3,
).map(lambda rules: [replace(found, id=f"r{number}") for number, found in enumerate(rules)])


def drifting(readings: list[tuple[int, float, str]]) -> list[wire.Reading]:
    """Readings whose times mostly go up, with late ones among them."""
    return [
        reading_at(index * 2 + offset / 10 - 3, value, quality)
        for index, (offset, value, quality) in enumerate(readings)
    ]


def play(rules: list[CompiledRule], readings: list[wire.Reading]) -> Device:
    device = Device(*rules)
    for offset, reading in enumerate(readings):
        device.events += device.observe([reading], offset)
    return device


@settings(max_examples=300, deadline=None)
@given(RULES, READINGS)
def test_at_most_one_alarm_is_open_and_its_timeline_has_no_gap(rules: list[CompiledRule], raw: list[Any]) -> None:
    events = play(rules, drifting(raw)).events
    status: dict[str, str] = {}
    sequences: Counter[str] = Counter()
    counts: dict[str, int] = {}
    for event in events:
        alarm = event.alarm
        sequences[alarm.alarm_id] += 1
        assert event.sequence == sequences[alarm.alarm_id]
        assert (event.sequence == 1) is (event.event_type == "triggered")
        assert alarm.occurrence_count == counts.get(alarm.alarm_id, 0) + (event.event_type != "resolved")
        counts[alarm.alarm_id] = alarm.occurrence_count
        status[f"{alarm.rule_id} {alarm.alarm_id}"] = alarm.status
        open_of_rule = [k for k, v in status.items() if v == "active" and k.startswith(f"{alarm.rule_id} ")]
        assert len(open_of_rule) <= 1
    assert len({event.event_id for event in events}) == len(events)


@settings(max_examples=200, deadline=None)
@given(RULES, READINGS)
def test_ids_are_deterministic_and_a_replay_changes_nothing(rules: list[CompiledRule], raw: list[Any]) -> None:
    readings = drifting(raw)
    first, second = play(rules, readings), play(rules, readings)
    assert [wire.encode(e) for e in first.events] == [wire.encode(e) for e in second.events]
    before = encode_state(first.state)
    for offset, reading in enumerate(readings):
        assert first.observe([reading], offset) == []
    assert encode_state(first.state) == before


@settings(max_examples=200, deadline=None)
@given(RULES, READINGS)
def test_late_and_suspect_readings_are_as_if_they_had_not_come(rules: list[CompiledRule], raw: list[Any]) -> None:
    readings = drifting(raw)
    kept: list[tuple[int, wire.Reading]] = []
    for offset, reading in enumerate(readings):
        on_time = not kept or reading.observed_at >= kept[-1][1].observed_at
        if reading.time_quality == "ok" and on_time:
            kept.append((offset, reading))
    whole, only = play(rules, readings), Device(*rules)
    for offset, reading in kept:
        only.events += only.observe([reading], offset)
    assert [wire.encode(e) for e in whole.events] == [wire.encode(e) for e in only.events]
    assert whole.skipped.late + whole.skipped.suspect == len(readings) - len(kept)


# -- vendors' own alarms


def alerts(state: DeviceState, offset: int, *events: wire.Event, vendor: str = "ogmen") -> list[wire.AlarmEvent]:
    origin = wire.Origin(EVENTS, 0, offset)
    event_set = wire.EventSet("id", f"{vendor}:1", vendor, T0, origin, list(events))
    device = TrackedDevice(state, Profile(f"{vendor}:1", vendor), EVENTS)
    return VendorAlarms(device, VendorAlarmSettings()).apply(event_set, origin)


def alert(event_id: str, seconds: float = 0, header: str = "Stuck", severity: str = "major") -> wire.Event:
    data = f'{{"source":"navigation","header":"{header}","body":"Lift it"}}'
    return wire.Event(event_id, "alert", at(seconds), data, severity=severity, title=header)


def test_alerts_of_one_source_and_header_are_one_alarm() -> None:
    state = DeviceState()
    first = alerts(state, 0, alert("u1"))
    again = alerts(state, 1, alert("u2", 60, severity="critical"))
    other = alerts(state, 2, alert("u3", 70, header="Bin low"))
    assert [e.event_type for e in (*first, *again, *other)] == ["triggered", "repeated", "triggered"]
    assert again[0].alarm.alarm_id == first[0].alarm.alarm_id != other[0].alarm.alarm_id
    assert again[0].alarm.rule_id == "ogmen:alert:navigation:Stuck"
    assert (again[0].alarm.occurrence_count, again[0].alarm.severity) == (2, "critical")
    assert again[0].alarm.last_triggered_at == at(60)
    assert first[0].actor == "vendor"
    records.AlarmEvent.model_validate_json(wire.encode(again[0]))


def test_an_alert_delivered_again_changes_nothing() -> None:
    state = DeviceState()
    alerts(state, 0, alert("u1"))
    assert alerts(state, 1, alert("u1", 5)) == [], "by its id"
    assert alerts(state, 1, alert("u9", 5)) == [], "by its offset"


def test_an_alert_with_an_impossible_time_happened_when_it_came() -> None:
    event = alerts(DeviceState(), 0, alert("u1", 10**9))[0]
    assert event.alarm.triggered_at == T0


def test_a_notification_is_an_alarm_by_category_code_and_type() -> None:
    inner = '{"topic":"Hygiene","description":"Due"}'
    data = '{"category":"c","code":"999998","type":"Reminder","severity":"Odd","data":' + inner + "}"
    event = wire.Event("n1", "notification", T0, data, severity="warning", title="Reminder 999998")
    made = alerts(DeviceState(), 0, event, vendor="karcher")[0]
    assert made.alarm.rule_id == "karcher:notification:c:999998:Reminder"
    assert (made.alarm.title, made.alarm.message, made.alarm.severity) == ("Hygiene", "Due", "warning")
    assert made.metadata is not None
    assert made.metadata["severity_original"] == "Odd"


def test_other_events_are_no_alarms() -> None:
    assert alerts(DeviceState(), 0, wire.Event("e", "connection_gap", T0, "{}")) == []
