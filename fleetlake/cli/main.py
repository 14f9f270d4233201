"""The `fleetlake` command. Each command loads what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import logging
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from fleetlake import __version__
from fleetlake.cli.alarms import alarms
from fleetlake.cli.climasense import climasense, keys
from fleetlake.cli.dead_letters import dead_letters
from fleetlake.cli.demo import demo
from fleetlake.cli.doctor import doctor
from fleetlake.cli.erase import erase
from fleetlake.cli.lake import lake
from fleetlake.cli.maintenance import maintenance
from fleetlake.cli.notify import notify
from fleetlake.cli.pipeline import init, logs, status
from fleetlake.cli.processes import broker, connect, simulate, sink, stream, up
from fleetlake.cli.replay import replay
from fleetlake.cli.rules import rules
from fleetlake.cli.schemas import schemas
from fleetlake.cli.serve import serve
from fleetlake.cli.setup import capture, check, config, topics
from fleetlake.cli.sql import export, plot, sql
from fleetlake.cli.ui import ui
from fleetlake.errors import UserError, file_reason
from runtime.errors import StageError
from schemas.vendors import RegistrationError

_GROUPS = {
    "Begin": ("demo", "up", "status", "logs", "init", "config", "check"),
    "Run one stage": ("connect", "stream", "sink", "broker", "simulate", "topics", "schemas"),
    "Ask": ("sql", "plot", "export", "ui", "serve"),
    "Alarms": ("alarms", "rules", "maintenance", "notify"),
    "Keep": ("lake", "dead-letters", "replay", "erase", "capture", "doctor"),
    "ClimaSense's server": ("climasense", "keys"),
}
"""The commands in the order of `--help`; others follow at the end."""


_WHOLE = 200
"""Longest line of help: a whole sentence, which the help wraps."""


class GroupedCommands(TyperGroup):
    """The command, whose help shows its subcommands by what they are for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order of the help."""
        known = [name for names in _GROUPS.values() for name in names if name in self.commands]
        return known + [name for name in self.commands if name not in known]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section per group."""
        names = self.list_commands(ctx)
        placed = {name for group in _GROUPS.values() for name in group}
        groups = {**_GROUPS, "More": tuple(name for name in names if name not in placed)}
        for title, members in groups.items():
            rows = [(name, self.commands[name].get_short_help_str(_WHOLE)) for name in members if name in self.commands]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


app = typer.Typer(
    cls=GroupedCommands,
    name="fleetlake",
    help="Telemetry of mixed fleets: from vendors' clouds through Kafka into Delta Lake and DuckDB.\n\n"
    "New here? `fleetlake demo` runs everything against simulated vendors; `fleetlake config --example` prints a "
    "configuration file to start from.",
    no_args_is_help=True,
    add_completion=True,
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
    "serve": serve,
    "schemas": schemas,
    "dead-letters": dead_letters,
}.items():
    app.add_typer(_group, name=_name)

for _command in (
    *(status, logs, init),
    *(demo, up, ui, connect, stream, sink, broker, simulate),
    *(config, check, topics, capture),
    *(sql, plot, export, replay, erase, doctor),
):
    app.command()(_command)


def main() -> None:
    """Entry point: user errors as one line and status 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except (UserError, RegistrationError, StageError) as error:
        _fail(str(error))
    except OSError as error:  # of a file that the user named, or of the data folder
        logging.getLogger(__name__).debug("the command failed", exc_info=True)
        _fail(file_reason(error))


def _fail(message: str) -> NoReturn:
    print(f"fleetlake: {message}", file=sys.stderr)
    sys.exit(1)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleetlake {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Options of the command itself."""
