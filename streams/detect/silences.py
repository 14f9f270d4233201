"""Rules about silence: nothing received of a device, or of one of its metrics, for too long (pure)."""

from __future__ import annotations

from collections.abc import Iterable

from schemas import wire
from schemas.timestamps import NEVER, format_iso, from_micros
from streams.detect.device import TrackedDevice
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.lifecycle import Evaluation
from streams.detect.rules import CompiledRule
from streams.detect.silence_retries import after_cooldown


class SilenceRules:
    """Evaluates the rules about silence of one device."""

    __slots__ = ("_device", "_gate")

    def __init__(self, device: TrackedDevice, gate: EvaluationGate) -> None:
        self._device = device
        self._gate = gate

    def received(self, rule: CompiledRule, heard_at: int, offset: int) -> Iterable[wire.AlarmEvent]:
        """End a silence: by the record at `offset` the device spoke at `heard_at`."""
        device = self._device
        if (silence := self._max_silence(rule)) is not None:
            device.wake_at(device.listened_for(silence, heard_at))
        state = device.state.rules.get(rule.id)
        if state is None or (state.crossing_since is None and not state.holds_as_received):
            return ()
        if not self._gate.level_of(rule):
            state.holds_as_received = False
        facts = {"received_at": format_iso(from_micros(heard_at))}
        evaluation = Evaluation(rule, False, device.state.processed_until, facts, device.subject(offset))
        return self._gate.evaluate(evaluation)

    def is_too_long_ago(self, rule: CompiledRule, heard_at: int) -> bool:
        """Whether a device last heard at `heard_at` is silent for too long by now."""
        silence = self._max_silence(rule)
        return silence is not None and (
            self._device.listened_for(silence, heard_at) <= self._device.state.processed_until
        )

    def wake(self, rule: CompiledRule, heard_at: int) -> None:
        """Have the device looked at when its silence since `heard_at` is too long."""
        if (silence := self._max_silence(rule)) is not None:
            device = self._device
            device.wake_at(max(device.listened_for(silence, heard_at), device.state.processed_until))

    def silent_at(self, rule: CompiledRule, heard_at: int) -> int | None:
        """When a device last heard at `heard_at` has been silent for too long; None where that has no effect."""
        silence = self._max_silence(rule)
        if silence is None:
            return None
        due = self._device.listened_for(silence, heard_at)
        if due == NEVER:
            return None
        at = max(due, self._device.state.processed_until)
        state = self._device.state.rules.get(rule.id)
        if self._gate.level_of(rule):
            return None if state is not None and state.holds_as_received else at
        if state is not None:
            if state.crossing_done:
                return None
            at = after_cooldown(state, rule, at)
        return self._gate.may_trigger_at(rule, at)

    def fell_silent(self, rule: CompiledRule, at: int) -> Iterable[wire.AlarmEvent]:
        """Begin a silence, which became too long at this moment."""
        state = self._device.state
        heard_at = state.heard_at if rule.metric is None else state.metric_heard_at[rule.metric]
        silence = self._max_silence(rule)
        assert heard_at is not None and silence is not None
        facts = {"silent_seconds": silence / 1e6, "last_received_at": format_iso(from_micros(heard_at))}
        return self._gate.evaluate(Evaluation(rule, True, at, facts, self._device.last_subject))

    def _max_silence(self, rule: CompiledRule) -> int | None:
        """How long the device may be silent; None where its reporting interval is not known."""
        if rule.silence is not None:
            return rule.silence
        interval = self._device.profile.reporting_interval or rule.default_interval
        return None if interval is None or rule.missed_intervals is None else round(interval * rule.missed_intervals)
