"""The `fleetlake` command. Each command loads what it needs when it runs, so that `--help` is instant."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fleetlake import __version__
from fleetlake.cli.alarms import alarms
from fleetlake.cli.climasense import climasense, keys
from fleetlake.cli.lake import dead_letters, erase, lake, replay
from fleetlake.cli.maintenance import maintenance
from fleetlake.cli.notify import notify
from fleetlake.cli.options import ConfigOption, DataOption, read_settings
from fleetlake.cli.rules import rules
from fleetlake.cli.sql import export, plot, sql
from fleetlake.errors import UserError

T = TypeVar("T")

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
app.add_typer(keys, name="keys")
app.add_typer(climasense, name="climasense")
app.add_typer(rules, name="rules")
app.add_typer(maintenance, name="maintenance")
app.add_typer(alarms, name="alarms")
app.add_typer(notify, name="notify")
app.add_typer(lake, name="lake")
app.add_typer(dead_letters, name="dead-letters")
app.command()(replay)
app.command()(erase)
app.command()(sql)
app.command()(plot)
app.command()(export)


class SinkName(StrEnum):
    """The sinks."""

    DELTA = "delta"
    DUCKDB = "duckdb"


def main() -> None:
    """Entry point: user errors as one line and status 1, never a traceback."""
    try:
        app(standalone_mode=True)
    except UserError as error:
        print(f"fleetlake: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(f"fleetlake {__version__}")
        raise typer.Exit


@app.command()
def demo(
    seconds: Annotated[int, typer.Option(min=0, help="Stop after so many seconds; 0 runs until Ctrl-C.")] = 0,
    devices: Annotated[int, typer.Option(min=4, help="Devices of all four vendors together.")] = 44,
    data: Annotated[Path, typer.Option("--data", "-d", help="Where the data goes.")] = Path("data"),
) -> None:
    """Run the whole pipeline against simulated vendors.

    Embedded Kafka, four simulated vendors, connectors, stream worker, both sinks; then three answers from the tables.
    """
    from fleetlake.local.demo import run_demo

    raise typer.Exit(run_demo(seconds, devices, data))


@app.command()
def up(
    config: ConfigOption = None,
    data: DataOption = None,
    seconds: Annotated[int, typer.Option(min=0, help="Stop after so many seconds; 0 runs until Ctrl-C.")] = 0,
) -> None:
    """Run all stages by a configuration file.

    Each is a process of its own, started again if it fails.
    """
    from fleetlake.local.up import run_up

    settings = read_settings(config, data)
    raise typer.Exit(run_up(settings, seconds))


@app.command()
def connect(
    vendors: Annotated[list[str] | None, typer.Argument(help="Vendors; default [pipeline] vendors.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Write what vendors send to the raw topics."""
    from fleetlake.local.stages import connect_stage, run_and_leave

    settings = read_settings(config, data)
    run_and_leave(settings, "connect", connect_stage(settings, vendors or []))


@app.command()
def stream(config: ConfigOption = None, data: DataOption = None) -> None:
    """Normalise, detect thresholds, dedupe alarms.

    One Faust worker; start several to share the load.
    """
    from fleetlake.local.stages import run_and_leave, stream_stage

    settings = read_settings(config, data)
    run_and_leave(settings, "stream", stream_stage(settings))


@app.command()
def sink(
    name: Annotated[SinkName | None, typer.Argument(help="Which sink; default both.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Write the lake (delta) and publish fleet.duckdb (duckdb)."""
    from fleetlake.local.stages import run_and_leave, sink_stage

    settings = read_settings(config, data)
    names = [name.value] if name else [s.value for s in SinkName]
    run_and_leave(settings, name.value if name else "sink", sink_stage(settings, names))


@app.command()
def broker(
    config: ConfigOption = None,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 picks a free one.")] = None,
) -> None:
    """Run the embedded Kafka broker.

    A real one; needs neither Java nor Docker. The first start downloads it.
    """
    from fleetlake.local.broker import run_broker
    from runtime.process import stop_with_supervisor

    stop_with_supervisor()
    settings = read_settings(config, data)
    chosen = settings.broker.port if port is None else port
    run_broker(settings.pipeline.data, chosen, heap=f"{settings.broker.heap_megabytes}m")


@app.command()
def simulate(
    vendor: Annotated[str, typer.Argument(help="karcher, ogmen, wayscloud, climasense or all.")],
    config: ConfigOption = None,
) -> None:
    """Run a vendor's simulated cloud and devices."""
    from fleetlake.local.stages import run_and_leave, simulate_stage

    settings = read_settings(config, None)
    run_and_leave(settings, "simulate", simulate_stage(settings, vendor))


@app.command()
def topics(config: ConfigOption = None, data: DataOption = None) -> None:
    """Declare missing Kafka topics and show all."""
    from fleetlake.local.stages import print_topics

    _run(print_topics(read_settings(config, data)))


@app.command()
def check(
    vendors: Annotated[list[str] | None, typer.Argument(help="Vendors; default [pipeline] vendors.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    send: Annotated[
        bool, typer.Option("--send/--no-send", help="Send a test notification over each channel of [notify].")
    ] = False,
) -> None:
    """Say what works and what does not, and why.

    Each vendor, Kafka, the topics, the rules, the data folder, the alarm service and its channels. Status 1 if anything
    does not work.
    """
    from fleetlake.ops.checks import run_checks

    settings = read_settings(config, data)
    raise typer.Exit(0 if _run(run_checks(settings, vendors or [], send=send)) else 1)


@app.command()
def capture(
    vendor: Annotated[str, typer.Argument(help="karcher, ogmen, wayscloud or climasense.")],
    seconds: Annotated[int, typer.Option(min=1, help="How long to listen.")] = 60,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that gets a folder of the vendor.")] = Path(
        "recordings"
    ),
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Record what a vendor sends, redacted, one file a shape.

    Listens to the raw topic of the running pipeline from now on. The files have the form that the tests use.
    """
    from fleetlake.ops.capture import capture as record

    written = _run(record(read_settings(config, data), vendor, seconds, out))
    for path in written:
        typer.echo(path)
    typer.echo(f"{len(written)} recording(s)", err=True)


@app.command()
def config(
    config: ConfigOption = None,
    example: Annotated[bool, typer.Option("--example", help="Print an example file with every key explained.")] = False,
) -> None:
    """Print the configuration in force, secrets masked."""
    from fleetlake.config import effective_toml, example_toml

    typer.echo(example_toml() if example else effective_toml(read_settings(config, None)))


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coroutine)
