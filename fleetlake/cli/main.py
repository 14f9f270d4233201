"""The `fleetlake` command. Each command loads what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fleetlake import __version__
from fleetlake.cli.alarms import alarms
from fleetlake.cli.climasense import climasense, keys
from fleetlake.cli.dead_letters import dead_letters
from fleetlake.cli.demo import demo
from fleetlake.cli.erase import erase
from fleetlake.cli.lake import lake
from fleetlake.cli.maintenance import maintenance
from fleetlake.cli.notify import notify
from fleetlake.cli.processes import broker, connect, simulate, sink, stream, up
from fleetlake.cli.replay import replay
from fleetlake.cli.rules import rules
from fleetlake.cli.setup import capture, check, config, topics
from fleetlake.cli.sql import export, plot, sql
from fleetlake.errors import UserError
from schemas.vendors import RegistrationError

app = typer.Typer(
    name="fleetlake",
    help="Telemetry of mixed fleets: from vendors' clouds through Kafka into Delta Lake and DuckDB.\n\n"
    "New here? `fleetlake demo` runs everything against simulated vendors; `fleetlake config --example` prints a "
    "configuration file to start from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for _name, _group in {
    "keys": keys,
    "climasense": climasense,
    "rules": rules,
    "maintenance": maintenance,
    "alarms": alarms,
    "notify": notify,
    "lake": lake,
    "dead-letters": dead_letters,
}.items():
    app.add_typer(_group, name=_name)

for _command in (
    *(demo, up, connect, stream, sink, broker, simulate),
    *(config, check, topics, capture),
    *(sql, plot, export, replay, erase),
):
    app.command()(_command)


def main() -> None:
    """Entry point: user errors as one line and status 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except (UserError, RegistrationError) as error:
        print(f"fleetlake: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"fleetlake {__version__}")
        raise typer.Exit
