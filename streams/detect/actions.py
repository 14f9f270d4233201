"""What operators do to alarms: actions are held until their time has come, and then carried out once (pure)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from schemas import wire
from schemas.consumed import Record
from schemas.timestamps import to_micros
from schemas.topics import ALARM_ACTIONS
from streams.detect.device import TrackedDevice
from streams.detect.state import AlarmFacts, DeviceState, HeldAction, RuleState, SnoozeTimer
from streams.detect.timeline import Entry, Subject, add_entry, alarm_id, resolve

RECENT_ACTIONS = 64
"""Number of ids of operators' actions that are remembered per device."""


def hold_action(state: DeviceState, action: wire.AlarmAction, record: Record) -> bool:
    """Hold an action until its time has come. Return whether the record was new.

    Its place among the device's records is when it was written to Kafka, which is after what its author had seen.
    """
    if record.offset <= state.actions_offset:
        return False
    state.actions_offset = record.offset
    due = max([record.timestamp * 1000, *(held.due for held in state.held_actions[-1:])])
    state.held_actions = [*state.held_actions, HeldAction(due, record.offset, record.partition, action)]
    return True


def carry_out(device: TrackedDevice, held: HeldAction, level: int = 0) -> Iterator[wire.AlarmEvent]:
    """Carry an action out, once by its id. What cannot be done to the alarm as it stands changes nothing.

    `level`: on which the end of a snooze is deferred.
    """
    state, action = device.state, held.action
    if action.action_id in state.recent_actions:
        device.skipped.replayed += 1
        return
    named = alarm_named(state, device.id, action.alarm_id)
    if named is None:
        return  # not an alarm of this input, or no longer an alarm
    state.recent_actions = [*state.recent_actions[1 - RECENT_ACTIONS :], action.action_id]
    rule_id, rule, alarm = named
    at = to_micros(action.requested_at)
    if action.action == "resolve":  # the author's clock may be behind
        at = max(at, alarm.triggered_at)
    event_type = _apply(rule, alarm, action, at)
    if event_type is None:
        device.skipped.void += 1
        return
    facts: dict[str, Any] = {"action_id": action.action_id}
    if event_type == "snoozed" and action.until is not None:
        facts["until"] = action.until
        timer = state.snooze_timers[rule_id] = SnoozeTimer(level, to_micros(action.until), held.offset)
        device.wake_at(timer.at)
    subject = Subject(device.id, device.vendor, wire.Origin(ALARM_ACTIONS, held.partition, held.offset))
    yield add_entry(rule_id, alarm, Entry(event_type, at, subject, facts, action.note, action.actor))
    if event_type == "acknowledged" and rule.awaits_acknowledgement:
        yield resolve(rule_id, rule, Entry("resolved", at, subject, {}, "the condition had ended before"))


def end_snooze(device: TrackedDevice, rule_id: str) -> list[wire.AlarmEvent]:
    """End the snooze of a rule's alarm. Nothing happens if the alarm is no longer open."""
    timer = device.state.snooze_timers.pop(rule_id)
    rule = device.state.rules.get(rule_id)
    alarm = None if rule is None else rule.alarm
    if alarm is None or not alarm.is_open or alarm.snoozed_until != timer.at:
        return []
    alarm.snoozed_until = None
    subject = Subject(device.id, device.vendor, wire.Origin(ALARM_ACTIONS, device.partition, timer.offset))
    return [add_entry(rule_id, alarm, Entry("snooze_ended", max(timer.at, alarm.triggered_at), subject, {}))]


def alarm_named(state: DeviceState, device_id: str, name: str) -> tuple[str, RuleState, AlarmFacts] | None:
    """The alarm of this id, with the id and the state of its rule."""
    for rule_id, rule in state.rules.items():
        if rule.alarm is not None and alarm_id(device_id, rule_id, rule.alarm) == name:
            return rule_id, rule, rule.alarm
    return None


def _apply(rule: RuleState, alarm: AlarmFacts, action: wire.AlarmAction, at: int) -> str | None:
    """Change the alarm. Return the type of the timeline's entry; None where the action does not apply."""
    if action.action == "acknowledge" and alarm.status == "active":
        alarm.acknowledged_at = at
        return "acknowledged"
    if action.action == "resolve" and alarm.is_open:
        alarm.resolved_at, alarm.snoozed_until, rule.awaits_acknowledgement = at, None, False
        return "resolved"
    if action.action == "reopen" and not alarm.is_open:
        alarm.resolved_at, alarm.acknowledged_at = None, None
        return "reopened"
    if action.action == "snooze" and alarm.is_open and action.until is not None:
        alarm.snoozed_until = to_micros(action.until)
        return "snoozed"
    return None
