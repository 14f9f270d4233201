"""How alarms are shown: a table whose colours and words say what needs somebody, once or kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fleetlake.cli.output import time_text
from schemas.words import AlarmStatus, Severity

if TYPE_CHECKING:
    from rich.table import Table

Rows = Sequence[dict[str, Any]]

_STYLES = {
    Severity.CRITICAL: "bold white on red",
    Severity.MAJOR: "bold red",
    Severity.MINOR: "yellow",
    Severity.WARNING: "cyan",
    Severity.INFO: "dim",
}
_SHORT = 8
"""Characters of an id that are shown, and enough to name it."""
_REFRESH_SECONDS = 2.0


def alarm_table(rows: Rows, now: datetime, *, whole_ids: bool = False) -> Table:
    """The alarms, two lines each or more; ids are shortened to what every command takes, unless `whole_ids`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("alarm", "severity", "age"):
        table.add_column(name, no_wrap=True)
    table.add_column("state", overflow="fold", max_width=17)
    table.add_column("what, and of which device", overflow="fold", min_width=26)
    for row in rows:
        done = row["status"] == AlarmStatus.RESOLVED
        table.add_row(
            row["alarm_id"] if whole_ids else row["alarm_id"][:_SHORT],
            Text(row["severity"], style="" if done else _STYLES.get(row["severity"], "")),
            age_text(now - row["triggered_at"].replace(tzinfo=UTC)),
            state_words(row, now),
            Text.assemble(row["title"], _times(row["occurrence_count"]), "\n", (row["device_id"], "dim")),
            style="dim" if done else "",
        )
    return table


def state_words(row: dict[str, Any], now: datetime) -> str:
    """The status, who acknowledged the alarm, until when it is snoozed, and whether it flaps."""
    words = str(row["status"])
    if words == AlarmStatus.ACKNOWLEDGED and row["acknowledged_by"]:
        words = f"acknowledged by {row['acknowledged_by']}"
    until = row["snoozed_until"]
    if until is not None and until.replace(tzinfo=UTC) > now and row["status"] != AlarmStatus.RESOLVED:
        words += f", snoozed until {time_text(until)}"
    return f"{words}, flapping" if row["flapping"] else words


def _times(count: int) -> str:
    return f" ×{count:,}" if count > 1 else ""


def age_text(age: timedelta) -> str:
    """An age in its two largest units: `3d 4h`, `12m`."""
    seconds = max(int(age.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m"
    if seconds < 86_400:
        return f"{seconds // 3600}h {seconds // 60 % 60}m"
    return f"{seconds // 86_400}d {seconds // 3600 % 24}h"


def watch(show: Callable[[], Any]) -> None:
    """Show, and show again every two seconds, until Ctrl-C."""
    from rich.live import Live

    try:
        with Live(show(), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(_REFRESH_SECONDS)
                live.update(show(), refresh=True)
    except KeyboardInterrupt:
        return
