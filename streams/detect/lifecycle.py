"""The life cycle of an alarm under a rule: what a true or false condition does to the alarm (pure).

One open alarm per device and rule. All ids derive from what happened, so a replay gives the same ones. Times are in
microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from schemas import wire
from schemas.device import split_device_id
from streams.detect.rules import CompiledRule
from streams.detect.state import AlarmFacts, RuleState
from streams.detect.timeline import Entry, Subject, add_entry, resolve

REOPENABLE = 30 * 86400 * 1_000_000
"""A resolved alarm is forgotten when the next reading comes this long after it was resolved; until then it can be
reopened."""


class Evaluation(NamedTuple):
    """Whether a rule's condition holds at a moment, and what shows it."""

    rule: CompiledRule
    holds: bool
    at: int
    """Microseconds since the epoch."""
    facts: Mapping[str, Any]
    subject: Subject

    def entry(self, event_type: str, note: str | None = None) -> Entry:
        """An entry of the timeline that says what was evaluated."""
        return Entry(event_type, self.at, self.subject, self.facts, note)


def is_cooling(alarm: AlarmFacts, rule: CompiledRule, at: int) -> bool:
    """Within the cooldown; also at the very moment of the trigger, since the alarm's id derives from it."""
    return at - alarm.last_triggered_at < rule.cooldown or at <= alarm.last_triggered_at


def apply_true(state: RuleState, evaluation: Evaluation, inhibited: bool) -> Iterator[wire.AlarmEvent]:
    """Apply a true condition to the alarm of the device and rule."""
    rule, at = evaluation.rule, evaluation.at
    state.awaits_acknowledgement = False
    if state.crossing_since is None:
        state.crossing_since = at
    if state.crossing_done or at - state.crossing_since < rule.duration:
        return
    alarm = state.alarm
    if alarm is not None and alarm.is_open:
        state.crossing_done = True
        if not is_cooling(alarm, rule, at):
            alarm.last_triggered_at = at
        yield from _repeat(state, alarm, evaluation)
    elif inhibited:
        return  # an inhibitor is open; if the condition still holds when it ends, the alarm triggers then
    elif alarm is not None and is_cooling(alarm, rule, at):
        if not state.crossing_counted:
            yield from _repeat(state, alarm, evaluation, "within the cooldown")
    else:
        yield _trigger(state, evaluation)


def apply_false(state: RuleState, evaluation: Evaluation) -> Iterator[wire.AlarmEvent]:
    """Apply a false condition. Only the end of a crossing resolves, so that what was reopened stays open."""
    rule, alarm = evaluation.rule, state.alarm
    was_crossing = state.crossing_since is not None
    state.crossing_since, state.crossing_counted, state.crossing_done = None, False, False
    if was_crossing and alarm is not None and alarm.is_open and rule.auto_resolve:
        if rule.flapping_suppress and alarm.flapping:
            return  # it resolves when it is calm
        if rule.latch and alarm.acknowledged_at is None:
            state.awaits_acknowledgement = True
        else:
            yield resolve(rule.id, state, evaluation.entry("resolved"))


def apply_calm(state: RuleState, rule: CompiledRule, at: int, subject: Subject) -> Iterator[wire.AlarmEvent]:
    """End the flapping of an alarm after no crossing has begun or ended for `flapping.seconds`."""
    alarm = state.alarm
    if alarm is None:
        return
    alarm.flapping = False
    if not alarm.is_open:
        return
    facts = {"calm_seconds": rule.flapping_within / 1e6}
    note = f"no longer flapping, {alarm.occurrence_count} occurrences in all"
    entry = Entry("repeated", at, subject, facts, note)
    is_over = state.crossing_since is None and rule.auto_resolve
    if is_over and not (rule.latch and alarm.acknowledged_at is None):
        yield resolve(rule.id, state, entry)
        return
    state.awaits_acknowledgement = is_over
    yield add_entry(rule.id, alarm, entry)


def _trigger(state: RuleState, evaluation: Evaluation) -> wire.AlarmEvent:
    rule = evaluation.rule
    state.crossing_done = True
    alarm = state.alarm = _new_alarm(evaluation)
    _record_occurrence(state, alarm, rule, evaluation.at)
    if rule.severity_original is not None:
        evaluation = evaluation._replace(facts={**evaluation.facts, "severity_original": rule.severity_original})
    return add_entry(rule.id, alarm, evaluation.entry("triggered"))


def _repeat(
    state: RuleState, alarm: AlarmFacts, evaluation: Evaluation, note: str | None = None
) -> Iterator[wire.AlarmEvent]:
    rule = evaluation.rule
    state.crossing_counted = True
    alarm.occurrence_count += 1
    is_known_to_flap = alarm.flapping and rule.flapping_suppress
    _record_occurrence(state, alarm, rule, evaluation.at)
    if not is_known_to_flap:
        yield add_entry(rule.id, alarm, evaluation.entry("repeated", note))


def _record_occurrence(state: RuleState, alarm: AlarmFacts, rule: CompiledRule, at: int) -> None:
    """Mark the alarm as flapping while it occurs too often; one that is suppressed stays so until it is calm."""
    recent = [moment for moment in state.recent_occurrences if at - moment < rule.flapping_within]
    state.recent_occurrences = [*recent[1 - rule.flapping_count :], at]
    stays_flapping = alarm.flapping and rule.flapping_suppress
    alarm.flapping = stays_flapping or len(state.recent_occurrences) >= rule.flapping_count


def _new_alarm(evaluation: Evaluation) -> AlarmFacts:
    rule, at = evaluation.rule, evaluation.at
    return AlarmFacts(
        triggered_at=at,
        last_triggered_at=at,
        rule_name=rule.name,
        severity=rule.severity,
        title=f"{rule.name}: {split_device_id(evaluation.subject.device_id)[1]}",
        message=_message(rule, evaluation.facts),
        metric=rule.metric,
    )


def _message(rule: CompiledRule, facts: Mapping[str, Any]) -> str:
    if (silent := facts.get("silent_seconds")) is not None:
        return f"{rule.text} for {silent:g} s"
    if (count := facts.get("count")) is not None:
        return f"{rule.text}; now {count:g}"
    lasting = f" for {rule.duration / 1e6:g} s" if rule.duration else ""
    now = " ".join(str(facts[name]) for name in ("value", "unit") if name in facts)
    return f"{rule.text}{lasting}; now {now}"
