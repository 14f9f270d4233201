"""`fleetlake alarms …`: list alarms, show one, and serve alarms over HTTP."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from fleetlake.cli.alarm_actions import register_actions
from fleetlake.cli.alarm_keys import keys
from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_table, time_text
from fleetlake.cli.published_alarms import (
    AlarmFilter,
    DeviceOption,
    RuleOption,
    SeverityOption,
    ask,
    find_alarm,
    find_alarms,
    plain_row,
)
from fleetlake.errors import UserError
from schemas.words import AlarmStatus, Severity

alarms = typer.Typer(
    help="Alarms: list them, act on them, serve them over HTTP.", no_args_is_help=True, rich_markup_mode=None
)
alarms.add_typer(keys, name="keys")

_PIPE_WIDTH = 200
"""Width of a table that is not printed on a terminal."""


@alarms.command("list")
def list_alarms(
    status: Annotated[
        AlarmStatus | None, typer.Option(help="Only alarms of this status; default: all that are open.")
    ] = None,
    severity: SeverityOption = None,
    device: DeviceOption = None,
    rule: RuleOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also resolved alarms.")] = False,
    limit: Annotated[int, typer.Option(min=0, help="At most this many, latest first; 0: all.")] = 50,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep the list up to date until Ctrl-C.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show alarms, latest first, as last published: age, who acknowledged them, until when they are snoozed."""
    from rich.console import Console

    from fleetlake.cli.alarm_list import alarm_table
    from fleetlake.cli.alarm_list import watch as keep_showing

    folder = read_settings(config, data).pipeline.data
    which = AlarmFilter(status, severity, device, rule, everything)
    if watch:
        if as_json or not sys.stdout.isatty():
            raise UserError("--watch needs a terminal")
        keep_showing(lambda: alarm_table(find_alarms(folder, which)[: limit or None], datetime.now(UTC)))
        return
    matching = find_alarms(folder, which)
    shown = matching[: limit or None]
    if as_json:
        typer.echo(json.dumps([plain_row(row) for row in shown], indent=2))
        return
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(alarm_table(shown, datetime.now(UTC), whole_ids=not console.is_terminal))
    if len(shown) < len(matching):
        typer.echo(f"{len(shown)} of {len(matching)}; --limit 0 shows all", err=True)


@alarms.command("show")
def show_alarm(
    alarm: Annotated[str, typer.Argument(help="The alarm's id, or the beginning of it.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show an alarm and its timeline, as last published."""
    folder = read_settings(config, data).pipeline.data
    row = find_alarm(folder, alarm)
    timeline = ask(
        folder,
        "SELECT sequence AS id, event_type, actor, note, metadata, created_at FROM alarm_events WHERE alarm_id = ? "
        "ORDER BY sequence",
        [row["alarm_id"]],
    )
    if as_json:
        typer.echo(json.dumps({**plain_row(row), "timeline": [plain_row(event) for event in timeline]}, indent=2))
        return
    print_table(("", ""), [(name, str(value)) for name, value in plain_row(row).items() if value is not None])
    print_table(
        ("", "at", "event", "actor", "note"),
        [(str(e["id"]), time_text(e["created_at"]), e["event_type"], e["actor"], e["note"]) for e in timeline],
    )


@alarms.command("summary")
def summarise(as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None) -> None:
    """Count alarms by status, and open alarms by severity, as last published."""
    folder = read_settings(config, data).pipeline.data
    rows = ask(folder, "SELECT status, severity, count(*) AS n FROM alarms GROUP BY ALL")
    by_status = {name.value: sum(r["n"] for r in rows if r["status"] == name) for name in AlarmStatus}
    still = [row for row in rows if row["status"] != AlarmStatus.RESOLVED]
    by_severity = {name.value: sum(row["n"] for row in still if row["severity"] == name) for name in Severity}
    if as_json:
        total = sum(row["n"] for row in still)
        summary = {"by_status": by_status, "by_severity": by_severity, "active_total": total}
        typer.echo(json.dumps(summary, indent=2))
        return
    print_table(("status", "alarms"), [(name, str(count)) for name, count in by_status.items()])
    print_table(("severity", "open alarms"), [(name, str(count)) for name, count in by_severity.items()])


register_actions(alarms)


@alarms.command("serve")
def serve(config: ConfigOption = None, data: DataOption = None) -> None:
    """Serve alarms and rules over HTTP, with the API keys of `fleetlake alarms keys`."""
    from fleetlake.stages import alarms_stage, run_and_exit

    settings = read_settings(config, data)
    run_and_exit(settings, "alarms", alarms_stage(settings))
