"""The alarm rules at work on one device: readings and the passing of time in, alarm events out (pure).

A device has one order of events, that of receipt. `apply` takes a record to its moment in that order, and `advance`
first lets everything happen that was due before: silences and windows that ended, readings released, actions of
operators, rules that came or went. So what a watermark does early, the next record would have done in hindsight, with
the same times: watermarks decide when an alarm is emitted, never what it says (docs/adr/0007-alarm-time.md).

The parts: `agenda` knows what happens next; `thresholds`, `rates`, `silences` and `held_states` know whether
conditions hold; `evaluation_gate` decides whether a condition is evaluated now or later; `rule_evaluator` and
`lifecycle` apply it to the alarm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from schemas import wire
from schemas.timestamps import NEVER, to_micros
from streams.detect.actions import end_snooze
from streams.detect.agenda import Agenda, Due, Happening
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.evaluation_gate import EvaluationGate
from streams.detect.held_states import HeldStates
from streams.detect.inhibitor_log import InhibitorLog
from streams.detect.rates import RateRules
from streams.detect.rules import CompiledRule, RuleSet
from streams.detect.silences import SilenceRules
from streams.detect.thresholds import ThresholdRules, value_of
from streams.normalise.coverage import Receipt


class DeviceAlarms:
    """The alarms of one device under the rules."""

    __slots__ = (
        "_agenda",
        "_context",
        "_gate",
        "_held_states",
        "_rates",
        "_silences",
        "_thresholds",
        "device",
        "inhibitor_log",
    )

    def __init__(self, device: TrackedDevice, context: EvaluationContext) -> None:
        self.device = device
        self._context = context
        self.inhibitor_log = InhibitorLog(device, context)
        self._gate = EvaluationGate(device, context, self.inhibitor_log)
        self._thresholds = ThresholdRules(device, context, self._gate)
        self._rates = RateRules(device, self._gate)
        self._silences = SilenceRules(device, self._gate)
        self._held_states = HeldStates(device, context, self._gate)
        self._agenda = Agenda(device, self._rates, self._silences, self._held_states)

    # -- records

    def apply(self, observation: wire.Observation, origin: wire.Origin) -> list[wire.AlarmEvent]:
        """Apply one record of the readings, if any rule concerns it. One that was applied before changes nothing."""
        device, state, scopes = self.device, self.device.state, self.device.profile.scopes
        received = to_micros(observation.received_at)
        moment = max(received, state.processed_until)
        rules = self._context.book.at(moment)
        of_record = rules.for_record(scopes)
        concerned = [
            (reading, of_reading)
            for reading in observation.readings
            if (of_reading := rules.for_reading(reading.metric, scopes))
        ]
        if not concerned and not of_record:
            return []
        if origin.offset <= state.offset:
            device.skipped.replayed += 1
            return []
        device.receipt = Receipt(moment, is_sent=not observation.polled)
        events = self.advance(moment) if device.due < moment or state.deferred_silences else []
        state.offset, state.processed_until, device.changed = origin.offset, moment, True
        if of_record:
            events += self._apply_record(of_record, observation, received)
        if len(concerned) > 1:
            concerned.sort(key=_by_observed_at)
        for reading, of_reading in concerned:
            events += self._apply_reading(reading, of_reading, _reading_heard_at(reading, observation), received)
        self._finish(events, moment)
        device.receipt = None
        return events

    def _apply_record(
        self, rules: Sequence[CompiledRule], observation: wire.Observation, received: int
    ) -> list[wire.AlarmEvent]:
        """Apply what a record shows of when the device spoke, which for one that we asked for may be nothing new."""
        state, events = self.device.state, list[wire.AlarmEvent]()
        spoke_at, before = observation.device_heard_at, state.heard_at
        heard_at = None if spoke_at is None else to_micros(spoke_at)
        state.heard_at = _last_heard(before, heard_at, received)
        is_news = heard_at is not None and (not observation.polled or before is None or heard_at > before)
        for rule in rules:
            if rule.kind == "message_rate":
                if is_news:
                    self._rates.count_message(rule, state.heard_at)
            elif not is_news or (observation.polled and self._silences.is_too_long_ago(rule, state.heard_at)):
                self._silences.wake(rule, state.heard_at)
            else:
                events += self._silences.received(rule, state.heard_at, state.offset)
        return events

    def _apply_reading(
        self, reading: wire.Reading, rules: Sequence[CompiledRule], heard_at: int | None, received: int
    ) -> list[wire.AlarmEvent]:
        events: list[wire.AlarmEvent] = []
        thresholds = [rule for rule in rules if rule.kind == "threshold"]
        if len(thresholds) < len(rules):
            events += self._received(reading, rules, heard_at, received)
        if thresholds:
            is_timeless_state = heard_at is None  # we asked for it, and it has no time of its own
            events += self._thresholds.receive(
                reading, received, thresholds, self.device.state.offset, is_timeless_state
            )
        return events

    def _received(
        self, reading: wire.Reading, rules: Sequence[CompiledRule], heard_at: int | None, received: int
    ) -> list[wire.AlarmEvent]:
        """Apply the receipt of a reading to the rules that are not about its value."""
        metric, events, heard = reading.metric, list[wire.AlarmEvent](), self.device.state.metric_heard_at
        has_reconnected = self._rates.has_reconnected(metric, value_of(reading))
        for rule in rules:
            if rule.kind == "missing_data":
                heard[metric] = _last_heard(heard.get(metric), heard_at, received)
                is_answer = heard_at is None or heard_at < received
                if heard_at is not None and not (is_answer and self._silences.is_too_long_ago(rule, heard_at)):
                    events += self._silences.received(rule, heard[metric], self.device.state.offset)
                else:
                    self._silences.wake(rule, heard[metric])
            elif rule.kind == "reconnect_rate" and has_reconnected:
                self._rates.count_reconnection(rule)
        return events

    def _finish(self, events: list[wire.AlarmEvent], moment: int) -> None:
        """After a record: note inhibitors, and evaluate what was deferred and can be evaluated now."""
        if events:
            self.inhibitor_log.note(moment)
        if self.device.state.deferred:
            events += self._gate.run(moment)
        if events:  # what an alarm inhibited may be due now
            self.device.wake_at(moment)

    # -- the passing of time

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`, in event-time order."""
        events: list[wire.AlarmEvent] = []
        state, book = self.device.state, self._context.book
        if not (state.rules or state.held_readings or state.metric_heard_at) and state.heard_at is None:
            self._skip_to(until)
        while True:
            rules = book.at(state.processed_until)
            change = book.next_change(state.processed_until)
            bound = until if change is None else min(until, change)
            due = self._agenda.next(rules)
            if due is not None and due.at < bound:
                events += self._advance_to(due, rules)
            elif change is not None and change < until:
                state.processed_until = change
            else:
                break
        if state.awaits_inhibitors:
            events += self._gate.run(until)
        self.inhibitor_log.note(state.processed_until)  # rules may have changed, and with them which alarms inhibit
        self.device.due = min(NEVER if due is None else due.at, NEVER if change is None else change)
        return events

    def run_deferred(self, until: int) -> list[wire.AlarmEvent]:
        """Evaluate what was deferred, as far as inhibitors on other devices are known."""
        return self._gate.run(until)

    def _skip_to(self, until: int) -> None:
        """Go to a moment without looking: the device has no alarm, and nothing was heard of it."""
        state = self.device.state
        if state.held_actions and state.held_actions[0].due < until:
            state.held_actions = [held for held in state.held_actions if held.due >= until]
            self.device.changed = True
        state.processed_until = max(state.processed_until, until)

    def _advance_to(self, due: Due, rules: RuleSet) -> list[wire.AlarmEvent]:
        events: list[wire.AlarmEvent] = []
        state = self.device.state
        moment = max(state.processed_until, due.at)
        if state.deferred_silences:
            events += self._gate.run(moment)
        state.processed_until, self.device.changed = moment, True
        if happened := list(self._happen(due, rules)):
            self.inhibitor_log.note(moment)
            events += happened
        if state.deferred:
            events += self._gate.run(moment)
        return events

    def _happen(self, due: Due, rules: RuleSet) -> Iterable[wire.AlarmEvent]:
        state = self.device.state
        match due.what:
            case Happening.RULE_GONE:
                return self._gate.remove_rule(due.rule_id)
            case Happening.READING_RELEASED:
                return self._thresholds.release(rules)
            case Happening.CALMED:
                return self._gate.end_flapping(due.rule_id, due.at)
            case Happening.SNOOZE_ENDED:
                return end_snooze(self.device, due.rule_id)
            case Happening.ACTION_DUE:
                held, state.held_actions = state.held_actions[0], state.held_actions[1:]
                return self._gate.act(held)
        assert due.rule is not None
        if due.what is Happening.WINDOW_ENDED:
            return self._rates.close_window(due.rule)
        if due.what is Happening.STATE_LASTED:
            return self._held_states.lasted(due.rule, due.at)
        return self._silences.fell_silent(due.rule, due.at)


def _last_heard(before: int | None, heard_at: int | None, received: int) -> int:
    """When a device was last heard; where it never was, silence counts from the first record."""
    if heard_at is None:
        return received if before is None else before
    return heard_at if before is None else max(before, heard_at)


def _reading_heard_at(reading: wire.Reading, observation: wire.Observation) -> int | None:
    """When the device sent a reading; of what we asked for, only the vendor's sound time of it says so."""
    received = to_micros(observation.received_at)
    if not observation.polled:
        return received
    if reading.time_source != "vendor" or reading.time_quality != "ok":
        return None
    return min(to_micros(reading.observed_at), received)


def _by_observed_at(item: tuple[wire.Reading, Sequence[CompiledRule]]) -> datetime:
    return item[0].observed_at
