"""What may be done to an alarm, and the record that asks for it (pure; docs/alarm-rules.md, «What happens»)."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from schemas import wire

REOPENABLE = timedelta(days=30)

_ALLOWED = {
    "acknowledge": ("active",),
    "resolve": ("active", "acknowledged"),
    "reopen": ("resolved",),
    "snooze": ("active", "acknowledged"),
}


def refusal(action: str, status: str, resolved_at: datetime | None, is_latest: bool, now: datetime) -> str | None:
    """Why the engine would do nothing; None where it will act. `is_latest`: of its device and rule."""
    if status not in _ALLOWED[action]:
        return f"the alarm is {status}"
    if action == "reopen" and not is_latest:
        return "there is a later alarm of the same device and rule"
    if action == "reopen" and resolved_at is not None and now - resolved_at >= REOPENABLE:
        return f"the alarm was resolved more than {REOPENABLE.days} days ago"
    return None


def request(
    action_id: UUID,
    action: str,
    alarm_id: str,
    device_id: str,
    actor: str,
    now: datetime,
    note: str | None = None,
    until: datetime | None = None,
) -> wire.AlarmAction:
    """The record for `telemetry.alarm-actions.v1`; its key is the device."""
    return wire.AlarmAction(str(action_id), alarm_id, device_id, action, actor, now, note, until)
