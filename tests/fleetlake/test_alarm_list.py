"""How alarms are listed, and how spans and times are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from fleetlake.cli.alarm_list import age_text, alarm_table, state_words
from fleetlake.cli.options import moment, parse_span, parse_time
from fleetlake.errors import UserError

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


def alarm(**changes: Any) -> dict[str, Any]:
    return {
        "alarm_id": "0b8f3c1e-5a5b-5d6c-9e1f-000000000001",
        "device_id": "karcher:1.454-500.0/002005",
        "severity": "critical",
        "status": "active",
        "triggered_at": datetime(2026, 11, 28, 10, 30),
        "acknowledged_by": None,
        "snoozed_until": None,
        "flapping": False,
        "occurrence_count": 1234,
        "title": "Battery below 20 %, and a title so long that it needs a second line",
    } | changes


def rendered(width: int, **options: Any) -> str:
    out = StringIO()
    rows = [alarm(), alarm(status="acknowledged", acknowledged_by="ada@example.com", severity="minor")]
    Console(file=out, width=width, **options).print(alarm_table(rows, NOW))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_list_fits_and_cuts_nothing(width: int) -> None:
    shown = rendered(width)
    assert max(map(len, shown.splitlines())) <= width
    assert "…" not in shown and "0b8f3c1e" in shown and "1h 30m" in shown and "1,234" in shown
    assert "critical" in shown and "active" in shown and "karcher:1.454-500.0/002005" in shown


def test_severities_have_colours() -> None:
    shown = rendered(120, force_terminal=True, color_system="standard")
    assert "\x1b[1;37;41mcritical" in shown and "\x1b[33mminor" in shown


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "active"),
        ({"status": "acknowledged", "acknowledged_by": "ada"}, "acknowledged by ada"),
        ({"snoozed_until": datetime(2026, 11, 28, 13)}, "active, snoozed until 2026-11-28 13:00:00Z"),
        ({"snoozed_until": datetime(2026, 11, 28, 11)}, "active"),
        ({"status": "resolved", "acknowledged_by": "ada", "snoozed_until": datetime(2026, 11, 28, 13)}, "resolved"),
        ({"flapping": True}, "active, flapping"),
    ],
)
def test_the_state_in_words(changes: dict[str, Any], words: str) -> None:
    assert state_words(alarm(**changes), NOW) == words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h 0m"), (90_000, "1d 1h"), (864_000, "10d 0h")],
)
def test_ages(seconds: int, text: str) -> None:
    assert age_text(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(
    ("text", "unit", "seconds"),
    [
        ("90s", None, 90),
        ("30m", None, 1800),
        ("1h30m", None, 5400),
        ("1.5h", None, 5400),
        ("7D", None, 604_800),
        ("2w", None, 1_209_600),
        ("45", "s", 45),
        ("45", "m", 2700),
        ("250ms", None, 0.25),
    ],
)
def test_spans(text: str, unit: str | None, seconds: float) -> None:
    assert parse_span(text, unit) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "45", "h", "-1h", "1 hour", "1h30", "1y", "9" * 30 + "d"])
def test_what_is_no_span(text: str) -> None:
    with pytest.raises(UserError):
        parse_span(text)


def test_times() -> None:
    assert parse_time("2026-11-28T12:00+02:00") == datetime(2026, 11, 28, 10, tzinfo=UTC)
    assert moment("2026-11-28") == datetime(2026, 11, 28, tzinfo=UTC)
    ago = parse_time("1h30m")
    assert ago is not None and timedelta(hours=1, minutes=29) < datetime.now(UTC) - ago < timedelta(hours=1, minutes=31)
    with pytest.raises(UserError):
        parse_time("yesterday")
