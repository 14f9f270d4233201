"""Commands for whoever sets a pipeline up: `config`, `check`, `topics`, `capture`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, read_settings
from fleetlake.cli.output import print_table
from schemas.vendors import BUILT_IN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runtime.checks import CheckResult


def config(
    config: ConfigOption = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example file that explains every key instead.")
    ] = False,
) -> None:
    """Print the configuration in force, with secrets masked."""
    from fleetlake.config import effective_toml, example_toml

    typer.echo(example_toml() if example else effective_toml(read_settings(config, None)))


def check(
    vendors: Annotated[list[str] | None, typer.Argument(help="Vendors; default [pipeline] vendors.")] = None,
    config: ConfigOption = None,
    data: DataOption = None,
    send: Annotated[
        bool, typer.Option("--send/--no-send", help="Also send a test notification over each channel of [notify].")
    ] = False,
) -> None:
    """Show what works and what does not, and why.

    Checks each vendor, Kafka, its topics, the alarm rules, the data folder, the alarm service and its channels.
    Status 1 if anything does not work.
    """
    from fleetlake.local.stages import resolve_kafka
    from fleetlake.ops.checks import run_checks

    settings = read_settings(config, data)
    results = asyncio.run(run_checks(settings, vendors or [], lambda: resolve_kafka(settings), send=send))
    _print_results(results)
    raise typer.Exit(0 if all(result.ok for result in results) else 1)


def _print_results(results: Sequence[CheckResult]) -> None:
    from rich.text import Text

    marks = {True: Text("ok", "green"), False: Text("FAILED", "red")}
    print_table(("", "what", "detail"), [(marks[result.ok], result.name, result.detail) for result in results])


def topics(config: ConfigOption = None, data: DataOption = None) -> None:
    """Declare missing Kafka topics, and show all of them."""
    from fleetlake.local.stages import resolve_kafka
    from runtime.kafka import declare_topics
    from schemas.topics import topic_specs

    states = asyncio.run(declare_topics(resolve_kafka(read_settings(config, data)), topic_specs()))
    print_table(
        ("topic", "partitions", "", "what travels on it"),
        [(s.spec.name, str(s.partitions), "created" if s.created else "", s.spec.purpose) for s in states],
    )


def capture(
    vendor: Annotated[str, typer.Argument(help=f"{', '.join(BUILT_IN)}, or another registered vendor.")],
    seconds: Annotated[int, typer.Option(min=1, help="How long to listen.")] = 60,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder in which the vendor's folder of recordings is made.")
    ] = Path("recordings"),
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Record what a vendor sends, redacted: one file per shape of payload.

    Listens to the raw topic of the running pipeline from now on. The files have the form that the tests use.
    """
    from fleetlake.local.stages import resolve_kafka
    from fleetlake.ops.capture import capture as record

    kafka = resolve_kafka(read_settings(config, data))
    written = asyncio.run(record(kafka, vendor, seconds, out))
    for path in written:
        typer.echo(path)
    typer.echo(f"{len(written)} recording(s)", err=True)
