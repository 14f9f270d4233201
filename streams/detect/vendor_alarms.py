"""Vendors' own alarms at work on one device: events and the passing of time in, alarm events out (pure).

They have the life cycle of `lifecycle` and the line of time of `device_alarms`, but a state of their own: no rule has
a part in them. Ogmen's alerts are one alarm for each source and header, Kärcher's notifications one for each category,
code and type; what nothing resolves is resolved after the vendor's quiet time. WAYSCloud tells the life cycle of its
alarms itself. Repeats are known by the event's id, which derives from the vendor's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from schemas import wire
from schemas.severity import severity_of_word
from schemas.timestamps import parse_iso, to_micros
from schemas.topics import ALARM_ACTIONS, EVENTS
from streams.detect.lifecycle import (
    RECENT_EVENTS,
    VENDOR,
    AlarmFacts,
    Counts,
    DeviceState,
    RuleState,
    Subject,
    act,
    resolve,
    tell,
)
from streams.detect.schedules import NEVER

RESOLVED_KEPT = 100
"""So many resolved alarms are remembered per device: they may be reopened."""


class VendorAlarm(msgspec.Struct, frozen=True):
    """What a vendor's alert says, in our terms. `identity` tells which alarm of the device it is."""

    identity: str
    name: str
    title: str
    message: str
    severity: str
    severity_original: str | None = None


class Transition(msgspec.Struct, frozen=True):
    """One entry of the timeline of an alarm whose life cycle the vendor tells."""

    identity: str
    kind: str
    alarm: AlarmFacts
    """The alarm as it was triggered."""
    actor: str
    note: str | None = None
    occurrence_count: int | None = None
    severity_original: str | None = None


def _ogmen_alert(event: wire.Event, data: Mapping[str, Any]) -> VendorAlarm:
    """One alarm per source and header (contract.md, «Alarms»)."""
    source, header = _text(data, "source"), _text(data, "header")
    return VendorAlarm(
        f"ogmen:alert:{source}:{header}", header, header, _text(data, "body"), event.severity or "warning"
    )


def _karcher_notification(event: wire.Event, data: Mapping[str, Any]) -> VendorAlarm:
    category, code, kind = (_text(data, name) for name in ("category", "code", "type"))
    inner = data.get("data")
    inner = inner if isinstance(inner, dict) else {}
    title = _text(inner, "topic") or event.title or code
    message = _text(inner, "description") or _text(inner, "reminder") or title
    severity, original = severity_of_word(data["severity"]) if data.get("severity") is not None else ("warning", None)
    return VendorAlarm(f"karcher:notification:{category}:{code}:{kind}", title, title, message, severity, original)


def _wayscloud_entry(event: wire.Event, data: Mapping[str, Any]) -> Transition:
    """`data` holds `alarm`, as the vendor's list shows it, and `entry`, one of its timeline."""
    given, entry = data.get("alarm"), data.get("entry")
    facts: Mapping[str, Any] = given if isinstance(given, dict) else {}
    entry = entry if isinstance(entry, dict) else {}
    name = _text(facts, "id")
    triggered = _micros(facts.get("triggered_at")) or to_micros(event.occurred_at)
    title = _text(facts, "title") or event.title or name
    severity, original = severity_of_word(facts.get("severity", "warning"))
    count = entry.get("occurrence_count")
    return Transition(
        identity=f"wayscloud:alarm:{name}",
        kind=_text(entry, "event_type"),
        alarm=AlarmFacts(
            triggered,
            triggered,
            _text(facts, "rule_name") or title,
            severity,
            title,
            _text(facts, "message") or title,
            None,
            rule_id=f"wayscloud:{_text(facts, 'rule_id') or name}",
        ),
        actor=_text(entry, "actor") or VENDOR,
        note=_text(entry, "note") or None,
        occurrence_count=count if isinstance(count, int) else None,
        severity_original=original,
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return "" if value is None else str(value)


def _micros(value: object) -> int | None:
    try:
        return to_micros(parse_iso(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


_READERS: Mapping[tuple[str, str], Callable[[wire.Event, Mapping[str, Any]], VendorAlarm | Transition]] = {
    ("ogmen", "alert"): _ogmen_alert,
    ("karcher", "notification"): _karcher_notification,
    ("wayscloud", "vendor_alarm"): _wayscloud_entry,
}


def is_vendor_alarm(vendor: str, event_type: str) -> bool:
    """Whether events of this type enter the alarms' life cycle."""
    return (vendor, event_type) in _READERS


@dataclass(frozen=True, slots=True)
class VendorTerms:
    """By what vendors' alarms are judged."""

    quiet: Mapping[str, int] = field(default_factory=dict)
    """By vendor: so long after it was last told an alarm resolves, in microseconds."""
    future_after: timedelta = timedelta(hours=24)
    ancient_after: timedelta = timedelta(days=3650)


class VendorMachine:
    """The vendor's own alarms of one device. `state` is what has to be kept; the rest follows from it."""

    __slots__ = ("_partition", "_quiet", "_terms", "changed", "counts", "device_id", "due", "state", "vendor")

    def __init__(
        self, state: DeviceState, device_id: str, vendor: str, terms: VendorTerms, counts: Counts, partition: int = 0
    ) -> None:
        self.state = state
        self.device_id = device_id
        self.vendor = vendor
        self.counts = counts
        self.due = 0
        """Nothing happens by itself before this."""
        self.changed = False
        """The state has to be written."""
        self._terms = terms
        self._quiet = terms.quiet.get(vendor)
        self._partition = partition

    def apply(self, told: wire.EventSet, origin: wire.Origin) -> list[wire.AlarmEvent]:
        """Apply the vendor's alarms of one record. A record that was applied before changes nothing."""
        state = self.state
        if origin.offset <= state.offset:
            self.counts.replayed += 1
            return []
        entries = [  # read before anything changes: it may raise
            (event, reader(event, _object(event.data)))
            for event in told.events
            if (reader := _READERS.get((self.vendor, event.type))) is not None
        ]
        received = to_micros(told.received_at)
        moment = max(received, state.clock)
        events = self.advance(moment) if self.due < moment else []
        state.offset, state.clock, self.changed = origin.offset, moment, True
        subject = Subject(self.device_id, self.vendor, origin)
        for event, entry in entries:
            if event.event_id in state.recent_events:
                self.counts.replayed += 1
                continue
            state.recent_events = [*state.recent_events[1 - RECENT_EVENTS :], event.event_id]
            at = to_micros(self._sound_time(event.occurred_at, told.received_at))
            if isinstance(entry, Transition):
                events += _transition(state, entry, at, event.event_id, subject)
            else:
                events.append(_alert(state, entry, at, moment, event.event_id, subject))
        if self._quiet is not None:
            self.due = min(self.due, moment + self._quiet)
        _forget_oldest(state)
        return events

    def _sound_time(self, at: datetime, received: datetime) -> datetime:
        """An alert with a time that cannot be is an alert nevertheless: it happened when we got it."""
        terms = self._terms
        return received if at - received > terms.future_after or received - at > terms.ancient_after else at

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`, in order of time."""
        state = self.state
        events: list[wire.AlarmEvent] = []
        while (found := self._next()) is not None and found[0] < until:
            at, identity = found
            state.clock, self.changed = max(state.clock, at), True
            if identity is None:
                held, state.actions = state.actions[0], state.actions[1:]
                events += act(state, held, self.device_id, self.vendor, ALARM_ACTIONS, self.counts)
            else:
                events.append(self._fell_quiet(identity, at))
        self.due = NEVER if found is None else found[0]
        return events

    def _next(self) -> tuple[int, str | None] | None:
        """When what happens next: a name resolves, None stands for an operator's action."""
        state = self.state
        found: list[tuple[int, bool, str | None]] = []
        if self._quiet is not None:
            found += [
                (max(rule.told_at + self._quiet, state.clock), False, identity)
                for identity, rule in state.rules.items()
                if rule.told_at is not None and rule.alarm is not None and rule.alarm.is_open
            ]
        if state.actions:
            found.append((max(state.actions[0].due, state.clock), True, None))
        first = min(found, default=None, key=lambda due: due[:2])
        return None if first is None else (first[0], first[2])

    def _fell_quiet(self, identity: str, at: int) -> wire.AlarmEvent:
        rule = self.state.rules[identity]
        assert rule.alarm is not None and self._quiet is not None
        origin = wire.Origin(EVENTS, self._partition, max(self.state.offset, 0))
        subject = Subject(self.device_id, self.vendor, origin)
        facts = {"quiet_seconds": self._quiet / 1e6}
        return resolve(identity, rule, rule.alarm, at, subject, facts, "the vendor told nothing more of it")


def _object(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _alert(
    device: DeviceState, told: VendorAlarm, at: int, moment: int, event_id: str, subject: Subject
) -> wire.AlarmEvent:
    """An alert opens an alarm, or is one more occurrence of the one that is open."""
    state = device.rules.setdefault(told.identity, RuleState())
    state.told_at = moment
    facts: dict[str, Any] = {"event_id": event_id}
    if told.severity_original is not None:
        facts["severity_original"] = told.severity_original
    alarm = state.alarm
    if alarm is None or (not alarm.is_open and at > alarm.triggered_at):
        alarm = state.alarm = AlarmFacts(at, at, told.name, told.severity, told.title, told.message, None)
        return tell(told.identity, alarm, "triggered", at, subject, facts, actor=VENDOR)
    alarm.occurrence_count += 1
    alarm.last_triggered_at = max(alarm.last_triggered_at, at)
    alarm.severity, alarm.message = told.severity, told.message
    return tell(told.identity, alarm, "repeated", at, subject, facts, actor=VENDOR)


def _transition(
    device: DeviceState, told: Transition, at: int, event_id: str, subject: Subject
) -> Iterator[wire.AlarmEvent]:
    """Nothing where the alarm is already as told, or the entry is none of the life cycle (a note)."""
    facts: dict[str, Any] = {"event_id": event_id, "vendor_alarm": told.identity}
    if told.severity_original is not None:
        facts["severity_original"] = told.severity_original
    state = device.rules.get(told.identity)
    alarm = state.alarm if state is not None else None
    if alarm is None:
        if told.kind not in ("triggered", "acknowledged", "resolved", "reopened", "repeated"):
            return
        alarm = told.alarm
        device.rules[told.identity] = RuleState(alarm=alarm)
        first = told.kind == "triggered"
        note, actor = (told.note, told.actor) if first else (None, VENDOR)
        triggered_at = at if first else alarm.triggered_at
        yield tell(told.identity, alarm, "triggered", triggered_at, subject, facts, note, actor)
        if first:
            return
    if (kind := _changed(alarm, told, at)) is not None:
        alarm.severity, alarm.title, alarm.message = told.alarm.severity, told.alarm.title, told.alarm.message
        yield tell(told.identity, alarm, kind, at, subject, facts, told.note, told.actor)


def _changed(alarm: AlarmFacts, told: Transition, at: int) -> str | None:
    """What the entry makes of the alarm, which changes in place; None where nothing does."""
    if told.kind == "acknowledged" and alarm.status == "active":
        alarm.acknowledged_at = at
    elif told.kind == "resolved" and alarm.is_open:
        alarm.resolved_at = at
    elif told.kind == "reopened" and not alarm.is_open:
        alarm.resolved_at = alarm.acknowledged_at = None
    elif told.kind == "repeated" and (told.occurrence_count or 0) > alarm.occurrence_count:
        alarm.occurrence_count = told.occurrence_count or 0
        alarm.last_triggered_at = max(alarm.last_triggered_at, at)
    elif told.kind == "triggered" and at > alarm.last_triggered_at:
        alarm.occurrence_count += 1
        alarm.last_triggered_at = at
        return "repeated"
    else:
        return None
    return told.kind


def _forget_oldest(device: DeviceState) -> None:
    resolved = [
        (state.alarm.resolved_at, name)
        for name, state in device.rules.items()
        if state.alarm is not None and state.alarm.resolved_at is not None
    ]
    for _, name in sorted(resolved)[: -RESOLVED_KEPT or None]:
        del device.rules[name]
