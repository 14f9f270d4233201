"""Commands for whoever sets a pipeline up: `config`, `check`, `topics`, `capture`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.cli.kafka import run_on_kafka
from fleetlake.cli.options import SPANS, ConfigOption, DataOption, JsonOption, for_option, read_settings
from fleetlake.cli.output import print_rows
from schemas.vendors import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetlake.config import Settings
    from runtime.checks import CheckResult


def config(
    config: ConfigOption = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example file that explains every key instead.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="With --example: also the tables of the simulated clouds.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of the file instead, by which editors check it.")
    ] = False,
) -> None:
    """Print the configuration in force, with secrets masked."""
    from fleetlake.config import effective_toml, example_toml, settings_class

    if schema:
        typer.echo(json.dumps(settings_class().model_json_schema(), indent=1))
        return
    typer.echo(example_toml(simulators=everything) if example else effective_toml(read_settings(config, None)))


def check(
    vendors: Annotated[list[str] | None, typer.Argument(help="Vendors; default [pipeline] vendors.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    send: Annotated[
        bool, typer.Option("--send/--no-send", help="Also send a test notification over each channel of [notify].")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what works and what does not, and why.

    Checks each vendor, Kafka, its topics, the alarm rules, the data folder, the alarm service and its channels.
    Status 1 if anything does not work.
    """
    from fleetlake.ops.checks import run_checks
    from fleetlake.stages import resolve_kafka

    settings = read_settings(config, data)
    results = asyncio.run(
        run_checks(settings, vendors or [], lambda: resolve_kafka(settings), idle=_idle_kafka(settings), send=send)
    )
    if as_json:
        typer.echo(json.dumps([asdict(result) for result in results], indent=1))
    else:
        _print_results(results)
    raise typer.Exit(0 if all(result.ok for result in results) else 1)


def _idle_kafka(settings: Settings) -> CheckResult | None:
    """The result where Kafka is the embedded one and does not run; None otherwise."""
    from fleetlake.local.broker import find_bootstrap
    from fleetlake.local.broker.jars import missing_jars
    from runtime.checks import CheckResult

    if settings.kafka.bootstrap_servers or find_bootstrap(settings.pipeline.data):
        return None
    missing = missing_jars()
    download = f" and downloads {missing} files first" if missing else ""
    return CheckResult("Kafka", True, f"embedded; not running: `fleetlake up` starts it{download}")


def _print_results(results: Sequence[CheckResult]) -> None:
    """Print a line per result, as `FAILED ogmen REST https://…: connection refused`, and how many failed."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for result in results:
        mark = Text("ok    ", "green") if result.ok else Text("FAILED", "bold red")
        console.print(mark + Text(f" {result.name}" + (f": {result.detail}" if result.detail else "")), soft_wrap=True)
    failed = sum(not result.ok for result in results)
    console.print(f"{failed} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed")


def topics(
    acls: Annotated[
        bool, typer.Option("--acls", help="Show the access that each stage needs instead; Kafka is not asked.")
    ] = False,
    commands: Annotated[
        bool, typer.Option("--commands", help="With --acls: calls of kafka-acls.sh, for a user named after each stage.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Declare missing Kafka topics, and show all of them."""
    if acls or commands:
        _show_acls(read_settings(config, data), commands, as_json)
        return
    from fleetlake.stages import resolve_kafka
    from runtime.kafka import declare_topics
    from schemas.topics import topic_specs

    settings = read_settings(config, data)
    states = run_on_kafka(settings, lambda _: declare_topics(resolve_kafka(settings), topic_specs()))
    prefix = settings.kafka.topic_prefix
    rows = [(prefix + s.spec.name, s.partitions, s.created, s.spec.purpose) for s in states]
    print_rows(("topic", "partitions", "created", "what travels on it"), rows, as_json)


def _show_acls(settings: Settings, as_commands: bool, as_json: bool) -> None:
    from fleetlake.ops.acls import acls, commands
    from schemas.vendors import vendor_names

    grants = acls(settings.kafka, settings.pipeline.vendors or vendor_names())
    if as_commands:
        for line in commands(grants, settings.kafka.bootstrap_servers or "BROKER:9092"):
            typer.echo(line)
        return
    rows = [(g.stage, g.resource, g.name, g.pattern, g.operations) for g in grants]
    print_rows(("stage", "resource", "name", "pattern", "operations"), rows, as_json)


def capture(
    vendor: Annotated[str, typer.Argument(help=f"{', '.join(BUILT_IN)}, or another registered vendor.")],
    seconds: Annotated[timedelta, for_option(f"How long to listen: {SPANS}, or seconds; default 1m.")] = timedelta(
        minutes=1
    ),
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder in which the vendor's folder of recordings is made.")
    ] = Path("recordings"),
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Record what a vendor sends, redacted: one file per shape of payload.

    Listens to the raw topic of the running pipeline from now on. The files have the form that the tests use.
    """
    from fleetlake.ops.capture import capture as record
    from fleetlake.stages import resolve_kafka

    kafka = resolve_kafka(read_settings(config, data))
    written = asyncio.run(record(kafka, vendor, seconds.total_seconds(), out))
    for path in written:
        typer.echo(path)
    typer.echo(f"{len(written)} recording(s)", err=True)
