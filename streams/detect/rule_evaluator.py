"""Evaluation: what a condition does to the alarm of a device and rule, now (pure).

`evaluation_gate` decides whether a condition is evaluated at once or when the inhibitors on other devices are known.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas import wire
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.inhibitor_log import InhibitorLog
from streams.detect.lifecycle import REOPENABLE, Evaluation, apply_calm, apply_false, apply_true
from streams.detect.rules import CompiledRule
from streams.detect.schedules import next_allowed
from streams.detect.state import CalmTimer, RuleState
from streams.detect.timeline import Entry, Subject, resolve


class RuleEvaluator:
    """Applies conditions to the alarms of one device."""

    __slots__ = ("_context", "_device", "_inhibitor_log")

    def __init__(self, device: TrackedDevice, context: EvaluationContext, inhibitor_log: InhibitorLog) -> None:
        self._device = device
        self._context = context
        self._inhibitor_log = inhibitor_log

    def evaluate(self, evaluation: Evaluation, moment: int, inhibited: bool = False) -> Iterator[wire.AlarmEvent]:
        """Apply a condition that is true or false.

        `moment` is when that became known in the device's event-time order. `inhibited`: by an alarm of another device.
        """
        rules, rule = self._device.state.rules, evaluation.rule
        state = rules.get(rule.id)
        if state is None:
            state = rules[rule.id] = RuleState()
        was_crossing = state.crossing_since is not None
        if state.alarm is not None and evaluation.at < state.alarm.last_triggered_at:
            # Of conditions on several metrics, each metric has an order of its own.
            evaluation = evaluation._replace(at=state.alarm.last_triggered_at)
        if not evaluation.holds:
            yield from apply_false(state, evaluation)
            self._forget(rule, state, evaluation.at)
        elif self.next_allowed(rule, evaluation.at) == evaluation.at:
            yield from apply_true(state, evaluation, inhibited or self.is_inhibited(rule))
        elif not state.crossing_done:  # outside its hours a crossing that has triggered nothing begins anew
            state.crossing_since, state.crossing_counted = None, False
        if rule.flapping_suppress:
            self._set_calm_timer(evaluation, state, moment, was_crossing)

    def next_allowed(self, rule: CompiledRule, at: int) -> int:
        """The first moment not before `at` that lies in the active hours and outside of maintenance windows."""
        windows = self._device.profile.maintenance
        if rule.schedule is None and not windows:
            return at
        return next_allowed(rule.schedule, windows, rule.id, at)

    def is_inhibited(self, rule: CompiledRule) -> bool:
        """Whether an open alarm of the same device inhibits the rule."""
        rules = self._device.state.rules
        for inhibitor in rule.local_inhibitors:
            state = rules.get(inhibitor)
            if state is not None and state.has_open_alarm:
                return True
        return False

    def end_flapping(self, rule_id: str, at: int, subject: Subject) -> list[wire.AlarmEvent]:
        """End the flapping of a rule's alarm, which is calm."""
        del self._device.state.calm_timers[rule_id]
        state = self._device.state.rules.get(rule_id)
        rule = self._context.book.at(at).of_device(rule_id, self._device.profile.scopes)
        return [] if state is None or rule is None else list(apply_calm(state, rule, at, subject))

    def remove_rule(self, rule_id: str, at: int, subject: Subject) -> list[wire.AlarmEvent]:
        """End what a rule began, which was removed or disabled, or no longer concerns the device."""
        rules = self._device.state.rules
        self._device.state.deferred_silences.pop(rule_id, None)
        self._device.state.held_facts.pop(rule_id, None)
        self._device.state.calm_timers.pop(rule_id, None)
        self._device.state.snooze_timers.pop(rule_id, None)
        state = rules.pop(rule_id, None)
        if state is None:
            return []
        if state.holds_as_received:  # the rule has come back meanwhile
            rules[rule_id] = RuleState(holds_as_received=True)
        self._inhibitor_log.note_rule(rule_id, state, False, at)
        if not state.has_open_alarm:
            return []
        note = "the rule was removed, disabled, or no longer concerns the device"
        return [resolve(rule_id, state, Entry("resolved", at, subject, {}, note))]

    def _set_calm_timer(self, evaluation: Evaluation, state: RuleState, moment: int, was_crossing: bool) -> None:
        """Have the alarm calm `flapping.seconds` after a crossing last began or ended."""
        device, rule = self._device, evaluation.rule
        timers = device.state.calm_timers
        if state.alarm is None or not state.alarm.flapping:
            timers.pop(rule.id, None)
        elif rule.id not in timers or was_crossing is not (state.crossing_since is not None):
            level = rule.level or device.state.deferred_level(rule.id)
            at = moment + rule.flapping_within
            timers[rule.id] = CalmTimer(level, at, evaluation.subject.origin.offset)
            if not level:
                device.wake_at(at)

    def _forget(self, rule: CompiledRule, state: RuleState, at: int) -> None:
        """Forget where the rule stands when nothing of it can matter any more."""
        alarm = state.alarm
        is_over = alarm is None or (alarm.resolved_at is not None and at - alarm.resolved_at > REOPENABLE)
        is_idle = state.window_start is None and not state.holds_as_received
        if is_over and is_idle and not self._device.state.deferred_level(rule.id):
            del self._device.state.rules[rule.id]
