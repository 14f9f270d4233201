"""`fleetlake maintenance …`: maintenance windows, which take effect while everything runs."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import ConfigOption, DataOption, as_utc, read_settings
from fleetlake.cli.output import print_table, time_text
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from schemas.records import MaintenanceWindow

maintenance = typer.Typer(
    help="Maintenance windows: times in which a scope triggers no alarms.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

ActorOption = Annotated[str | None, typer.Option(help="Who acts; default: the user logged in.")]


@maintenance.command("add")
def add_window(
    scope_type: Annotated[str, typer.Option(help="fleet, group, profile, device, vendor or model.")] = "fleet",
    scope: Annotated[str, typer.Option(help="Its id or name; a device as vendor:native-id.")] = "",
    start: Annotated[datetime | None, typer.Option("--from", help="When the window begins, UTC; default now.")] = None,
    end: Annotated[datetime | None, typer.Option("--to", help="When the window ends, UTC.")] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", min=0, help="Length of the window, in place of --to.")
    ] = None,
    rule: Annotated[list[str] | None, typer.Option(help="Only this rule's alarms; may be given several times.")] = None,
    note: Annotated[str | None, typer.Option(help="What the maintenance is.")] = None,
    actor: ActorOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Plan a window. Running workers use it within seconds. It does not affect what happened before now."""
    from schemas.records import MaintenanceWindow
    from streams.detect.rules_topic import write_window

    now = datetime.now(UTC)
    starts = as_utc(start) if start else now
    if (end is None) is (minutes is None):
        raise UserError("give the end of the window: either --to or --minutes")
    fields: dict[str, Any] = {
        "window_id": uuid4().hex[:12],
        "scope_type": scope_type,
        "scope": scope,
        "starts_at": starts,
        "ends_at": as_utc(end) if end else starts + timedelta(minutes=minutes or 0),
        "rules": rule or [],
        "note": note,
        "actor": actor or getpass.getuser(),
        "created_at": now,
    }
    try:
        window = MaintenanceWindow.model_validate(fields)
    except ValueError as error:
        raise UserError(_reason(error)) from error
    if window.ends_at <= now:
        raise UserError("the window would be over already; a window has no effect on the past")
    run_on_kafka(read_settings(config, data), lambda client: write_window(client, window))
    typer.echo(window.window_id)


@maintenance.command("list")
def list_windows(
    everything: Annotated[bool, typer.Option("--all", help="Also windows that are over or cancelled.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show the windows, except those of the configuration."""
    from streams.detect.rules_topic import read_windows

    now = datetime.now(UTC)
    windows = run_on_kafka(read_settings(config, data), read_windows)
    shown = [(window, _state(window, now)) for window in sorted(windows.values(), key=lambda window: window.starts_at)]
    rows = [
        (
            window.window_id,
            f"{window.scope_type} {window.scope}".strip(),
            ", ".join(window.rules) or "all",
            time_text(window.starts_at),
            time_text(window.ends_at),
            state,
            window.actor,
            window.note,
        )
        for window, state in shown
        if everything or state in ("planned", "running")
    ]
    print_table(("window", "scope", "rules", "from", "to", "is", "by", "note"), rows)


@maintenance.command("cancel")
def cancel_window(
    window_id: Annotated[str, typer.Argument(help="The window's id.")],
    actor: ActorOption = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """End a window now. Conditions that still hold then trigger alarms."""
    from streams.detect.rules_topic import read_windows, write_window

    settings = read_settings(config, data)
    window = run_on_kafka(settings, read_windows).get(window_id)
    if window is None:
        raise UserError(f"no window has the id {window_id!r}; `fleetlake maintenance list --all` shows them")
    now = datetime.now(UTC)
    if (state := _state(window, now)) not in ("planned", "running"):
        raise UserError(f"window {window_id} is {state}")
    ended = window.model_copy(update={"cancelled_at": now, "cancelled_by": actor or getpass.getuser()})
    run_on_kafka(settings, lambda client: write_window(client, ended))
    typer.echo(f"{window_id} is cancelled")


def _state(window: MaintenanceWindow, now: datetime) -> str:
    if window.cancelled_at is not None:
        return "cancelled"
    if now >= window.ends_at:
        return "over"
    return "running" if now >= window.starts_at else "planned"


def _reason(error: ValueError) -> str:
    """Pydantic's message, in one line."""
    from pydantic import ValidationError

    assert isinstance(error, ValidationError)
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    reason = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {reason}" if where else reason
