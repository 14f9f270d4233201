"""Which actions an alarm's state permits (pure; docs/alarm-rules.md, «What happens»)."""

from __future__ import annotations

from datetime import datetime, timedelta

REOPENABLE = timedelta(days=30)

_ALLOWED = {
    "acknowledge": ("active",),
    "resolve": ("active", "acknowledged"),
    "reopen": ("resolved",),
    "snooze": ("active", "acknowledged"),
}
_MADE = {"acknowledge": "acknowledged", "resolve": "resolved"}
"""What an action makes of an alarm."""


def refusal(action: str, status: str, resolved_at: datetime | None, is_latest: bool, now: datetime) -> str | None:
    """Why the alarm engine would ignore the action; None if it will carry it out.

    `is_latest`: no later alarm of the same device and rule exists.
    """
    if status not in _ALLOWED[action]:
        already = "already " if _MADE.get(action) == status else ""
        return f"the alarm is {already}{status}"
    if action == "reopen" and not is_latest:
        return "there is a later alarm of the same device and rule"
    if action == "reopen" and resolved_at is not None and now - resolved_at >= REOPENABLE:
        return f"the alarm was resolved more than {REOPENABLE.days} days ago"
    return None
