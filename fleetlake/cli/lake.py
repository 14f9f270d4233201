"""`fleetlake lake …`: commands for whoever maintains the lake."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetlake.cli.options import SPANS, ConfigOption, DataOption, JsonOption, parse_time, span_in
from fleetlake.cli.output import print_records
from fleetlake.cli.stores import existing_tables, open_lake
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings
    from sinks.delta.location import LakeLocation

lake = typer.Typer(
    help="The lake: merge files, delete unneeded files, verify, compare.", no_args_is_help=True, rich_markup_mode=None
)

TablesArgument = Annotated[list[str] | None, typer.Argument(help="Tables; default all.")]


@lake.command()
def compact(
    tables: TablesArgument = None, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Merge small files now, whatever the schedule, and delete rows that are too old.

    A running sink is not disturbed; it does the same by itself.
    """
    from sinks.delta.maintenance.commits import Contended
    from sinks.delta.maintenance.table import maintain

    settings, location = open_lake(config, data)
    eager = settings.sink.delta.model_copy(update={"compact_files": 2})
    results = []
    for name in existing_tables(location, tables):
        try:
            done = maintain(location, name, eager, vacuum=False)
        except Contended as error:
            raise UserError(f"{name}: {error}; try again") from error
        results.append({"table": name, "files merged": done.merged, "into": done.into, "expired": done.expired})
    print_records(results, as_json)


@lake.command()
def vacuum(
    tables: TablesArgument = None,
    keep_for: Annotated[
        timedelta | None,
        typer.Option(
            "--keep",
            "--hours",
            parser=span_in("h"),
            metavar="SPAN",
            help=f"Keep files replaced within this time: {SPANS}, or hours; default [sink.delta] retention_hours.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Delete files that no version of the last hours needs.

    A query that has run for longer fails, and so does an older copy of fleet.duckdb.
    """
    from sinks.delta.maintenance.vacuum import vacuum_table

    settings, location = open_lake(config, data)
    keep = settings.sink.delta.retention_hours if keep_for is None else keep_for / timedelta(hours=1)
    results = [
        {
            "table": name,
            "files deleted" if not dry_run else "files to delete": len(
                vacuum_table(location.open(name), keep, dry_run)
            ),
        }
        for name in existing_tables(location, tables)
    ]
    print_records(results, as_json)


@lake.command()
def stats(
    tables: TablesArgument = None, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Show the size of each table: rows, files, bytes, days."""
    from sinks.delta.log_reader import live_files

    _, location = open_lake(config, data)
    sizes = []
    for name in existing_tables(location, tables):
        delta = location.open(name)
        files = live_files(delta)
        rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
        days = sorted({file.day for file in files})
        sizes.append(
            {
                "table": name,
                "version": delta.version(),
                "rows": rows,
                "files": len(files),
                "bytes": size,
                "bytes a row": round(size / rows, 2) if rows else None,
                "first day": days[0] if days else None,
                "last day": days[-1] if days else None,
            }
        )
    print_records(sizes, as_json)


@lake.command()
def verify(
    tables: TablesArgument = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="First repair what a power cut has damaged: move the last, damaged commits aside, so that the sink "
            "writes their rows once more from Kafka. Stop the sinks before.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Compare the lake with Kafka. Status 1 if anything is missing, duplicated or damaged.

    Every record that Kafka still holds, up to where the lake has read, must have its rows exactly once. Reads both from
    end to end.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.stages import resolve_kafka
    from sinks.delta.tables import TABLES, raw_tables
    from sinks.delta.verify import verify as compare

    settings, location = open_lake(config, data)
    if repair:
        _repair(settings, location, tables)
    every = [*TABLES, *(raw_tables() if settings.sink.delta.raw else ())]
    chosen = [table for table in every if not tables or table.name in tables]
    try:
        counted, problems = asyncio.run(compare(location, resolve_kafka(settings), chosen, _expiry(settings)))
    except (KafkaError, RuntimeError) as error:
        raise UserError(f"cannot compare with Kafka: {error or type(error).__name__}") from error
    summary = [{k: v for k, v in asdict(one).items() if k != "problems"} for one in counted]
    wrong = [asdict(problem) for problem in problems]
    if as_json:
        print(json.dumps({"counted": summary, "problems": wrong}, indent=1))
    else:
        print_records(summary)
        print_records(wrong)
        print(f"{len(wrong)} problem(s)" if wrong else "nothing missing, nothing duplicated")
    raise typer.Exit(1 if wrong else 0)


def _repair(settings: Settings, location: LakeLocation, tables: list[str] | None) -> None:
    """Repair the logs of a local lake, and print what was moved."""
    from contextlib import ExitStack

    from fleetlake.local.orchestrator import lock_folder
    from sinks.delta.log_repair import DamagedLog, repair
    from sinks.delta.tables import BY_NAME

    root = location.local
    if root is None:
        raise UserError(
            "only a lake on a local disk can be damaged by a power cut; an object store keeps what it has accepted"
        )
    with ExitStack() as stack:
        lock_folder(settings.pipeline.data, stack)
        for name in tables or BY_NAME:
            if (root / name / "_delta_log").is_dir():
                try:
                    for one in repair(root / name):
                        print(f"{name}: moved aside {one}", file=sys.stderr)
                except DamagedLog as error:
                    raise UserError(str(error)) from error


@lake.command("diff")
def diff_lakes(
    first: Annotated[Path, typer.Argument(help="Data folder of the first lake, e.g. data.")],
    second: Annotated[
        Path, typer.Argument(help="Data folder of the second lake, e.g. one that `fleetlake replay` made.")
    ],
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table", help="readings, events, alarm_events, devices, dead_letters; default all but the last."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option("--from", help="Only rows received since: a time, or 24h, 7d.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only rows received before.")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only this vendor's.")] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Only the range of raw records that both lakes have.")
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="Show this many differing rows.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Compare two lakes, row by row. Status 1 if they differ.

    Missing rows are only in the first lake, extra rows only in the second. Rows that differ have different values for
    the same reading (device, metric, time and raw record) or event.
    """
    from deltalake.exceptions import TableNotFoundError

    from sinks.delta.diff import KEYS, Scope, diff
    from sinks.delta.location import LakeLocation

    scope = Scope(parse_time(since), parse_time(until), vendor, common)
    one, other = (LakeLocation(str(folder.resolve() / "lake")) for folder in (first, second))
    differences = []
    for table in tables or [name for name in KEYS if name != "dead_letters"]:
        if table not in KEYS:
            raise UserError(f"cannot compare {table!r}; choose from {', '.join(KEYS)}")
        try:
            differences.append(diff(one, other, table, scope, examples))
        except TableNotFoundError as error:
            if tables:
                raise UserError(f"no table {table!r}: {error}") from error
            print(f"{table}: not compared, since one of the lakes has no such table", file=sys.stderr)
    if not differences:
        raise UserError(f"no lake in {first} or {second} to compare")
    if as_json:
        print(json.dumps([asdict(each) for each in differences], indent=1, default=str))
    else:
        print_records([{k: v for k, v in asdict(each).items() if k != "examples"} for each in differences])
        for each in differences:
            print_records(each.examples)
    raise typer.Exit(0 if all(each.alike for each in differences) else 1)


def _expiry(settings: Settings) -> dict[str, int]:
    return {str(name): days for name, days in settings.sink.delta.expire_days.items()}
