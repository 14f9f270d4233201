"""Rules about rates: messages or reconnections counted in windows (pure).

Windows begin at multiples of their length in UTC, by time of receipt, and are evaluated when they end.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas import wire
from streams.detect.conditions import Value, compare
from streams.detect.device import TrackedDevice
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.lifecycle import Evaluation
from streams.detect.rules import (
    CONNECTED,
    CONNECTION_STATUS,
    CONNECTION_WORDS,
    LAST_CONNECTED,
    RECONNECT_METRICS,
    CompiledRule,
)
from streams.detect.state import RuleState

_SMALL_GAPS = 0.99
"""Share of a window that has to be known for a rule about too little. A restart or a stall of ours is short."""


def _holds(rule: CompiledRule, count: int, share: float) -> bool | None:
    """Whether a rule holds by what was counted in the known share of a window; None: there may have been more.

    A rule about too little holds if the count is too low even for the known share alone.
    """
    holds = compare(rule.operator, count, rule.value)
    if share == 1:
        return holds
    match rule.operator:
        case "gt" | "gte" if holds:
            return True
        case "lt" | "lte" if not holds:
            return False
        case "lt" | "lte" if share >= _SMALL_GAPS and compare(rule.operator, count, rule.value * share):
            return True
    return None


class RateRules:
    """Counts for the rate rules of one device, and evaluates them when their windows end."""

    __slots__ = ("_device", "_gate", "_last_reconnection")

    def __init__(self, device: TrackedDevice, gate: EvaluationGate) -> None:
        self._device = device
        self._gate = gate
        self._last_reconnection: tuple[int, str] | None = None
        """Offset of the record that last showed a reconnection, and by which metric."""

    def count_message(self, rule: CompiledRule, heard_at: int) -> None:
        """Count a message that the device sent at `heard_at`, unless that was before the window.

        The window within which a device is first received is not evaluated.
        """
        moment = self._device.state.processed_until
        if heard_at <= moment - rule.window:
            return
        begin = moment - moment % rule.window
        self._count(rule, begin if begin == moment else begin + rule.window)

    def count_reconnection(self, rule: CompiledRule) -> None:
        """Count a reconnection."""
        moment = self._device.state.processed_until
        self._count(rule, moment - moment % rule.window)

    def has_reconnected(self, metric: str, value: Value | None) -> bool:
        """Whether a reading shows that the device has reconnected. Keep what it says of the connection."""
        if metric not in RECONNECT_METRICS:
            return False
        if not self._shows_reconnection(metric, value):
            return False
        if metric == LAST_CONNECTED:
            return True
        offset = self._device.state.offset
        if self._last_reconnection is not None and self._last_reconnection[0] == offset:
            return self._last_reconnection[1] == metric  # two states may show the same reconnection
        self._last_reconnection = offset, metric
        return True

    def _shows_reconnection(self, metric: str, value: Value | None) -> bool:
        state = self._device.state
        if metric == LAST_CONNECTED:
            if not isinstance(value, str):
                return False
            earlier, state.last_connected = state.last_connected, value
            return earlier not in (None, value)
        if metric == CONNECTION_STATUS and isinstance(value, str):
            value = CONNECTION_WORDS.get(value.strip().lower())
        if not isinstance(value, bool):
            return False
        known = state.connected if isinstance(state.connected, dict) else {CONNECTED: state.connected}
        now = {**known, metric: value}
        state.connected = (
            now[CONNECTED] if now.keys() == {CONNECTED} else {k: v for k, v in now.items() if v is not None}
        )
        return value and known.get(metric) is False

    def ends_at(self, rule: CompiledRule, state: RuleState) -> int | None:
        """When the window under way has to be closed; None where that has no effect until the next record."""
        if state.window_start is None or self._is_idle(rule, state):
            return None
        return state.window_start + rule.window - 1

    def close_window(self, rule: CompiledRule) -> Iterator[wire.AlarmEvent]:
        """Evaluate the window that has ended, and begin the next one."""
        rules = self._device.state.rules
        state = rules[rule.id]
        assert state.window_start is not None
        end, count = state.window_start + rule.window, state.window_count
        state.window_start, state.window_count = end, 0
        holds = _holds(rule, count, self._device.listened_share(end - rule.window, end))
        if holds is None:
            return
        facts = {"count": count, "window_seconds": rule.window / 1e6}
        yield from self._gate.evaluate(Evaluation(rule, holds, end, facts, self._device.last_subject))
        is_calm = state.alarm is None and state.crossing_since is None and not state.holds_as_received
        if is_calm and rule.kind == "reconnect_rate" and not self._device.state.deferred_level(rule.id):
            rules.pop(rule.id, None)

    def _count(self, rule: CompiledRule, first_window: int) -> None:
        moment = self._device.state.processed_until
        state = self._device.state.rules.setdefault(rule.id, RuleState())
        if state.window_start is None:
            state.window_start = first_window
        elif moment >= state.window_start + rule.window:  # idle windows in between were not closed one by one
            state.window_start = moment - moment % rule.window
        if moment >= state.window_start:
            state.window_count += 1
        self._device.wake_at(state.window_start + rule.window - 1)

    def _is_idle(self, rule: CompiledRule, state: RuleState) -> bool:
        """Whether closing empty windows changes nothing until the next record."""
        if state.window_count:
            return False
        if compare(rule.operator, 0, rule.value):
            return state.crossing_done
        return state.crossing_since is None and not state.holds_as_received
