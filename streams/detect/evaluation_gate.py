"""The gate of all evaluations: what happens now, and what waits for inhibitors on other devices (pure).

A rule without inhibitors on other devices is evaluated at once (`rule_evaluator`).

What the condition of a rule with inhibitors on other devices does is kept, with its moment in the device's event-time
order, until all inhibitors that opened up to the allowance after that moment are known (`inhibitors`). Then it is
evaluated in the same order and with the same times as if they had been known at once. So the resulting alarms do not
depend on how long that took. Meanwhile the device's event time goes on.

A silence that could not trigger is tried once more at the moment its inhibitors end; a value, with its next reading.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from schemas import wire
from schemas.timestamps import NEVER
from streams.detect.actions import alarm_named, carry_out, end_snooze
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.inhibitor_log import InhibitorLog
from streams.detect.lifecycle import Evaluation
from streams.detect.rule_evaluator import RuleEvaluator
from streams.detect.rules import CompiledRule
from streams.detect.silence_retries import SilenceRetries
from streams.detect.state import SNOOZE_ENDS, Deferred, DeferredSilence, HeldAction, RuleState

_SILENCES = ("offline", "missing_data")


class EvaluationGate:
    """Evaluates at once what can be, and defers the rest, for one device.

    Every evaluation of a rule, and every action of an operator on its alarm, passes here.
    """

    __slots__ = ("_context", "_device", "_evaluator", "_inhibitor_log", "_retries")

    def __init__(self, device: TrackedDevice, context: EvaluationContext, inhibitor_log: InhibitorLog) -> None:
        self._device = device
        self._context = context
        self._inhibitor_log = inhibitor_log
        self._evaluator = RuleEvaluator(device, context, inhibitor_log)
        self._retries = SilenceRetries(device, context, self._evaluator)

    def level_of(self, rule: CompiledRule) -> int:
        """The level on which evaluations of the rule are deferred; 0: they are not."""
        return rule.level or self._device.state.deferred_level(rule.id)

    # -- now or later

    def evaluate(self, evaluation: Evaluation) -> Iterable[wire.AlarmEvent]:
        """Evaluate a condition at once, or defer that."""
        state, rule = self._device.state, evaluation.rule
        if level := self.level_of(rule):
            self._defer(level, evaluation)
            return ()
        if not evaluation.holds and rule.id not in state.rules:
            return ()
        return self._evaluator.evaluate(evaluation, state.processed_until)

    def may_trigger_at(self, rule: CompiledRule, at: int) -> int | None:
        """The first moment not before `at` at which the rule may trigger; None: an alarm of the device inhibits it.

        Active hours and maintenance windows are respected; inhibitors on other devices are not.
        """
        return None if self._evaluator.is_inhibited(rule) else self._evaluator.next_allowed(rule, at)

    def end_flapping(self, rule_id: str, at: int) -> list[wire.AlarmEvent]:
        """End the flapping of a rule's alarm, which is calm; for rules whose evaluations are not deferred."""
        return self._evaluator.end_flapping(rule_id, at, self._device.last_subject)

    def remove_rule(self, rule_id: str) -> list[wire.AlarmEvent]:
        """End what a rule began, which is gone, at once or after what is deferred of it."""
        state = self._device.state
        state.rules[rule_id].holds_as_received = False
        if level := state.deferred_level(rule_id):
            self._add(level, Deferred(state.processed_until, rule_id, None, state.processed_until, {}, state.offset))
            return []
        return self._evaluator.remove_rule(rule_id, state.processed_until, self._device.last_subject)

    def act(self, held: HeldAction) -> list[wire.AlarmEvent]:
        """Carry an operator's action out, at once or after what is deferred of the alarm's rule."""
        if level := self._level_of_action(held):
            self._add(level, Deferred(self._device.state.processed_until, action=held))
            return []
        return self._carry_out(held, self._device.state.processed_until)

    def _carry_out(self, held: HeldAction, moment: int) -> list[wire.AlarmEvent]:
        """Carry an action out. The end of a snooze is deferred if what the alarm's rule does is deferred."""
        named = alarm_named(self._device.state, self._device.id, held.action.alarm_id)
        rules, scopes = self._context.book.at(moment), self._device.profile.scopes
        rule = None if named is None else rules.of_device(named[0], scopes)
        return list(carry_out(self._device, held, 0 if rule is None else self.level_of(rule)))

    def _defer(self, level: int, evaluation: Evaluation) -> None:
        """Keep what the condition does; what can have no effect is not kept."""
        rules, rule_id, holds = self._device.state.rules, evaluation.rule.id, evaluation.holds
        state = rules.get(rule_id)
        if state is None:
            if not holds:
                return
            state = rules[rule_id] = RuleState()
        is_deferred = bool(self._device.state.deferred_level(rule_id))
        if holds and state.holds_as_received and state.crossing_done and not is_deferred:
            return
        if not holds and not state.holds_as_received and (state.crossing_since is None or is_deferred):
            return
        state.holds_as_received = holds
        moment, offset = self._device.state.processed_until, evaluation.subject.origin.offset
        self._add(level, Deferred(moment, rule_id, holds, evaluation.at, dict(evaluation.facts), offset))

    def _add(self, level: int, item: Deferred) -> None:
        self._device.state.deferred.setdefault(level, []).append(item)
        self._device.changed = True

    def _level_of_action(self, held: HeldAction) -> int:
        state = self._device.state
        if not state.awaits_inhibitors:
            return 0
        named = alarm_named(state, self._device.id, held.action.alarm_id)
        if named is not None:
            return state.deferred_level(named[0])
        # Something deferred may yet trigger the alarm.
        return max([*state.deferred, *(silence.level for silence in state.deferred_silences.values())], default=0)

    # -- when inhibitors are known

    def run(self, until: int) -> list[wire.AlarmEvent]:
        """Evaluate what is deferred, as far as inhibitors are known; silences tried once more, those before `until`."""
        events: list[wire.AlarmEvent] = []
        while self._device.state.awaits_inhibitors and (next_item := self._next(until)) is not None:
            level, item = next_item
            made = self._apply(level, item)
            if made:
                self._inhibitor_log.note(item.moment)
            events += made
        return events

    def _next(self, until: int) -> tuple[int, Deferred] | None:
        """The earliest item that can be evaluated, with its level."""
        state = self._device.state
        first: tuple[int, Deferred] | None = None
        for level, items in state.deferred.items():
            if items[0].moment < self._bound(level) and (first is None or items[0].moment < first[1].moment):
                first = level, items[0]
        latest = max(until, state.processed_until)
        for rule_id, silence in state.deferred_silences.items():
            bound = min(latest, self._bound(silence.level), NEVER if first is None else first[1].moment)
            # Compared first, since it is cheap and mostly false.
            if (
                max(silence.item.moment, state.deferred_until) < bound
                and (at := self._retries.next_try(rule_id, silence.item)) < bound
            ):
                first = silence.level, msgspec.structs.replace(silence.item, moment=at, at=at)
        for rule_id, timer in state.calm_timers.items():
            if timer.level and timer.at < min(
                latest, self._bound(timer.level), NEVER if first is None else first[1].moment
            ):
                first = timer.level, Deferred(timer.at, rule_id, offset=timer.offset, calm=True)
        for rule_id, snooze in state.snooze_timers.items():
            if snooze.level and snooze.at < min(
                latest, self._bound(snooze.level), NEVER if first is None else first[1].moment
            ):
                first = snooze.level, Deferred(snooze.at, rule_id, facts={SNOOZE_ENDS: True})
        return first

    def _bound(self, level: int) -> int:
        is_too_much = len(self._device.state.deferred.get(level, ())) > self._context.most_deferred
        return NEVER if is_too_much else self._context.inhibitors.evaluable_until(level)

    def _apply(self, level: int, item: Deferred) -> list[wire.AlarmEvent]:
        device, state = self._device, self._device.state
        is_retry = not self._remove(level, item)
        state.deferred_until, device.changed = max(state.deferred_until, item.moment), True
        if item.action is not None:
            return self._carry_out(item.action, item.moment)
        if item.snooze_ends:
            return end_snooze(device, item.rule_id)
        subject = device.subject(item.offset)
        if item.calm:
            return self._evaluator.end_flapping(item.rule_id, item.moment, subject)
        if item.holds is None:
            return self._evaluator.remove_rule(item.rule_id, item.moment, subject)
        rule = self._context.book.at(item.moment).of_device(item.rule_id, device.profile.scopes)
        if rule is None:
            return []
        if item.holds and rule.kind in _SILENCES and not is_retry:
            state.deferred_silences[rule.id] = DeferredSilence(level, item)
            return []
        if not item.holds:
            state.deferred_silences.pop(rule.id, None)
        inhibited = item.holds and not is_retry and self._retries.free_from(rule, item.moment) != item.moment
        evaluation = Evaluation(rule, item.holds, item.at, item.facts, subject)
        events = list(self._evaluator.evaluate(evaluation, item.moment, inhibited))
        if (known := state.rules.get(rule.id)) is not None and known.crossing_done:
            state.deferred_silences.pop(rule.id, None)
        return events

    def _remove(self, level: int, item: Deferred) -> bool:
        """Remove an item from those that wait. Return False for a retried silence or a timer, which are not of them."""
        items = self._device.state.deferred.get(level)
        if not items or items[0] is not item:
            return False
        items.pop(0)
        if not items:
            del self._device.state.deferred[level]
        return True
