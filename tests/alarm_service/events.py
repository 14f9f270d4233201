"""Alarm events for the alarm service's store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas import wire

NOW = datetime(2026, 3, 30, 14, 0, 0, 123456, tzinfo=UTC)


def event(
    alarm_id: str,
    sequence: int,
    status: str = "active",
    minutes: int = 0,
    device: str = "wayscloud:a",
    rule: str = "hot",
    severity: str = "warning",
    **more: Any,
) -> wire.AlarmEvent:
    at = NOW + timedelta(minutes=minutes)
    resolved = at if status == "resolved" else None
    alarm = wire.Alarm(
        alarm_id, device, device.partition(":")[0], rule, "Hot", severity, "Hot: a", "m > 1", status, at, at, sequence,
        resolved_at=resolved,
    )  # fmt: skip
    kind = {"active": "triggered", "acknowledged": "acknowledged", "resolved": "resolved"}[status]
    return wire.AlarmEvent(
        f"{alarm_id}-{sequence}", sequence, kind, "rule_engine", at, alarm, wire.Origin("t", 0, 0), **more
    )
