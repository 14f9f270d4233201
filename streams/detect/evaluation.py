"""Judging what a condition means for the alarm of a device and rule: at once, or when its causes are known (pure).

A rule that alarms of other devices inhibit is judged later: what its condition does is kept, each with its moment on
the device's line of time, until all causes that opened up to the allowance after that moment are known
(`inhibitors`). Then it is judged, in the same order and with the same times, as if they had been known at
once. So it makes no difference to what is told how long that took. Meanwhile the device's line of time goes on.

A silence that could not trigger is tried again at the moment its causes are over; a value, with its next reading.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas import wire
from schemas.topics import ALARM_ACTIONS, READINGS
from streams.detect.inhibitors import SPANS_KEPT, Causes, comparable
from streams.detect.lifecycle import (
    REOPENABLE,
    Counts,
    DeviceState,
    HeldAction,
    RuleState,
    Subject,
    Unjudged,
    act,
    alarm_named,
    calmed,
    crossing,
    ended,
    resolve,
)
from streams.detect.rules import CompiledRule, RuleBook
from streams.detect.schedules import NEVER, Maintenance, Scope, next_allowed, windows_of

MOST_UNJUDGED = 2000
"""When more than this waits on a level of a device, the oldest is judged by the causes that are known."""

_INTERVAL_ATTRIBUTE = "reporting_interval_seconds"
_SILENCES = ("offline", "missing_data")


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a device beside what it sends."""

    device_id: str
    vendor: str
    scopes: tuple[Scope, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    maintenance: tuple[Maintenance, ...] = ()

    @property
    def interval(self) -> int | None:
        """The device's expected reporting interval in microseconds."""
        found = self.attributes.get(_INTERVAL_ATTRIBUTE)
        good = isinstance(found, int | float) and not isinstance(found, bool) and found > 0
        return round(float(found) * 1_000_000) if good and found is not None else None


@dataclass(frozen=True, slots=True)
class Terms:
    """By what all devices are judged."""

    book: RuleBook
    late_allowance: int = 0
    """So long a reading is held back for earlier ones, in microseconds."""
    maintenance: Callable[[], Sequence[Maintenance]] = tuple
    """All windows there are."""
    causes: Causes = field(default_factory=Causes)
    most_unjudged: int = MOST_UNJUDGED

    def profile(
        self, device_id: str, vendor: str, scopes: Sequence[Scope] = (), attributes: Mapping[str, Any] | None = None
    ) -> Profile:
        """The profile of a device in these scopes, beside its own and its vendor's."""
        full = (("vendor", vendor), ("device", device_id), *scopes)
        return Profile(device_id, vendor, full, attributes or {}, windows_of(self.maintenance(), full))


class Judging:
    """The alarms of one device. `state` is what has to be kept; the rest follows from it."""

    __slots__ = ("_partition", "changed", "counts", "due", "profile", "state", "terms", "told_causes")

    def __init__(self, state: DeviceState, profile: Profile, terms: Terms, counts: Counts, partition: int = 0) -> None:
        self.state = state
        self.profile = profile
        self.terms = terms
        self.counts = counts
        self.due = 0
        """Nothing happens by itself before this."""
        self.changed = False
        """The state has to be written."""
        self.told_causes: list[wire.InhibitorHistory] = []
        """To be told to the devices whose alarms these inhibit."""
        self._partition = partition

    @property
    def is_waiting(self) -> bool:
        """Whether something is to be judged when causes become known."""
        state = self.state
        return bool(state.unjudged or state.retried) or any(level for level, _, _ in state.calming.values())

    def _subject(self, offset: int) -> Subject:
        origin = wire.Origin(READINGS, self._partition, max(offset, 0))
        return Subject(self.profile.device_id, self.profile.vendor, origin)

    # -- at once

    def _evaluate(
        self, rule: CompiledRule, holds: bool | None, at: int, facts: Mapping[str, Any], subject: Subject
    ) -> Iterable[wire.AlarmEvent]:
        """The condition is true or false at `at`."""
        own = self.state
        level = rule.level
        if not level and (own.unjudged or own.retried):
            level = self._waiting_level(rule.id)
        if level:
            self._postpone(rule.id, level, holds, at, facts, subject)
            return ()
        if holds is None or (not holds and rule.id not in own.rules):
            return ()
        return self._judged(rule, holds, at, facts, subject, False, own.clock)

    def _judged(
        self,
        rule: CompiledRule,
        holds: bool,
        at: int,
        facts: Mapping[str, Any],
        subject: Subject,
        inhibited: bool,
        moment: int,
    ) -> Iterator[wire.AlarmEvent]:
        state = self.state.rules.get(rule.id)
        if state is None:
            state = self.state.rules[rule.id] = RuleState()
        was_crossing = state.since is not None
        if state.alarm is not None:
            at = max(at, state.alarm.last_triggered_at)  # of conditions on several metrics, each has its own order
        if not holds:
            yield from ended(state, rule, facts, at, subject)
            self._forget(rule, state, at)
        elif self._allowed(rule, at) == at:
            yield from crossing(state, rule, facts, at, subject, inhibited or self._inhibited(rule))
        elif not state.settled:
            state.since, state.counted = None, False
        if rule.flapping_suppress:
            self._watch_flapping(rule, state, moment, was_crossing, subject.origin.offset)

    def _watch_flapping(
        self, rule: CompiledRule, state: RuleState, moment: int, was_crossing: bool, offset: int
    ) -> None:
        """An alarm that flaps is calm so long after a crossing last began or ended."""
        calming = self.state.calming
        if state.alarm is None or not state.alarm.flapping:
            calming.pop(rule.id, None)
        elif rule.id not in calming or was_crossing is not (state.since is not None):
            level = rule.level or self._waiting_level(rule.id)
            calming[rule.id] = (level, moment + rule.flapping_within, offset)
            if not level:
                self.due = min(self.due, moment + rule.flapping_within)

    def _calmed(self, rule_id: str, at: int, subject: Subject) -> list[wire.AlarmEvent]:
        del self.state.calming[rule_id]
        known = self.state.rules.get(rule_id)
        rule = self.terms.book.at(at).of_device(rule_id, self.profile.scopes)
        return [] if known is None or rule is None else list(calmed(known, rule, at, subject))

    def _forget(self, rule: CompiledRule, state: RuleState, at: int) -> None:
        alarm = state.alarm
        over = alarm is None or (alarm.resolved_at is not None and at - alarm.resolved_at > REOPENABLE)
        if over and state.window is None and not state.ahead and not self._waiting_level(rule.id):
            del self.state.rules[rule.id]

    def _allowed(self, rule: CompiledRule, at: int) -> int:
        if rule.hours is None and not self.profile.maintenance:
            return at
        return next_allowed(rule.hours, self.profile.maintenance, rule.id, at)

    def _inhibited(self, rule: CompiledRule) -> bool:
        """By an alarm of the same device."""
        for cause in rule.inhibited_by:
            state = self.state.rules.get(cause)
            if state is not None and state.alarm is not None and state.alarm.is_open:
                return True
        return False

    # -- later

    def _waiting_level(self, rule_id: str) -> int:
        """The level on which something of this rule waits to be judged; 0: nothing does."""
        state = self.state
        if not state.unjudged and not state.retried:
            return 0
        for level, items in state.unjudged.items():
            if any(item.rule_id == rule_id for item in reversed(items)):
                return level
        return state.retried[rule_id][0] if rule_id in state.retried else 0

    def _postpone(
        self, rule_id: str, level: int, holds: bool | None, at: int, facts: Mapping[str, Any], subject: Subject
    ) -> None:
        """Keep what the condition does until it can be judged; what can change nothing is not kept."""
        state = self.state.rules.get(rule_id)
        if holds is None or (state is None and not holds):
            return
        if state is None:
            state = self.state.rules[rule_id] = RuleState()
        if holds and state.ahead and state.settled and not self._waiting_level(rule_id):
            return
        if not holds and not state.ahead and (state.since is None or self._waiting_level(rule_id)):
            return
        state.ahead = holds
        self._keep(level, Unjudged(self.state.clock, rule_id, holds, at, dict(facts), subject.origin.offset))

    def _postpone_going(self, rule_id: str, level: int) -> None:
        self.state.rules[rule_id].ahead = False
        self._keep(level, Unjudged(self.state.clock, rule_id, None, self.state.clock, {}, self.state.offset))

    def _keep(self, level: int, item: Unjudged) -> None:
        self.state.unjudged.setdefault(level, []).append(item)
        self.changed = True

    def _is_going(self, rule_id: str) -> bool:
        """Whether it has been seen that the rule went."""
        for items in self.state.unjudged.values():
            for item in reversed(items):
                if item.rule_id == rule_id:
                    return item.holds is None
        return False

    def _acted(self, held: HeldAction) -> list[wire.AlarmEvent]:
        """An operator acted: carried out at once, unless what came before is not judged."""
        if (level := self._level_of_action(held)) > 0:
            self._keep(level, Unjudged(self.state.clock, action=held))
            return []
        profile = self.profile
        return list(act(self.state, held, profile.device_id, profile.vendor, ALARM_ACTIONS, self.counts))

    def _level_of_action(self, held: HeldAction) -> int:
        if not self.is_waiting:
            return 0
        found = alarm_named(self.state, self.profile.device_id, held.action.alarm_id)
        if found is not None:
            return self._waiting_level(found[0])
        return max([*self.state.unjudged, *(level for level, _ in self.state.retried.values())], default=0)

    def judge(self, until: int) -> list[wire.AlarmEvent]:
        """Judge what waits and whose causes are known; of silences tried again, those of before `until`."""
        events: list[wire.AlarmEvent] = []
        while self.is_waiting and (found := self._next_to_judge(until)) is not None:
            level, item = found
            made = self._judge(level, item)
            if made:
                self._note_causes(item.moment)
            events += made
        return events

    def _next_to_judge(self, until: int) -> tuple[int, Unjudged] | None:
        state = self.state
        first: tuple[int, Unjudged] | None = None
        for level, items in state.unjudged.items():
            if items[0].moment < self._bound(level) and (first is None or items[0].moment < first[1].moment):
                first = level, items[0]
        for rule_id, (level, item) in state.retried.items():
            bound = min(max(until, state.clock), self._bound(level), NEVER if first is None else first[1].moment)
            # Asked first, since it is cheap and mostly says no.
            if max(item.moment, state.judged) < bound and (at := self._next_try(rule_id, item)) < bound:
                first = level, msgspec.structs.replace(item, moment=at, at=at)
        for rule_id, (level, at, offset) in state.calming.items():
            if level and at < min(
                max(until, state.clock), self._bound(level), NEVER if first is None else first[1].moment
            ):
                first = level, Unjudged(at, rule_id, offset=offset, calm=True)
        return first

    def _bound(self, level: int) -> int:
        is_too_much = len(self.state.unjudged.get(level, ())) > self.terms.most_unjudged
        return NEVER if is_too_much else self.terms.causes.bound(level)

    def _next_try(self, rule_id: str, item: Unjudged) -> int:
        """When a silence that was judged can trigger at the earliest, by the rules of each time."""
        book, start = self.terms.book, max(item.moment, self.state.judged)
        while True:
            rule = book.at(start).of_device(rule_id, self.profile.scopes)
            at = NEVER if rule is None else self._next_try_by(rule, start)
            change = book.next_change(start)
            if change is None or at < change:
                return at
            start = change

    def _next_try_by(self, rule: CompiledRule, at: int) -> int:
        known = self.state.rules.get(rule.id)
        if known is None or self._inhibited(rule):
            return NEVER
        if known.alarm is not None:
            waits = known.counted and not known.alarm.is_open
            at = max(at, known.alarm.last_triggered_at + (max(rule.cooldown, 1) if waits else 0))
        while (allowed := self._allowed(rule, self._free_from(rule, at))) != at:
            if allowed >= NEVER:
                return NEVER
            at = allowed
        return at

    def _free_from(self, rule: CompiledRule, moment: int) -> int:
        if not rule.elsewhere or moment >= NEVER:
            return moment
        return self.terms.causes.free_from(rule, self.profile.device_id, self.profile.attributes, moment)

    def _judge(self, level: int, item: Unjudged) -> list[wire.AlarmEvent]:
        state = self.state
        again = self._take(level, item)
        state.judged, self.changed = max(state.judged, item.moment), True
        if item.action is not None:
            profile = self.profile
            return list(act(state, item.action, profile.device_id, profile.vendor, ALARM_ACTIONS, self.counts))
        subject = self._subject(item.offset)
        if item.calm:
            return self._calmed(item.rule_id, item.moment, subject)
        if item.holds is None:
            return self._went(item.rule_id, item.moment, subject)
        rule = self.terms.book.at(item.moment).of_device(item.rule_id, self.profile.scopes)
        if rule is None:
            return []
        if item.holds and rule.kind in _SILENCES and not again:
            state.retried[rule.id] = (level, item)
            return []
        inhibited = item.holds and not again and self._free_from(rule, item.moment) != item.moment
        if not item.holds:
            state.retried.pop(rule.id, None)
        events = list(self._judged(rule, item.holds, item.at, item.facts, subject, inhibited, item.moment))
        if (known := state.rules.get(rule.id)) is not None and known.settled:
            state.retried.pop(rule.id, None)
        return events

    def _take(self, level: int, item: Unjudged) -> bool:
        """Take it from those that wait; whether it is one that is tried again, and stays."""
        items = self.state.unjudged.get(level)
        if not items or items[0] is not item:
            return True
        items.pop(0)
        if not items:
            del self.state.unjudged[level]
        return False

    def _went(self, rule_id: str, at: int, subject: Subject) -> list[wire.AlarmEvent]:
        """The rule was removed, disabled, or does not concern the device any more."""
        self.state.retried.pop(rule_id, None)
        self.state.calming.pop(rule_id, None)
        known = self.state.rules.pop(rule_id, None)
        if known is None:
            return []
        if known.ahead:  # the rule has come back meanwhile
            self.state.rules[rule_id] = RuleState(ahead=True)
        self._note_cause(rule_id, known, False, at)
        if known.alarm is None or not known.alarm.is_open:
            return []
        note = "the rule was removed, disabled, or no longer concerns the device"
        return [resolve(rule_id, known, known.alarm, at, subject, {}, note)]

    # -- as a cause

    def _note_causes(self, moment: int) -> None:
        """Tell which alarms that inhibit other devices' are open now, as far as that has changed."""
        for rule_id in self.terms.book.at(moment).causes:
            if (known := self.state.rules.get(rule_id)) is not None:
                self._note_cause(rule_id, known, known.alarm is not None and known.alarm.is_open, moment)

    def _note_cause(self, rule_id: str, known: RuleState, is_open: bool, moment: int) -> None:
        was_open = bool(known.spans) and known.spans[-1][1] is None
        if is_open is was_open:
            return
        if is_open:
            known.spans = [*known.spans[1 - SPANS_KEPT :], (moment, None)]
        else:
            known.spans = [*known.spans[:-1], (known.spans[-1][0], moment)]
        profile = self.profile
        self.changed = True
        self.told_causes.append(
            wire.InhibitorHistory(rule_id, profile.device_id, known.spans, comparable(profile.attributes))
        )
