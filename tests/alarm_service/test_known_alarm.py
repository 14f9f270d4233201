"""How an alarm stands, by what was published and the events that came since."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from alarm_service.action_client import KnownAlarm
from tests.alarm_service.notifying import NOW, event


def known() -> KnownAlarm:
    alarm = event(1, "triggered").alarm
    return KnownAlarm(alarm.alarm_id, alarm.device_id, alarm.rule_id, alarm.triggered_at, "active")


def test_events_of_the_alarm_change_its_status() -> None:
    resolved = event(2, "resolved", status="resolved")
    resolved.alarm.resolved_at = NOW
    after = known().after(resolved)
    assert (after.status, after.resolved_at, after.is_latest) == ("resolved", NOW, True)
    again = after.after(event(3, "reopened"))
    assert (again.status, again.resolved_at) == ("active", None)


def test_a_later_alarm_of_the_device_and_rule_takes_its_place() -> None:
    other = event(1, "triggered")
    later = msgspec.structs.replace(other.alarm, alarm_id="x", triggered_at=other.alarm.triggered_at + timedelta(1))
    for changed, is_latest in (
        ({}, False),
        ({"rule_id": "y"}, True),
        ({"device_id": "z"}, True),
        ({"triggered_at": other.alarm.triggered_at - timedelta(1)}, True),
    ):
        other.alarm = msgspec.structs.replace(later, **changed)  # type: ignore[arg-type]
        after = known().after(other)
        assert (after.status, after.is_latest) == ("active", is_latest)
