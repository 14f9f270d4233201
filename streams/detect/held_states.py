"""Conditions on polled states that last without a further reading (pure).

A polled state without a time of its own is emitted when it changes, so no later reading proves that it lasted: it holds
until another value comes. What a reading per poll would have done, the passing of time does: it reaches the rule's
duration, the end of a cooldown, the beginning of active hours, or the end of an inhibition on the same device. Time in
which nobody listened does not count, since the state of that time is not known.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas import wire
from schemas.timestamps import NEVER
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.lifecycle import Evaluation
from streams.detect.rules import CompiledRule
from streams.detect.silence_retries import after_cooldown
from streams.detect.state import RuleState


class HeldStates:
    """Evaluates rules of one device whose condition is true by a polled state."""

    __slots__ = ("_context", "_device", "_gate")

    def __init__(self, device: TrackedDevice, context: EvaluationContext, gate: EvaluationGate) -> None:
        self._device = device
        self._context = context
        self._gate = gate

    def due_at(self, rule: CompiledRule, state: RuleState) -> int | None:
        """When the state will have lasted long enough to have an effect, if it does not change; None: it has none.

        A rule that alarms of other devices inhibit is evaluated by readings only.
        """
        if rule.id not in self._device.state.held_facts or state.crossing_done or self._gate.level_of(rule):
            return None
        allowance = self._context.late_allowance  # until then a reading may come that was observed before
        at = self._device.state.processed_until - allowance
        if state.crossing_since is not None:
            at = max(at, self._device.listened_for(rule.duration, state.crossing_since))
        at_last = self._first_known(rule, after_cooldown(state, rule, at))
        return None if at_last is None else at_last + allowance

    def _first_known(self, rule: CompiledRule, at: int) -> int | None:
        """The first moment not before this one at which the rule may trigger and somebody listens; None: never."""
        while at < NEVER and (allowed := self._gate.may_trigger_at(rule, at)) is not None:
            at = self._device.listened_for(1, allowed) - 1
            if at == allowed:
                return at
        return None

    def lasted(self, rule: CompiledRule, at: int) -> Iterable[wire.AlarmEvent]:
        """Evaluate the rule at the moment that `due_at` returned."""
        facts = self._device.state.held_facts[rule.id]
        observed = at - self._context.late_allowance
        return self._gate.evaluate(Evaluation(rule, True, observed, facts, self._device.last_subject))
