"""`fleetlake maintenance …`: maintenance windows, which take effect while everything runs."""

from __future__ import annotations

import getpass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import SPANS, ConfigOption, DataOption, JsonOption, moment, read_settings, span_in
from fleetlake.cli.output import print_rows
from fleetlake.errors import UserError
from schemas.validation_words import validation_words

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
    start: Annotated[
        datetime | None,
        typer.Option("--from", parser=moment, metavar="TIME", help="Begin; UTC unless it names a zone. Default: now."),
    ] = None,
    end: Annotated[
        datetime | None,
        typer.Option("--to", parser=moment, metavar="TIME", help="End; UTC unless it names a zone."),
    ] = None,
    length: Annotated[
        timedelta | None,
        typer.Option(
            "--for", "--minutes", parser=span_in("m"), metavar="SPAN", help=f"Length instead of --to: {SPANS}."
        ),
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
    starts = start or now
    if (end is None) is (length is None):
        raise UserError("give the end of the window: either --to or --for")
    fields: dict[str, Any] = {
        "window_id": uuid4().hex[:12],
        "scope_type": scope_type,
        "scope": scope,
        "starts_at": starts,
        "ends_at": end or starts + (length or timedelta()),
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
    as_json: JsonOption = False,
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
            list(window.rules) if window.rules or as_json else "all",
            window.starts_at,
            window.ends_at,
            state,
            window.actor,
            window.note,
        )
        for window, state in shown
        if everything or state in ("planned", "running")
    ]
    print_rows(("window", "scope", "rules", "from", "to", "is", "by", "note"), rows, as_json)


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
    reason = validation_words(first)
    return f"{where}: {reason}" if where else reason
