"""Vendors' own alarms at work on one device: events and the passing of time in, alarm events out (pure).

They have the life cycle and the event-time order of the rules' alarms (`lifecycle`, `device_alarms`), but a state of
their own: no rule has a part in them. An alarm that its vendor never resolves is resolved after the vendor's quiet
time. Duplicates are recognised by the event's id, which derives from the vendor's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, auto
from typing import Any, NamedTuple

from schemas import wire
from schemas.timestamps import NEVER, to_micros
from streams.detect.actions import carry_out, end_snooze
from streams.detect.device import TrackedDevice
from streams.detect.rules import RuleSet
from streams.detect.schedules import Scope
from streams.detect.state import AlarmFacts, DeviceState, RuleState
from streams.detect.timeline import VENDOR, Entry, Subject, add_entry, resolve
from streams.detect.vendor_alerts import Transition, VendorAlert, readers
from streams.normalise.coverage import Receipt

RECENT_EVENTS = 256
"""Number of ids of vendors' alerts that are kept per device, to recognise duplicates."""
RESOLVED_KEPT = 100
"""Number of resolved alarms that are kept per device, since they may be reopened."""

_KINDS = ("triggered", "acknowledged", "resolved", "reopened", "repeated")


@dataclass(frozen=True, slots=True)
class VendorAlarmSettings:
    """What the evaluation of vendors' alarms depends on."""

    quiet: Mapping[str, int] = field(default_factory=dict)
    """By vendor: how long after its last report an alarm resolves, in microseconds."""
    future_after: timedelta = timedelta(hours=24)
    ancient_after: timedelta = timedelta(days=3650)


class RulesInForce(NamedTuple):
    """The rules that our engine evaluates for one device."""

    rules: RuleSet
    scopes: Sequence[Scope]

    def has(self, rule_id: str) -> bool:
        """Whether the rule is among them."""
        return self.rules.of_device(rule_id, self.scopes) is not None


NO_RULES = RulesInForce(RuleSet(()), ())


class _Report(NamedTuple):
    """An event about an alarm, and when it happened and was received (microseconds)."""

    event_id: str
    at: int
    moment: int
    subject: Subject

    def facts(self, severity_original: str | None, **more: Any) -> dict[str, Any]:
        """The facts that a timeline entry shows."""
        original = {} if severity_original is None else {"severity_original": severity_original}
        return {"event_id": self.event_id, **more, **original}


class _What(IntEnum):
    """What can happen by itself, in the order in which it happens at one moment."""

    FELL_QUIET = auto()
    SNOOZE_ENDED = auto()
    ACTION_DUE = auto()


class _Due(NamedTuple):
    """Ordered by these fields."""

    at: int
    what: _What
    identity: str = ""


class VendorAlarms:
    """The vendor's own alarms of one device."""

    __slots__ = ("_quiet", "_settings", "device")

    def __init__(self, device: TrackedDevice, settings: VendorAlarmSettings) -> None:
        self.device = device
        self._settings = settings
        self._quiet = settings.quiet.get(device.vendor)

    def apply(
        self, event_set: wire.EventSet, origin: wire.Origin, in_force: RulesInForce = NO_RULES
    ) -> list[wire.AlarmEvent]:
        """Apply the vendor's alarms of one record. A record that was applied before changes nothing.

        An alarm of a rule that is `in_force` stays an event, since our engine raises the alarm.
        """
        device, state = self.device, self.device.state
        if origin.offset <= state.offset:
            device.skipped.replayed += 1
            return []
        entries = self._read(event_set)  # before anything changes, since it may raise
        received = to_micros(event_set.received_at)
        moment = max(received, state.processed_until)
        device.receipt = Receipt(moment, is_sent=False)
        events = self.advance(moment) if device.due < moment else []
        device.receipt = None
        state.offset, state.processed_until, device.changed = origin.offset, moment, True
        subject = Subject(device.id, device.vendor, origin)
        for event, entry in entries:
            if event.event_id in state.recent_events:
                device.skipped.replayed += 1
                continue
            if isinstance(entry, Transition) and _is_ours(state, entry, in_force):
                continue
            state.recent_events = [*state.recent_events[1 - RECENT_EVENTS :], event.event_id]
            at = to_micros(self._sound_time(event.occurred_at, event_set.received_at))
            report = _Report(event.event_id, at, moment, subject)
            if isinstance(entry, Transition):
                events += _apply_transition(state, entry, report)
            else:
                events.append(_apply_alert(state, entry, report))
        if self._quiet is not None:
            device.wake_at(device.listened_for(self._quiet, moment))
        _forget_oldest(state)
        return events

    def _read(self, event_set: wire.EventSet) -> list[tuple[wire.Event, VendorAlert | Transition]]:
        return [
            (event, reader(event, _object(event.data)))
            for event in event_set.events
            if (reader := readers().get((self.device.vendor, event.type))) is not None
        ]

    def _sound_time(self, at: datetime, received: datetime) -> datetime:
        """The time of an alert; its receipt, where the vendor's time is impossible."""
        settings = self._settings
        return received if at - received > settings.future_after or received - at > settings.ancient_after else at

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`, in event-time order."""
        device, state = self.device, self.device.state
        events: list[wire.AlarmEvent] = []
        while (due := self._next()) is not None and due.at < until:
            state.processed_until, device.changed = max(state.processed_until, due.at), True
            match due.what:
                case _What.ACTION_DUE:
                    held, state.held_actions = state.held_actions[0], state.held_actions[1:]
                    events += carry_out(device, held)
                case _What.SNOOZE_ENDED:
                    events += end_snooze(device, due.identity)
                case _What.FELL_QUIET:
                    events.append(self._fell_quiet(due.identity, due.at))
        device.due = NEVER if due is None else due.at
        return events

    def _next(self) -> _Due | None:
        """What happens next. At one moment, alarms resolve first, then snoozes end, then operators act.

        Several alarms do so in order of their identities.
        """
        state = self.device.state
        due = [
            _Due(max(timer.at, state.processed_until), _What.SNOOZE_ENDED, identity)
            for identity, timer in state.snooze_timers.items()
        ]
        if self._quiet is not None:
            due += [
                _Due(max(at, state.processed_until), _What.FELL_QUIET, identity)
                for identity, rule in state.rules.items()
                if rule.last_reported_at is not None
                and rule.has_open_alarm
                and (at := self.device.listened_for(self._quiet, rule.last_reported_at)) < NEVER
            ]
        if state.held_actions:
            due.append(_Due(max(state.held_actions[0].due, state.processed_until), _What.ACTION_DUE))
        return min(due, default=None)

    def _fell_quiet(self, identity: str, at: int) -> wire.AlarmEvent:
        assert self._quiet is not None
        facts = {"quiet_seconds": self._quiet / 1e6}
        note = "the vendor told nothing more of it"
        entry = Entry("resolved", at, self.device.last_subject, facts, note)
        return resolve(identity, self.device.state.rules[identity], entry)


def _is_ours(device: DeviceState, transition: Transition, in_force: RulesInForce) -> bool:
    """Whether our engine raises the alarm. One that was taken before its rule was in force goes on to its end."""
    return transition.identity not in device.rules and in_force.has(transition.rule_id)


def _object(text: str) -> Mapping[str, Any]:
    value = json.loads(text)
    return value if isinstance(value, dict) else {}


def _apply_alert(device: DeviceState, alert: VendorAlert, report: _Report) -> wire.AlarmEvent:
    """Open an alarm, or add one more occurrence to the open one."""
    state = device.rules.setdefault(alert.identity, RuleState())
    state.last_reported_at = report.moment
    at, alarm = report.at, state.alarm
    facts = report.facts(alert.severity_original)
    if alarm is None or (not alarm.is_open and at > alarm.triggered_at):
        alarm = state.alarm = AlarmFacts(at, at, alert.name, alert.severity, alert.title, alert.message, None)
        return add_entry(alert.identity, alarm, Entry("triggered", at, report.subject, facts, actor=VENDOR))
    alarm.occurrence_count += 1
    alarm.last_triggered_at = max(alarm.last_triggered_at, at)
    alarm.severity, alarm.message = alert.severity, alert.message
    return add_entry(alert.identity, alarm, Entry("repeated", at, report.subject, facts, actor=VENDOR))


def _apply_transition(device: DeviceState, transition: Transition, report: _Report) -> Iterator[wire.AlarmEvent]:
    """Apply an entry of the vendor's timeline.

    Nothing happens if the alarm is already so, or if the entry is not of the life cycle (a note).
    """
    identity = transition.identity
    facts = report.facts(transition.severity_original, vendor_alarm=identity)
    state = device.rules.get(identity)
    alarm = state.alarm if state is not None else None
    if alarm is None:
        if transition.kind not in _KINDS:
            return
        alarm = transition.alarm
        device.rules[identity] = RuleState(alarm=alarm)
        if transition.kind == "triggered":
            note, actor = transition.note, transition.actor
            yield add_entry(identity, alarm, Entry("triggered", report.at, report.subject, facts, note, actor))
            return
        at = alarm.triggered_at
        yield add_entry(identity, alarm, Entry("triggered", at, report.subject, facts, actor=VENDOR))
    if (kind := _change(alarm, transition, report.at)) is not None:
        changed = transition.alarm
        alarm.severity, alarm.title, alarm.message = changed.severity, changed.title, changed.message
        at = report.at if kind != "resolved" or alarm.resolved_at is None else alarm.resolved_at
        entry = Entry(kind, at, report.subject, facts, transition.note, transition.actor)
        yield add_entry(identity, alarm, entry)


def _change(alarm: AlarmFacts, transition: Transition, at: int) -> str | None:
    """Change the alarm in place. Return the type of the timeline's entry; None where nothing changes."""
    kind = transition.kind
    if kind == "acknowledged" and alarm.status == "active":
        alarm.acknowledged_at = at
    elif kind == "resolved" and alarm.is_open:
        alarm.resolved_at, alarm.snoozed_until = max(at, alarm.triggered_at), None
    elif kind == "reopened" and not alarm.is_open:
        alarm.resolved_at = alarm.acknowledged_at = None
    elif kind == "repeated" and (transition.occurrence_count or 0) > alarm.occurrence_count:
        alarm.occurrence_count = transition.occurrence_count or 0
        alarm.last_triggered_at = max(alarm.last_triggered_at, at)
    elif kind == "triggered" and at > alarm.last_triggered_at:
        alarm.occurrence_count += 1
        alarm.last_triggered_at = at
        return "repeated"
    else:
        return None
    return kind


def _forget_oldest(device: DeviceState) -> None:
    """Keep only the latest of the resolved alarms."""
    resolved = [
        (state.alarm.resolved_at, name)
        for name, state in device.rules.items()
        if state.alarm is not None and state.alarm.resolved_at is not None
    ]
    for _, name in sorted(resolved)[: -RESOLVED_KEPT or None]:
        del device.rules[name]
