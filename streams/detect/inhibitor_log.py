"""When a device's alarms that inhibit those of other devices were open (pure)."""

from __future__ import annotations

from schemas import wire
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.inhibitors import SPANS_KEPT, comparable
from streams.detect.state import RuleState


class InhibitorLog:
    """Keeps the open spans of one device's inhibiting alarms, and collects the changes to report."""

    __slots__ = ("_context", "_device", "unreported")

    def __init__(self, device: TrackedDevice, context: EvaluationContext) -> None:
        self._device = device
        self._context = context
        self.unreported: list[wire.InhibitorHistory] = []
        """Changes that the other devices' partitions have yet to be sent."""

    def note(self, moment: int) -> None:
        """Note which inhibiting alarms are open now."""
        for rule_id in self._context.book.at(moment).inhibiting:
            if (state := self._device.state.rules.get(rule_id)) is not None:
                self.note_rule(rule_id, state, state.has_open_alarm, moment)

    def note_rule(self, rule_id: str, state: RuleState, is_open: bool, moment: int) -> None:
        """Note whether the alarm of one rule is open."""
        was_open = bool(state.open_spans) and state.open_spans[-1][1] is None
        if is_open is was_open:
            return
        if is_open:
            state.open_spans = [*state.open_spans[1 - SPANS_KEPT :], (moment, None)]
        else:
            state.open_spans = [*state.open_spans[:-1], (state.open_spans[-1][0], moment)]
        device = self._device
        device.changed = True
        self.unreported.append(
            wire.InhibitorHistory(rule_id, device.id, state.open_spans, comparable(device.profile.attributes))
        )
