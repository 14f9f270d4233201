"""Which actions an alarm's state permits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alarm_service.actions import refusal

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


@pytest.mark.parametrize(
    ("action", "permitted"),
    [
        ("acknowledge", {"active"}),
        ("resolve", {"active", "acknowledged"}),
        ("snooze", {"active", "acknowledged"}),
        ("reopen", {"resolved"}),
    ],
)
def test_each_action_needs_its_states(action: str, permitted: set[str]) -> None:
    for status in ("active", "acknowledged", "resolved"):
        answer = refusal(action, status, NOW if status == "resolved" else None, True, NOW)
        already = "already " if (action, status) in (("acknowledge", "acknowledged"), ("resolve", "resolved")) else ""
        assert answer == (None if status in permitted else f"the alarm is {already}{status}")


def test_only_the_latest_alarm_of_device_and_rule_is_reopened() -> None:
    assert refusal("reopen", "resolved", NOW, False, NOW) == "there is a later alarm of the same device and rule"
    assert refusal("acknowledge", "active", None, False, NOW) is None
    assert refusal("resolve", "acknowledged", None, False, NOW) is None


def test_an_alarm_is_reopened_for_thirty_days() -> None:
    second = timedelta(seconds=1)
    too_late = "the alarm was resolved more than 30 days ago"
    assert refusal("reopen", "resolved", NOW - MONTH + second, True, NOW) is None
    assert refusal("reopen", "resolved", NOW - MONTH, True, NOW) == too_late
    assert refusal("reopen", "resolved", None, True, NOW) is None
    assert refusal("resolve", "active", NOW - 2 * MONTH, True, NOW) is None
