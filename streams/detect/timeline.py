"""The timeline of an alarm: its entries as alarm events, with ids that derive from what happened (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from schemas import wire
from schemas.derived_ids import derived_id
from schemas.timestamps import from_micros
from streams.detect.state import AlarmFacts, RuleState

ENGINE = "rule_engine"
VENDOR = "vendor"


class Subject(NamedTuple):
    """The device that alarm events are about, and the record they are made of."""

    device_id: str
    vendor: str
    origin: wire.Origin


class Entry(NamedTuple):
    """One entry to be added to an alarm's timeline."""

    event_type: str
    at: int
    """Microseconds since the epoch."""
    subject: Subject
    facts: Mapping[str, Any]
    note: str | None = None
    actor: str = ENGINE


def alarm_id(device_id: str, rule_id: str, alarm: AlarmFacts) -> str:
    """UUIDv5 of device, rule and first trigger."""
    return derived_id("alarm", device_id, rule_id, str(alarm.triggered_at))


def add_entry(rule_id: str, alarm: AlarmFacts, entry: Entry) -> wire.AlarmEvent:
    """Add an entry to the alarm's timeline, and return its event, with the alarm as it now stands."""
    alarm.sequence += 1
    subject = entry.subject
    name = alarm_id(subject.device_id, rule_id, alarm)
    return wire.AlarmEvent(
        event_id=derived_id("alarm-event", name, str(alarm.sequence)),
        sequence=alarm.sequence,
        event_type=entry.event_type,
        actor=entry.actor,
        created_at=from_micros(entry.at),
        alarm=wire.Alarm(
            alarm_id=name,
            device_id=subject.device_id,
            vendor=subject.vendor,
            rule_id=alarm.rule_id or rule_id,
            rule_name=alarm.rule_name,
            severity=alarm.severity,
            title=alarm.title,
            message=alarm.message,
            status=alarm.status,
            triggered_at=from_micros(alarm.triggered_at),
            last_triggered_at=from_micros(alarm.last_triggered_at),
            occurrence_count=alarm.occurrence_count,
            metric=alarm.metric,
            acknowledged_at=_moment(alarm.acknowledged_at),
            resolved_at=_moment(alarm.resolved_at),
            snoozed_until=_moment(alarm.snoozed_until),
            flapping=alarm.flapping,
        ),
        origin=subject.origin,
        note=entry.note,
        metadata={"severity": alarm.severity, **entry.facts},
    )


def resolve(rule_id: str, state: RuleState, entry: Entry) -> wire.AlarmEvent:
    """Resolve the rule's alarm at the entry's time, but not before it was triggered."""
    alarm = state.alarm
    assert alarm is not None
    at = max(entry.at, alarm.triggered_at)
    alarm.resolved_at, alarm.snoozed_until = at, None
    state.awaits_acknowledgement = False
    return add_entry(rule_id, alarm, entry._replace(event_type="resolved", at=at))


def _moment(at: int | None) -> datetime | None:
    return None if at is None else from_micros(at)
