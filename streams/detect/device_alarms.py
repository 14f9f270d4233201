"""The alarm rules at work on one device: readings and the passing of time in, alarm events out (pure).

A device lives through one line of time, that of receipt. `apply` takes a record to its moment on it, and `advance`
first lets everything happen that was due before: silences and windows that ended, readings released, actions of
operators, rules that came or went. So what a clock tick does early, the next record would have done in hindsight, with
the same times: ticks decide when an alarm is *told*, never what it says (docs/adr/0007-alarm-time.md).

Conditions on values go by the time of observation: readings are applied in its order per metric, each held back for
the allowance for late ones; what comes later still changes nothing and is counted. Readings with a suspect time
neither.

For each rule a *crossing* begins when the condition turns true and ends when it turns false (or `clear` true). Once it
has lasted `duration_seconds` it triggers an alarm, or is counted on the one there is (`streams.detect.lifecycle`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from schemas import wire
from schemas.timestamps import format_iso, from_micros, to_micros
from streams.detect.conditions import Comparison, Latest, Node, Value, compare
from streams.detect.evaluation import Judging
from streams.detect.lifecycle import HeldReading, RuleState, Subject
from streams.detect.rules import CONNECTED, LAST_CONNECTED, RECONNECT_METRICS, CompiledRule, RuleSet
from streams.detect.schedules import NEVER


class _Due(NamedTuple):
    """The next thing that happens to a device by itself."""

    at: int
    order: int
    rank: int
    what: str
    rule: CompiledRule | None
    rule_id: str = ""


class Machine(Judging):
    """One device under the rules. `state` is what has to be kept; the rest follows from it."""

    __slots__ = ()

    # -- records

    def apply(self, observation: wire.Observation, origin: wire.Origin) -> list[wire.AlarmEvent]:
        """Apply one record of the readings, if any rule concerns it. One that was applied before changes nothing."""
        state, scopes = self.state, self.profile.scopes
        received = to_micros(observation.received_at)
        moment = max(received, state.clock)
        rules = self.terms.book.at(moment)
        of_record = rules.for_record(scopes)
        concerned = [
            (reading, found) for reading in observation.readings if (found := rules.for_reading(reading.metric, scopes))
        ]
        if not concerned and not of_record:
            return []
        if origin.offset <= state.offset:
            self.counts.replayed += 1
            return []
        events = self.advance(moment) if self.due < moment or state.retried else []
        state.offset, state.clock, self.changed = origin.offset, moment, True
        subject = self._subject(origin.offset)
        if of_record:
            state.heard = max(received, state.heard or 0)
            for rule in of_record:
                if rule.kind == "message_rate":
                    self._count(rule, moment, starts_whole=True)
                else:
                    events += self._heard(rule, state.heard, moment, subject)
        if len(concerned) > 1:
            concerned.sort(key=_by_observed_at)
        for reading, found in concerned:
            events += self._reading(reading, found, received, subject)
        if events:
            self._note_causes(moment)
        if state.unjudged:
            events += self.judge(moment)
        if events:  # what one alarm inhibited may be due now
            self.due = min(self.due, moment)
        return events

    def _heard(self, rule: CompiledRule, heard: int, moment: int, subject: Subject) -> list[wire.AlarmEvent]:
        """What it means for a rule about silence that something was received."""
        if (silence := self._silence(rule)) is not None:
            self.due = min(self.due, heard + silence)
        state = self.state.rules.get(rule.id)
        if state is None or (state.since is None and not state.ahead):
            return []
        facts = {"received_at": format_iso(from_micros(heard))}
        if level := rule.level or self._waiting_level(rule.id):
            self._postpone(rule.id, level, False, moment, facts, subject)
            return []
        state.ahead = False
        return list(self._judged(rule, False, moment, facts, subject, False, moment))

    def _reading(
        self, reading: wire.Reading, rules: Sequence[CompiledRule], received: int, subject: Subject
    ) -> list[wire.AlarmEvent]:
        events: list[wire.AlarmEvent] = []
        value = _value(reading)
        thresholds = [rule for rule in rules if rule.kind == "threshold"]
        if len(thresholds) < len(rules):
            events += self._received(reading.metric, value, rules, received, subject)
        if not thresholds:
            return events
        if reading.time_quality != "ok":
            self.counts.suspect += 1
        elif (at := self._in_time(reading)) is not None and value is not None:
            held = HeldReading(
                received + self.terms.late_allowance, at, reading.metric, value, reading.unit, subject.origin.offset
            )
            if self.terms.late_allowance:
                self.state.waiting = sorted([*self.state.waiting, held], key=_by_release)
                self.due = min(self.due, held.release)
            else:
                events += self._threshold_reading(held, thresholds, subject)
        return events

    def _received(
        self, metric: str, value: Value | None, rules: Sequence[CompiledRule], received: int, subject: Subject
    ) -> list[wire.AlarmEvent]:
        """What the receipt of a reading means for rules that do not ask for its value's condition."""
        state, events = self.state, []
        anew = metric in RECONNECT_METRICS and self._connected_anew(metric, value)
        for rule in rules:
            if rule.kind == "missing_data":
                heard = state.heard_metrics[metric] = max(received, state.heard_metrics.get(metric, received))
                events += self._heard(rule, heard, state.clock, subject)
            elif rule.kind == "reconnect_rate" and anew:
                self._count(rule, state.clock, starts_whole=False)
        return events

    def _connected_anew(self, metric: str, value: Value | None) -> bool:
        """Whether the device connected again, as far as a reading tells; remembers what it says of the connection."""
        state = self.state
        if metric == CONNECTED and isinstance(value, bool):
            before, state.connected = state.connected, value
            return value and before is False
        if metric == LAST_CONNECTED and isinstance(value, str):
            earlier, state.connected_at = state.connected_at, value
            return earlier not in (None, value)
        return False

    def _in_time(self, reading: wire.Reading) -> int | None:
        """When it was observed; None where it is older than the last reading applied."""
        at = to_micros(reading.observed_at)
        if at < self.state.observed.get(reading.metric, at):
            self.counts.late += 1
            return None
        return at

    # -- conditions on values

    def _threshold_reading(
        self, held: HeldReading, rules: Sequence[CompiledRule], subject: Subject
    ) -> list[wire.AlarmEvent]:
        state = self.state
        state.observed[held.metric] = held.at
        remembered = False
        events: list[wire.AlarmEvent] = []
        facts: dict[str, Any] = {"value": held.value} if held.unit is None else {"value": held.value, "unit": held.unit}
        for rule in rules:
            if rule.kind != "threshold":
                continue
            if rule.simple is not None:
                holds = rule.simple.holds(held.value)
            else:
                if not remembered:
                    remembered = True
                    before = state.latest.get(held.metric)
                    state.latest[held.metric] = (
                        Latest(held.at, held.value)
                        if before is None
                        else Latest(held.at, held.value, before.at, before.value)
                    )
                holds = self._composed(rule)
            events += self._evaluate(rule, holds, held.at, facts, subject)
        return events

    def _composed(self, rule: CompiledRule) -> bool | None:
        """A condition on more than one reading; within a crossing, `clear` decides if there is one."""
        state = self.state.rules.get(rule.id)
        if rule.clear is not None and state is not None and (state.ahead if rule.level else state.since is not None):
            over = self._holds(rule.clear)
            return None if over is None else not over
        return None if rule.condition is None else self._holds(rule.condition)

    def _holds(self, node: Node) -> bool | None:
        if isinstance(node, Comparison) and node.is_simple:
            found = self.state.latest.get(node.metric)
            return None if found is None else node.holds(found.value)
        return node.evaluate(self.state.latest, self.profile.attributes)

    # -- rates

    def _count(self, rule: CompiledRule, moment: int, starts_whole: bool) -> None:
        """Count one in the window of this moment. Of a device met within a window the next is the first, if asked."""
        state = self.state.rules.setdefault(rule.id, RuleState())
        begin = moment - moment % rule.window
        if state.window is None:
            state.window = begin + rule.window if starts_whole and begin != moment else begin
        elif moment >= state.window + rule.window:  # empty windows that changed nothing were not closed one by one
            state.window = begin
        if moment >= state.window:
            state.count += 1
        self.due = min(self.due, state.window + rule.window - 1)

    def _close_window(self, rule: CompiledRule, state: RuleState) -> Iterator[wire.AlarmEvent]:
        assert state.window is not None
        end, count = state.window + rule.window, state.count
        state.window, state.count = end, 0
        holds = compare(rule.operator, count, rule.value)
        facts = {"count": count, "window_seconds": rule.window / 1e6}
        yield from self._evaluate(rule, holds, end, facts, self._last_subject())
        is_calm = state.alarm is None and state.since is None and not state.ahead
        if is_calm and rule.kind == "reconnect_rate" and not self._waiting_level(rule.id):
            self.state.rules.pop(rule.id, None)

    def _window_is_idle(self, rule: CompiledRule, state: RuleState) -> bool:
        """Whether closing empty windows changes nothing until the next record."""
        if state.count:
            return False
        holds = compare(rule.operator, 0, rule.value)
        return state.settled if holds else state.since is None and not state.ahead

    # -- what happens by itself

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`, in order of time."""
        events: list[wire.AlarmEvent] = []
        state, book = self.state, self.terms.book
        if not (state.rules or state.waiting or state.heard_metrics) and state.heard is None:
            self._pass_over(until)
        while True:
            rules = book.at(state.clock)
            change = book.next_change(state.clock)
            bound = until if change is None else min(until, change)
            found = self._next(rules)
            if found is not None and found.at < bound:
                if state.retried:
                    events += self.judge(max(state.clock, found.at))
                state.clock, self.changed = max(state.clock, found.at), True
                if happened := self._happen(found, rules):
                    self._note_causes(state.clock)
                    events += happened
                if state.unjudged:
                    events += self.judge(state.clock)
            elif change is not None and change < until:
                state.clock = change
            else:
                break
        if self.is_waiting:
            events += self.judge(until)
        self._note_causes(state.clock)  # also where rules have changed, by which alarms are causes
        self.due = min(NEVER if found is None else found.at, NEVER if change is None else change)
        return events

    def _pass_over(self, until: int) -> None:
        """Nothing can happen: the device has no alarm, and nothing was heard of it."""
        if self.state.actions and self.state.actions[0].due < until:
            self.state.actions = [held for held in self.state.actions if held.due >= until]
            self.changed = True
        self.state.clock = max(self.state.clock, until)

    def _next(self, rules: RuleSet) -> _Due | None:
        """The next thing to happen; at one moment rules go, then readings are released, then time runs out, then
        operators act.
        """
        state, clock = self.state, self.state.clock
        found: list[_Due] = []
        for rule_id, known in state.rules.items():
            rule = rules.of_device(rule_id, self.profile.scopes)
            if rule is None:
                if not self._is_going(rule_id):
                    found.append(_Due(clock, 0, 0, "gone", None, rule_id))
            elif rule.window and known.window is not None and not self._window_is_idle(rule, known):
                found.append(_Due(max(clock, known.window + rule.window - 1), 2, rule.rank, "window", rule))
        if state.waiting:
            found.append(_Due(max(clock, state.waiting[0].release), 1, 0, "release", None))
        if state.heard is not None:
            for rule in rules.for_record(self.profile.scopes):
                if rule.kind != "message_rate" and (at := self._silent_at(rule, state.heard)) is not None:
                    found.append(_Due(at, 2, rule.rank, "silence", rule))
        for metric, heard in state.heard_metrics.items():
            for rule in rules.for_reading(metric, self.profile.scopes):
                if rule.kind == "missing_data" and (at := self._silent_at(rule, heard)) is not None:
                    found.append(_Due(at, 2, rule.rank, "silence", rule))
        for rule_id, (level, at, _) in state.calming.items():
            if not level:
                found.append(_Due(max(clock, at), 2, 0, "calm", None, rule_id))
        if state.actions:
            found.append(_Due(max(clock, state.actions[0].due), 3, 0, "action", None))
        return min(found, default=None, key=_by_time)

    def _happen(self, due: _Due, rules: RuleSet) -> list[wire.AlarmEvent]:
        state = self.state
        if due.what == "gone":
            return self._gone(due.rule_id)
        if due.what == "release":
            return self._release(rules)
        if due.what == "calm":
            return self._calmed(due.rule_id, due.at, self._last_subject())
        if due.what == "action":
            held, state.actions = state.actions[0], state.actions[1:]
            return self._acted(held)
        assert due.rule is not None
        if due.what == "window":
            return list(self._close_window(due.rule, state.rules[due.rule.id]))
        return self._fell_silent(due.rule, due.at)

    def _gone(self, rule_id: str) -> list[wire.AlarmEvent]:
        if level := self._waiting_level(rule_id):
            self._postpone_going(rule_id, level)
            return []
        self.state.rules[rule_id].ahead = False  # it holds of a rule that is gone: nothing comes back by it
        return self._went(rule_id, self.state.clock, self._last_subject())

    def _last_subject(self) -> Subject:
        """What happens by itself is told as of the last record applied."""
        return self._subject(self.state.offset)

    def _release(self, rules: RuleSet) -> list[wire.AlarmEvent]:
        """Apply the reading whose waiting is over, and before it all of its metric that were observed before it."""
        state = self.state
        first = state.waiting[0]
        ready = [held for held in state.waiting if held.metric == first.metric and held.at <= first.at]
        state.waiting = [held for held in state.waiting if not any(held is taken for taken in ready)]
        events: list[wire.AlarmEvent] = []
        matching = rules.for_reading(first.metric, self.profile.scopes)
        for held in sorted(ready, key=_by_observation):
            events += self._threshold_reading(held, matching, self._subject(held.offset))
        return events

    def _silent_at(self, rule: CompiledRule, heard: int) -> int | None:
        """When a device last heard then has been silent for too long, or when that is next to be looked at."""
        silence = self._silence(rule)
        if silence is None:
            return None
        at = max(heard + silence, self.state.clock)
        known = self.state.rules.get(rule.id)
        if rule.level or self._waiting_level(rule.id):
            return None if known is not None and known.ahead else at
        if self._inhibited(rule):
            return None
        if known is not None:
            if known.settled:
                return None
            if (alarm := known.alarm) is not None:
                waits = known.counted and not alarm.is_open
                at = max(at, alarm.last_triggered_at + (max(rule.cooldown, 1) if waits else 0))
        return self._allowed(rule, at)

    def _silence(self, rule: CompiledRule) -> int | None:
        if rule.silence is not None:
            return rule.silence
        interval = self.profile.interval or rule.interval
        return None if interval is None or rule.missed is None else round(interval * rule.missed)

    def _fell_silent(self, rule: CompiledRule, at: int) -> list[wire.AlarmEvent]:
        heard = self.state.heard if rule.metric is None else self.state.heard_metrics[rule.metric]
        silence = self._silence(rule)
        assert heard is not None and silence is not None
        facts = {"silent_seconds": silence / 1e6, "last_received_at": format_iso(from_micros(heard))}
        return list(self._evaluate(rule, True, at, facts, self._last_subject()))


def _by_observed_at(item: tuple[wire.Reading, Sequence[CompiledRule]]) -> datetime:
    return item[0].observed_at


def _by_release(held: HeldReading) -> tuple[int, int]:
    return held.release, held.offset


def _by_observation(held: HeldReading) -> tuple[int, int]:
    return held.at, held.offset


def _by_time(due: _Due) -> tuple[int, int, int]:
    return due.at, due.order, due.rank


def _value(reading: wire.Reading) -> Value | None:
    if reading.value_number is not None:
        return reading.value_number
    return reading.value_boolean if reading.value_boolean is not None else reading.value_text
