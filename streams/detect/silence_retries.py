"""When a deferred silence can trigger: after cooldown, active hours, maintenance and inhibitors (pure)."""

from __future__ import annotations

from schemas.timestamps import NEVER
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.rule_evaluator import RuleEvaluator
from streams.detect.rules import CompiledRule
from streams.detect.state import Deferred, RuleState


def after_cooldown(state: RuleState, rule: CompiledRule, at: int) -> int:
    """The first moment not before `at` at which a silence may trigger, by the alarm there is."""
    alarm = state.alarm
    if alarm is None:
        return at
    waits = state.crossing_counted and not alarm.is_open
    return max(at, alarm.last_triggered_at + (max(rule.cooldown, 1) if waits else 0))


class SilenceRetries:
    """Finds the moment at which a deferred silence of one device is tried once more."""

    __slots__ = ("_context", "_device", "_evaluator")

    def __init__(self, device: TrackedDevice, context: EvaluationContext, evaluator: RuleEvaluator) -> None:
        self._device = device
        self._context = context
        self._evaluator = evaluator

    def next_try(self, rule_id: str, item: Deferred) -> int:
        """The earliest moment at which the silence can trigger, by the rules in force at each time."""
        book, start = self._context.book, max(item.moment, self._device.state.deferred_until)
        while True:
            rule = book.at(start).of_device(rule_id, self._device.profile.scopes)
            at = NEVER if rule is None else self._next_try_by(rule, start)
            change = book.next_change(start)
            if change is None or at < change:
                return at
            start = change

    def free_from(self, rule: CompiledRule, moment: int) -> int:
        """The first moment not before this one at which no alarm of another device inhibits the rule."""
        if not rule.remote_inhibitors or moment >= NEVER:
            return moment
        device = self._device
        return self._context.inhibitors.free_from(rule, device.id, device.profile.attributes, moment)

    def _next_try_by(self, rule: CompiledRule, at: int) -> int:
        state = self._device.state.rules.get(rule.id)
        if state is None or self._evaluator.is_inhibited(rule):
            return NEVER
        at = after_cooldown(state, rule, at)
        while (allowed := self._evaluator.next_allowed(rule, self.free_from(rule, at))) != at:
            if allowed >= NEVER:
                return NEVER
            at = allowed
        return at
