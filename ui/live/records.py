"""Records of the topics as the page takes them: plain JSON, times in milliseconds since the epoch (pure)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from schemas import wire


def milliseconds(moment: datetime) -> int:
    """Milliseconds since the epoch."""
    return int(moment.timestamp() * 1000)


def _optional(moment: datetime | None) -> int | None:
    return None if moment is None else milliseconds(moment)


def reading_value(reading: wire.Reading) -> float | str | bool | None:
    """The value, if it is no structure."""
    if reading.value_number is not None:
        return reading.value_number
    return reading.value_text if reading.value_text is not None else reading.value_boolean


def reading_fields(reading: wire.Reading) -> dict[str, Any]:
    """A reading."""
    return {
        "metric": reading.metric,
        "value": reading_value(reading),
        "structured": reading.value_json,
        "unit": reading.unit,
        "at": milliseconds(reading.observed_at),
        "numeric": reading.value_number is not None,
    }


def event_fields(device_id: str, vendor: str, event: wire.Event) -> dict[str, Any]:
    """An event of a device, as an entry of its timeline."""
    return {
        "kind": "event",
        "device_id": device_id,
        "vendor": vendor,
        "what": event.type,
        "title": event.title or event.type,
        "severity": event.severity,
        "at": milliseconds(event.occurred_at),
        "detail": event.data,
        "alarm_id": None,
    }


def alarm_fields(event: wire.AlarmEvent) -> dict[str, Any]:
    """An alarm as it is after an entry of its timeline, with that entry."""
    alarm = event.alarm
    return {
        "alarm_id": alarm.alarm_id,
        "device_id": alarm.device_id,
        "vendor": alarm.vendor,
        "rule_id": alarm.rule_id,
        "rule_name": alarm.rule_name,
        "severity": alarm.severity,
        "title": alarm.title,
        "message": alarm.message,
        "status": alarm.status,
        "metric": alarm.metric,
        "occurrence_count": alarm.occurrence_count,
        "flapping": alarm.flapping,
        "triggered_at": milliseconds(alarm.triggered_at),
        "last_triggered_at": milliseconds(alarm.last_triggered_at),
        "acknowledged_at": _optional(alarm.acknowledged_at),
        "resolved_at": _optional(alarm.resolved_at),
        "snoozed_until": _optional(alarm.snoozed_until),
        "sequence": event.sequence,
        "entry": {
            "sequence": event.sequence,
            "event_type": event.event_type,
            "actor": event.actor,
            "note": event.note,
            "metadata": event.metadata,
            "at": milliseconds(event.created_at),
        },
    }
