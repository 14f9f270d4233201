"""The life cycle's functions on their own: triggering, resolving, flapping, operators' actions, at their edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from schemas import wire
from schemas.records import AlarmRule
from schemas.rules import parse_rule
from schemas.timestamps import from_micros, to_micros
from schemas.topics import ALARM_ACTIONS, READINGS
from streams.detect.actions import RECENT_ACTIONS, alarm_named, carry_out, hold_action
from streams.detect.device import Profile, TrackedDevice
from streams.detect.lifecycle import Evaluation, apply_calm, apply_false, apply_true, is_cooling
from streams.detect.rule_compiler import compile_rule
from streams.detect.rules import CompiledRule
from streams.detect.state import AlarmFacts, DeviceState, RuleState
from streams.detect.timeline import Entry, Subject, add_entry, alarm_id, resolve
from tests.support.records import ConsumedRecord

SECOND = 1_000_000
DEVICE = "karcher:1"
SUBJECT = Subject(DEVICE, "karcher", wire.Origin(READINGS, 0, 1))


def rule(**fields: Any) -> CompiledRule:
    config = {"metric": "t", "operator": "gt", "value": 40, "duration_seconds": fields.pop("duration", 0)}
    given = {"id": "hot", "name": "Hot", "rule_type": "threshold", "config": config, "auto_resolve": True}
    parsed = parse_rule({**given, "cooldown_seconds": 0, **fields})
    assert isinstance(parsed, AlarmRule)
    return compile_rule(parsed)


def evaluation(compiled: CompiledRule, seconds: float, holds: bool = True) -> Evaluation:
    return Evaluation(compiled, holds, round(seconds * SECOND), {"value": 41.0}, SUBJECT)


def kinds(events: Sequence[wire.AlarmEvent]) -> list[str]:
    return [event.event_type for event in events]


def cross(state: RuleState, compiled: CompiledRule, seconds: float, inhibited: bool = False) -> list[str]:
    return kinds(list(apply_true(state, evaluation(compiled, seconds), inhibited)))


def end(state: RuleState, compiled: CompiledRule, seconds: float) -> list[str]:
    return kinds(list(apply_false(state, evaluation(compiled, seconds, holds=False))))


def moment(seconds: float) -> datetime:
    return from_micros(round(seconds * SECOND))


# -- under a rule


def test_a_crossing_holds_from_its_duration_on() -> None:
    state, compiled = RuleState(), rule(duration=3)
    assert cross(state, compiled, 10) == []
    assert cross(state, compiled, 12.999999) == []
    assert cross(state, compiled, 13) == ["triggered"]
    assert (state.crossing_since, state.crossing_done) == (10 * SECOND, True)
    assert cross(state, compiled, 14) == []


def test_an_inhibited_crossing_does_nothing_and_triggers_afterwards() -> None:
    state, compiled = RuleState(), rule()
    assert cross(state, compiled, 10, inhibited=True) == []
    assert state.alarm is None and not state.crossing_done
    assert cross(state, compiled, 11) == ["triggered"]


def test_an_open_alarm_is_repeated_though_an_inhibitor_is_open() -> None:
    state, compiled = RuleState(), rule(auto_resolve=False)
    cross(state, compiled, 10)
    end(state, compiled, 11)
    assert cross(state, compiled, 12, inhibited=True) == ["repeated"]


@pytest.mark.parametrize(
    ("cooldown", "seconds", "cooling"),
    [(10, 19.999999, True), (10, 20, False), (0, 10, True), (0, 10.000001, False), (10, 5, True)],
)
def test_the_cooldown_ends_at_its_end(cooldown: float, seconds: float, cooling: bool) -> None:
    alarm = AlarmFacts(10 * SECOND, 10 * SECOND, "n", "major", "t", "m", None)
    assert is_cooling(alarm, rule(cooldown_seconds=cooldown), round(seconds * SECOND)) is cooling


def test_a_counted_crossing_within_the_cooldown_triggers_after_it() -> None:
    state, compiled = RuleState(), rule(cooldown_seconds=30)
    cross(state, compiled, 0)
    end(state, compiled, 1)
    assert cross(state, compiled, 2) == ["repeated"]
    assert (state.crossing_counted, state.crossing_done) == (True, False)
    assert cross(state, compiled, 3) == []
    assert cross(state, compiled, 30) == ["triggered"]


def test_only_the_end_of_a_crossing_resolves() -> None:
    state, compiled = RuleState(), rule()
    cross(state, compiled, 1)
    assert end(state, compiled, 2) == ["resolved"]
    assert state.alarm is not None
    state.alarm.resolved_at = None  # reopened
    assert end(state, compiled, 3) == []
    assert state.alarm.is_open


def test_a_latched_alarm_waits_for_its_acknowledgement() -> None:
    state, compiled = RuleState(), rule(latch=True)
    cross(state, compiled, 1)
    assert end(state, compiled, 2) == []
    assert state.awaits_acknowledgement
    cross(state, compiled, 3)
    assert not state.awaits_acknowledgement, "it is true again"
    assert state.alarm is not None
    state.alarm.acknowledged_at = 4 * SECOND
    assert end(state, compiled, 5) == ["resolved"]


def test_the_window_of_flapping_ends_at_its_end() -> None:
    compiled = rule(flapping={"count": 3, "seconds": 60})
    for last, flaps in ((59.999999, True), (60, False)):
        state = RuleState()
        for seconds in (0, 10, last):
            cross(state, compiled, seconds)
            assert state.alarm is not None
            assert state.alarm.flapping is (flaps and seconds == last)
            end(state, compiled, seconds + 0.0000005)
        assert len(state.recent_occurrences) == (3 if flaps else 2)


def test_no_more_occurrences_are_kept_than_flapping_takes() -> None:
    state, compiled = RuleState(), rule(flapping={"count": 3, "seconds": 60}, auto_resolve=False)
    for seconds in range(8):
        cross(state, compiled, seconds)
        end(state, compiled, seconds + 0.5)
    assert state.recent_occurrences == [5 * SECOND, 6 * SECOND, 7 * SECOND]


def test_a_suppressed_alarm_that_flaps_says_nothing_until_it_is_calm() -> None:
    state, compiled = RuleState(), rule(flapping={"count": 2, "seconds": 60, "suppress": True})
    assert cross(state, compiled, 0) == ["triggered"]
    assert end(state, compiled, 1) == ["resolved"]
    assert cross(state, compiled, 2) == ["triggered"]
    assert state.alarm is not None and state.alarm.flapping
    assert end(state, compiled, 3) == []
    assert cross(state, compiled, 4) == []
    assert end(state, compiled, 5) == []
    (event,) = apply_calm(state, compiled, 65 * SECOND, SUBJECT)
    assert (event.event_type, event.alarm.resolved_at, event.alarm.flapping) == ("resolved", moment(65), False)
    assert list(apply_calm(state, compiled, 66 * SECOND, SUBJECT)) == [], "it is resolved"


def test_a_suppressed_alarm_that_holds_when_it_is_calm_stays_open() -> None:
    state, compiled = RuleState(), rule(flapping={"count": 2, "seconds": 60, "suppress": True})
    cross(state, compiled, 0)
    end(state, compiled, 1)
    cross(state, compiled, 2)
    (event,) = apply_calm(state, compiled, 60 * SECOND, SUBJECT)
    assert (event.event_type, event.alarm.status, event.metadata["calm_seconds"]) == ("repeated", "active", 60)
    assert not state.awaits_acknowledgement
    latched = replace(compiled, latch=True)
    end(state, latched, 61)
    state.awaits_acknowledgement = False
    (event,) = apply_calm(state, latched, 62 * SECOND, SUBJECT)
    assert (event.event_type, state.awaits_acknowledgement) == ("repeated", True)


# -- timeline


def opened() -> tuple[RuleState, AlarmFacts]:
    alarm = AlarmFacts(10 * SECOND, 10 * SECOND, "n", "major", "t", "m", None, snoozed_until=99 * SECOND)
    return RuleState(alarm=alarm, awaits_acknowledgement=True), alarm


@pytest.mark.parametrize(("seconds", "resolved"), [(9, 10), (10, 10), (11, 11)])
def test_an_alarm_is_not_resolved_before_it_was_triggered(seconds: float, resolved: float) -> None:
    state, alarm = opened()
    event = resolve("hot", state, Entry("resolved", round(seconds * SECOND), SUBJECT, {}))
    assert alarm.resolved_at == round(resolved * SECOND)
    assert (event.event_type, event.created_at, event.alarm.resolved_at) == (
        "resolved",
        moment(resolved),
        moment(resolved),
    )


def test_resolving_ends_the_snooze_and_the_wait_for_an_acknowledgement() -> None:
    state, alarm = opened()
    event = resolve("hot", state, Entry("any", 11 * SECOND, SUBJECT, {}, "why"))
    assert (alarm.snoozed_until, state.awaits_acknowledgement) == (None, False)
    assert (event.alarm.snoozed_until, event.note, event.actor) == (None, "why", "rule_engine")


def test_entries_are_numbered_and_their_ids_derive_from_the_alarm() -> None:
    _, alarm = opened()
    first, second = (add_entry("hot", alarm, Entry("repeated", 1, SUBJECT, {"value": 1})) for _ in range(2))
    assert (first.sequence, second.sequence) == (1, 2)
    assert first.event_id != second.event_id
    assert first.alarm.alarm_id == alarm_id(DEVICE, "hot", alarm)
    assert first.metadata == {"severity": "major", "value": 1}
    alarm.rule_id = "shown"
    third = add_entry("hot", alarm, Entry("repeated", 1, SUBJECT, {}))
    assert (third.alarm.rule_id, third.alarm.alarm_id) == ("shown", first.alarm.alarm_id)


# -- operators


def tracked() -> TrackedDevice:
    state, _ = opened()
    return TrackedDevice(DeviceState(rules={"hot": state}), Profile(DEVICE, "karcher"), READINGS)


def act(device: TrackedDevice, kind: str, seconds: float = 20, name: str | None = None, **more: Any) -> list[str]:
    alarm = device.state.rules["hot"].alarm
    assert alarm is not None
    target = alarm_id(DEVICE, "hot", alarm)
    action = wire.AlarmAction(name or f"{kind} {seconds}", target, DEVICE, kind, "ops", moment(seconds), **more)
    record = ConsumedRecord(ALARM_ACTIONS, device.state.actions_offset + 1, b"", b"", round(seconds * 1000))
    assert hold_action(device.state, action, record)
    held = device.state.held_actions.pop()
    return kinds(list(carry_out(device, held)))


def test_what_an_operator_resolves_is_no_longer_snoozed() -> None:
    device = tracked()
    alarm = device.state.rules["hot"].alarm
    assert alarm is not None
    assert act(device, "snooze", until=moment(300)) == ["snoozed"]
    assert alarm.snoozed_until == 300 * SECOND
    assert act(device, "resolve", 30) == ["resolved"]
    assert (alarm.resolved_at, alarm.snoozed_until) == (30 * SECOND, None)
    assert not device.state.rules["hot"].awaits_acknowledgement
    assert act(device, "snooze", 31, until=moment(300)) == [], "it is resolved"
    assert device.skipped.void == 1


def test_acknowledging_resolves_what_waited_for_it_and_reopening_forgets_both() -> None:
    device = tracked()
    alarm = device.state.rules["hot"].alarm
    assert alarm is not None
    assert act(device, "acknowledge") == ["acknowledged", "resolved"]
    assert act(device, "acknowledge", 21) == []
    assert act(device, "reopen", 22) == ["reopened"]
    assert (alarm.resolved_at, alarm.acknowledged_at, alarm.status) == (None, None, "active")
    assert act(device, "reopen", 23) == []
    assert act(device, "acknowledge", 24) == ["acknowledged"], "nothing waited any more"


def test_an_action_is_carried_out_once_by_its_id() -> None:
    device = tracked()
    assert act(device, "snooze", 20, "one", until=moment(300)) == ["snoozed"]
    assert act(device, "snooze", 21, "one", until=moment(300)) == []
    assert device.skipped.replayed == 1
    for number in range(RECENT_ACTIONS - 1):
        act(device, "snooze", 22 + number, until=moment(300))
    assert act(device, "snooze", 900, "one", until=moment(300)) == []
    act(device, "snooze", 901, until=moment(300))
    assert len(device.state.recent_actions) == RECENT_ACTIONS
    assert act(device, "snooze", 902, "one", until=moment(300)) == ["snoozed"], "forgotten by now"


def test_actions_keep_their_order_whatever_their_stamps_and_come_once_by_offset() -> None:
    state = DeviceState()
    action = wire.AlarmAction("a", "b", DEVICE, "resolve", "ops", moment(0))
    assert hold_action(state, action, ConsumedRecord(ALARM_ACTIONS, 3, b"", b"", 2000))
    assert hold_action(state, action, ConsumedRecord(ALARM_ACTIONS, 4, b"", b"", 1000))
    assert not hold_action(state, action, ConsumedRecord(ALARM_ACTIONS, 4, b"", b"", 3000))
    assert [held.due for held in state.held_actions] == [2 * SECOND, 2 * SECOND]
    assert alarm_named(state, DEVICE, "nothing") is None
    assert to_micros(moment(2)) == 2 * SECOND
