"""Threshold rules: conditions on values, by the time of observation (pure).

Readings are applied in the order of observation per metric, each held back by the allowance for late ones. What comes
later than that changes nothing and is counted; nor do readings with a suspect time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas import wire
from schemas.timestamps import to_micros
from streams.detect.conditions import Comparison, Latest, Node, Value
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.lifecycle import Evaluation
from streams.detect.rules import CompiledRule, RuleSet
from streams.detect.state import HeldReading
from streams.detect.timeline import Subject


class ThresholdRules:
    """Applies readings to the threshold rules of one device."""

    __slots__ = ("_context", "_device", "_gate")

    def __init__(self, device: TrackedDevice, context: EvaluationContext, gate: EvaluationGate) -> None:
        self._device = device
        self._context = context
        self._gate = gate

    def receive(
        self,
        reading: wire.Reading,
        received: int,
        rules: Sequence[CompiledRule],
        offset: int,
        is_timeless_state: bool = False,
    ) -> Sequence[wire.AlarmEvent]:
        """Apply a reading to threshold rules, or hold it back for late ones.

        `is_timeless_state`: it is a polled state without a time of its own (`held_states`).
        """
        device = self._device
        if reading.time_quality != "ok":
            device.skipped.suspect += 1
            return ()
        at = to_micros(reading.observed_at)
        if at < device.state.observed_until.get(reading.metric, at):
            device.skipped.late += 1
            return ()
        value = value_of(reading)
        if value is None:
            return ()
        self._note_source(reading.metric, is_timeless_state)
        allowance = self._context.late_allowance
        held = HeldReading(received + allowance, at, reading.metric, value, reading.unit, offset)
        if not allowance:
            return self._apply(held, rules)
        device.state.held_readings = sorted([*device.state.held_readings, held], key=_by_release)
        device.wake_at(held.release)
        return ()

    def release(self, rules: RuleSet) -> list[wire.AlarmEvent]:
        """Apply the reading that is due, and before it all of its metric that were observed before it."""
        state = self._device.state
        first = state.held_readings[0]
        ready = [held for held in state.held_readings if held.metric == first.metric and held.at <= first.at]
        state.held_readings = [held for held in state.held_readings if not any(held is taken for taken in ready)]
        events: list[wire.AlarmEvent] = []
        concerned = rules.for_reading(first.metric, self._device.profile.scopes)
        thresholds = [rule for rule in concerned if rule.kind == "threshold"]
        for held in sorted(ready, key=_by_observation):
            events += self._apply(held, thresholds)
        return events

    def _apply(self, held: HeldReading, rules: Sequence[CompiledRule]) -> list[wire.AlarmEvent]:
        state = self._device.state
        state.observed_until[held.metric] = held.at
        is_remembered = False
        subject: Subject | None = None
        events: list[wire.AlarmEvent] = []
        for rule in rules:
            if rule.simple is not None:
                holds = rule.simple.holds(held.value)
            else:
                if not is_remembered:
                    is_remembered = True
                    self._remember(held)
                holds = self._composed(rule)
            # An unknown condition changes nothing, nor does a false one of a rule without a state: mostly so.
            if holds or (holds is not None and rule.id in state.rules):
                subject = subject or self._device.subject(held.offset)
                events += self._gate.evaluate(Evaluation(rule, holds, held.at, _facts(held), subject))
                self._note_held(rule, held if holds else None)
        return events

    def _note_source(self, metric: str, is_timeless_state: bool) -> None:
        """Note whether readings of a metric are polled states, which hold until they change."""
        polled = self._device.state.polled_metrics
        if is_timeless_state and metric not in polled:
            self._device.state.polled_metrics = [*polled, metric]
        elif polled and not is_timeless_state and metric in polled:
            self._device.state.polled_metrics = [other for other in polled if other != metric]

    def _note_held(self, rule: CompiledRule, held: HeldReading | None) -> None:
        """Note whether the rule's condition is true by a polled state, which may have an effect by lasting."""
        state = self._device.state
        if held is not None and held.metric in state.polled_metrics and rule.id in state.rules:
            state.held_facts[rule.id] = _facts(held)
            self._device.wake_at(state.processed_until)
        elif state.held_facts:
            state.held_facts.pop(rule.id, None)

    def _remember(self, held: HeldReading) -> None:
        """Keep a reading and the one before it, for conditions on several readings."""
        latest = self._device.state.latest
        before = latest.get(held.metric)
        latest[held.metric] = (
            Latest(held.at, held.value) if before is None else Latest(held.at, held.value, before.at, before.value)
        )

    def _composed(self, rule: CompiledRule) -> bool | None:
        """A condition on several readings. Within a crossing `clear` decides, if there is one."""
        state = self._device.state.rules.get(rule.id)
        if rule.clear is not None and state is not None:
            is_crossing = state.holds_as_received if rule.level else state.crossing_since is not None
            if is_crossing:
                is_over = self._holds(rule.clear)
                return None if is_over is None else not is_over
        return None if rule.condition is None else self._holds(rule.condition)

    def _holds(self, node: Node) -> bool | None:
        if isinstance(node, Comparison) and node.is_simple:
            reading = self._device.state.latest.get(node.metric)
            return None if reading is None else node.holds(reading.value)
        return node.evaluate(self._device.state.latest, self._device.profile.attributes)


def value_of(reading: wire.Reading) -> Value | None:
    """The value that conditions compare; None for a structured one."""
    if reading.value_number is not None:
        return reading.value_number
    return reading.value_boolean if reading.value_boolean is not None else reading.value_text


def _facts(held: HeldReading) -> dict[str, Any]:
    return {"value": held.value} if held.unit is None else {"value": held.value, "unit": held.unit}


def _by_release(held: HeldReading) -> tuple[int, int]:
    return held.release, held.offset


def _by_observation(held: HeldReading) -> tuple[int, int]:
    return held.at, held.offset
