"""What happens to a device by itself, in event-time order (pure).

At one moment rules go first, then held readings are released, then time runs out (windows, silences, timers), then
operators act.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto
from typing import NamedTuple

from streams.detect.device import TrackedDevice
from streams.detect.held_states import HeldStates
from streams.detect.rates import RateRules
from streams.detect.rules import CompiledRule, RuleSet
from streams.detect.silences import SilenceRules


class Happening(Enum):
    """What can happen to a device by itself."""

    RULE_GONE = auto()
    READING_RELEASED = auto()
    WINDOW_ENDED = auto()
    FELL_SILENT = auto()
    CALMED = auto()
    SNOOZE_ENDED = auto()
    STATE_LASTED = auto()
    ACTION_DUE = auto()


_ORDER = {
    Happening.RULE_GONE: 0,
    Happening.READING_RELEASED: 1,
    Happening.WINDOW_ENDED: 2,
    Happening.FELL_SILENT: 2,
    Happening.CALMED: 2,
    Happening.SNOOZE_ENDED: 2,
    Happening.STATE_LASTED: 2,
    Happening.ACTION_DUE: 3,
}


class Due(NamedTuple):
    """One thing that happens to a device by itself."""

    at: int
    what: Happening
    rule_id: str = ""
    rule: CompiledRule | None = None


class Agenda:
    """Finds what happens next to one device."""

    __slots__ = ("_device", "_held_states", "_rates", "_silences")

    def __init__(
        self, device: TrackedDevice, rates: RateRules, silences: SilenceRules, held_states: HeldStates
    ) -> None:
        self._device = device
        self._rates = rates
        self._silences = silences
        self._held_states = held_states

    def next(self, rules: RuleSet) -> Due | None:
        """The next thing to happen under these rules; None: nothing does."""
        return min(self._all(rules), default=None, key=_by_time)

    def _all(self, rules: RuleSet) -> Iterator[Due]:
        state, now = self._device.state, self._device.state.processed_until
        yield from self._of_rules(rules)
        if state.held_readings:
            yield Due(max(now, state.held_readings[0].release), Happening.READING_RELEASED)
        yield from self._silent(rules)
        for rule_id, timer in state.calm_timers.items():
            if not timer.level:
                yield Due(max(now, timer.at), Happening.CALMED, rule_id)
        for rule_id, snooze in state.snooze_timers.items():
            if not snooze.level:
                yield Due(max(now, snooze.at), Happening.SNOOZE_ENDED, rule_id)
        if state.held_actions:
            yield Due(max(now, state.held_actions[0].due), Happening.ACTION_DUE)

    def _of_rules(self, rules: RuleSet) -> Iterator[Due]:
        """Rules that are gone, windows that end, and states that have lasted."""
        device, now = self._device, self._device.state.processed_until
        for rule_id, state in device.state.rules.items():
            rule = rules.of_device(rule_id, device.profile.scopes)
            if rule is None:
                if not device.state.is_removal_deferred(rule_id):
                    yield Due(now, Happening.RULE_GONE, rule_id)
            elif rule.window and (ends_at := self._rates.ends_at(rule, state)) is not None:
                yield Due(max(now, ends_at), Happening.WINDOW_ENDED, rule_id, rule)
            elif (lasted_at := self._held_states.due_at(rule, state)) is not None:
                yield Due(max(now, lasted_at), Happening.STATE_LASTED, rule_id, rule)

    def _silent(self, rules: RuleSet) -> Iterator[Due]:
        state, scopes = self._device.state, self._device.profile.scopes
        if state.heard_at is not None:
            for rule in rules.for_record(scopes):
                if rule.kind != "message_rate" and (at := self._silences.silent_at(rule, state.heard_at)) is not None:
                    yield Due(at, Happening.FELL_SILENT, rule.id, rule)
        for metric, heard_at in state.metric_heard_at.items():
            for rule in rules.for_reading(metric, scopes):
                if rule.kind == "missing_data" and (at := self._silences.silent_at(rule, heard_at)) is not None:
                    yield Due(at, Happening.FELL_SILENT, rule.id, rule)


def _by_time(due: Due) -> tuple[int, int, int]:
    return due.at, _ORDER[due.what], due.rule.rank if due.rule is not None else 0
