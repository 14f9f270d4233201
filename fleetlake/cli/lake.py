"""Commands for whoever looks after the lake: `fleetlake lake …`."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, read_settings
from fleetlake.cli.output import print_records, time_text
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings
    from fleetlake.ops.dead_letters import Letter, Wanted
    from sinks.delta.location import LakeLocation

lake = typer.Typer(
    help="The lake: merge files, delete unneeded ones, count, compare.", no_args_is_help=True, rich_markup_mode=None
)

TablesArgument = Annotated[list[str] | None, typer.Argument(help="Tables; default all.")]


@lake.command()
def compact(
    tables: TablesArgument = None, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Merge small files now, whatever the schedule, and let rows go that are too old.

    A running sink is not disturbed, and does the same on its own.
    """
    from sinks.delta.maintenance import Contended, tidy

    settings, location = _lake(config, data)
    eager = settings.sink.delta.model_copy(update={"compact_files": 2})
    found = []
    for name in _existing(location, tables):
        try:
            done = tidy(location, name, eager, vacuum=False)
        except Contended as error:
            raise UserError(f"{name}: {error}; try again") from error
        found.append({"table": name, "files merged": done.merged, "into": done.into, "expired": done.expired})
    print_records(found, as_json)


@lake.command()
def vacuum(
    tables: TablesArgument = None,
    hours: Annotated[
        int | None, typer.Option(min=0, help="Keep what was replaced since; default [sink.delta] retention_hours.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Delete files that no version of the last hours needs.

    A query that has run for longer fails, and so does a copy of fleet.duckdb that is older.
    """
    from sinks.delta.maintenance import vacuum_table

    settings, location = _lake(config, data)
    keep = settings.sink.delta.retention_hours if hours is None else hours
    found = [
        {
            "table": name,
            "files deleted" if not dry_run else "files to delete": len(
                vacuum_table(location.open(name), keep, dry_run)
            ),
        }
        for name in _existing(location, tables)
    ]
    print_records(found, as_json)


@lake.command()
def stats(
    tables: TablesArgument = None, as_json: JsonOption = False, config: ConfigOption = None, data: DataOption = None
) -> None:
    """Show the size of each table: rows, files, bytes, days."""
    from sinks.delta.maintenance import live_files

    _, location = _lake(config, data)
    found = []
    for name in _existing(location, tables):
        delta = location.open(name)
        files = live_files(delta)
        rows, size = sum(file.rows for file in files), sum(file.bytes for file in files)
        days = sorted({file.day for file in files})
        found.append(
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
    print_records(found, as_json)


@lake.command()
def verify(
    tables: TablesArgument = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="First mend what a power cut has torn: move the last, torn commits aside, for the sink to write their "
            "rows again from Kafka. The sinks have to be stopped.",
        ),
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Recount the lake against Kafka. Status 1 if anything is missing, double or damaged.

    Every record that Kafka still holds and the lake has passed must have its rows once. Reads both from end to end.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.local.stages import resolve_kafka
    from sinks.delta.tables import TABLES, raw_tables
    from sinks.delta.verify import verify as recount

    settings, location = _lake(config, data)
    if repair:
        _repair(settings, location, tables)
    every = [*TABLES, *(raw_tables() if settings.sink.delta.raw else ())]
    chosen = [table for table in every if not tables or table.name in tables]
    try:
        counted, problems = asyncio.run(recount(location, resolve_kafka(settings), chosen, _expiry(settings)))
    except (KafkaError, RuntimeError) as error:
        raise UserError(f"cannot compare with Kafka: {error or type(error).__name__}") from error
    summary = [{k: v for k, v in asdict(one).items() if k != "problems"} for one in counted]
    wrong = [asdict(problem) for problem in problems]
    if as_json:
        print(json.dumps({"counted": summary, "problems": wrong}, indent=1))
    else:
        print_records(summary)
        print_records(wrong)
        print(f"{len(wrong)} problem(s)" if wrong else "no hole, no double")
    raise typer.Exit(1 if wrong else 0)


def _repair(settings: Settings, location: LakeLocation, tables: list[str] | None) -> None:
    """Mend the logs of a local lake, and say what was moved."""
    from contextlib import ExitStack

    from fleetlake.local.orchestrator import lock_folder
    from sinks.delta.log_repair import TornLog, repair
    from sinks.delta.tables import BY_NAME

    root = location.local
    if root is None:
        raise UserError(
            "only a lake on a local disk can be torn by a power cut; an object store keeps what it has taken"
        )
    with ExitStack() as stack:
        lock_folder(settings.pipeline.data, stack)
        for name in tables or BY_NAME:
            if (root / name / "_delta_log").is_dir():
                try:
                    for one in repair(root / name):
                        print(f"{name}: moved aside {one}", file=sys.stderr)
                except TornLog as error:
                    raise UserError(str(error)) from error


@lake.command("diff")
def diff_lakes(
    first: Annotated[Path, typer.Argument(help="Data folder of the one lake, e.g. data.")],
    second: Annotated[Path, typer.Argument(help="Data folder of the other, e.g. what `fleetlake replay` made.")],
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--table", help="readings, events, alarm_events, devices, dead_letters; default all but the last."
        ),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="Only what was received since: a time, or 24h, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only what was received before.")] = None,
    vendor: Annotated[str | None, typer.Option(help="Only this vendor's.")] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Only the stretch of raw records that both lakes have.")
    ] = False,
    examples: Annotated[int, typer.Option(min=0, help="Show so many rows.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Compare two lakes, row by row. Status 1 if they differ.

    Missing is what only the first has, extra what only the second has; what differs tells another value of the same
    reading (device, metric, time and raw record) or event.
    """
    from deltalake.exceptions import TableNotFoundError

    from sinks.delta.diff import KEYS, Scope, diff
    from sinks.delta.location import LakeLocation

    scope = Scope(moment(since), moment(until), vendor, common)
    one, other = (LakeLocation(str(folder.resolve() / "lake")) for folder in (first, second))
    found = []
    for table in tables or [name for name in KEYS if name != "dead_letters"]:
        if table not in KEYS:
            raise UserError(f"cannot compare {table!r}: {', '.join(KEYS)} can be")
        try:
            found.append(diff(one, other, table, scope, examples))
        except TableNotFoundError as error:
            if tables:
                raise UserError(f"no table {table!r}: {error}") from error
            print(f"{table}: not compared, one of the lakes has no such table", file=sys.stderr)
    if not found:
        raise UserError(f"no lake in {first} or {second} to compare")
    if as_json:
        print(json.dumps([asdict(each) for each in found], indent=1, default=str))
    else:
        print_records([{k: v for k, v in asdict(each).items() if k != "examples"} for each in found])
        for each in found:
            print_records(each.examples)
    raise typer.Exit(0 if all(each.alike for each in found) else 1)


def replay(
    since: Annotated[
        str, typer.Option("--from", help="Raw records since: a time (UTC if it says no zone), or 24h, 7d.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Data folder for the new lake; it must hold none.")],
    vendors: Annotated[list[str] | None, typer.Option("--vendor", help="Only these vendors; default all.")] = None,
    alarms: Annotated[
        bool | None,
        typer.Option(
            "--alarms/--no-alarms", help="Make alarms anew even if some of what they need is gone; or not at all."
        ),
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make the tables anew from the raw records, in another lake: readings, events, alarms, registry, dead letters.

    With today's normalising; nothing that runs is disturbed. Then `fleetlake lake diff data NEW --common` compares.
    Alarms take the raw records from their beginning, and rules and actions as they were; if some of it is gone,
    it says so, and makes the other tables.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.local.stages import resolve_kafka
    from fleetlake.ops.replay import Replay
    from schemas.topics import VENDORS

    settings, location = _lake(config, data)
    unknown = [vendor for vendor in vendors or [] if vendor not in VENDORS]
    if unknown:
        raise UserError(f"unknown vendor {unknown[0]!r}; known are {', '.join(VENDORS)}")
    begin = moment(since)
    assert begin is not None
    rebuilding = Replay(resolve_kafka(settings), settings.stream, location, into, begin)
    try:
        found = asyncio.run(rebuilding.run(vendors or list(VENDORS), lambda said: print(said, file=sys.stderr), alarms))
    except (KafkaError, OSError) as error:
        raise UserError(f"replay stopped: {error or type(error).__name__}") from error
    print_records([asdict(one) for one in found])


def erase(
    device: Annotated[str, typer.Argument(help="The device, vendor:native-id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[int, typer.Option(min=0, help="Wait so many seconds for fleet.duckdb to follow.")] = 60,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Delete what a device told from all tables, for good.

    Disconnect it first: what comes later is written as ever. Kafka's topics keep their records until retention ends.
    """
    from aiokafka.errors import KafkaError
    from sqlalchemy.exc import SQLAlchemyError

    from fleetlake.local.stages import resolve_kafka
    from fleetlake.ops.erase import delete_files, erase_alarms, erase_rows, forget_registry_entry, wait_for_published
    from runtime.errors import StageError
    from sinks.delta.maintenance import Contended

    settings, location = _lake(config, data)
    _existing(location, None)
    if not yes:
        typer.confirm(f"Delete all rows of {device} from {location.root}? They cannot be brought back", abort=True)
    try:
        asyncio.run(forget_registry_entry(resolve_kafka(settings), device))
        alarms = erase_alarms(settings.alarms, settings.pipeline.data, device)
        done = erase_rows(location, device)
    except (KafkaError, Contended, StageError, SQLAlchemyError) as error:
        raise UserError(f"not erased, run it again: {error or type(error).__name__}") from error
    rows = {**done.rows} if alarms is None else {**done.rows, "(alarm service)": alarms}
    print_records([{"table": name, "rows deleted": count} for name, count in rows.items()])
    if not wait_for_published(settings.pipeline.data, done, wait):
        raise UserError(
            "the rows are deleted from the lake, but fleet.duckdb does not follow: is `fleetlake sink duckdb` running? "
            "Start it and run this again, so that the files go too"
        )
    delete_files(location, done)
    print("deleted, files and all; Kafka keeps its records until retention ends: raw and readings 7 days, alarms 30")


dead_letters = typer.Typer(
    help="What could not be used: look at it, put it back.", no_args_is_help=True, rich_markup_mode=None
)
VendorOption = Annotated[str | None, typer.Option(help="Only this vendor's.")]
StageOption = Annotated[str | None, typer.Option(help="Only of this stage: connector, normalise, sink.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only with this reason among the problems.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Only received since: a time, or 24h, 7d.")]


@dead_letters.command("list")
def list_dead_letters(
    vendor: VendorOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    since: FromOption = None,
    each: Annotated[bool, typer.Option("--each", help="One row a letter, instead of counts.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --each: at most so many, the newest.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show the dead letters: how many of what, or each."""
    from fleetlake.ops.dead_letters import Wanted, summary

    _, _, found = _letters(config, data, Wanted(vendor, stage, reason, moment(since)))
    if as_json and each:
        print(json.dumps([_told(letter) for letter in found[-limit:]], indent=1, default=str))
    elif not each:
        print_records(list(summary(found)), as_json)
    else:
        print_records(
            [
                {
                    "received": time_text(letter.received_at),
                    "message": letter.message_id,
                    "device": letter.device_id,
                    "stage": letter.stage,
                    "type": letter.message_type,
                    "problems": "; ".join(f"{p.get('path')} {p.get('reason')}".strip() for p in letter.problems),
                    "goes back": "yes" if letter.kept_back is None else f"no: {letter.kept_back}",
                }
                for letter in found[-limit:]
            ]
        )


def _told(letter: Letter) -> dict[str, Any]:
    return {name: value for name, value in asdict(letter).items() if name != "envelopes"}


@dead_letters.command("replay")
def replay_dead_letters(
    messages: Annotated[
        list[str] | None, typer.Argument(help="Ids of messages; default all that are selected.")
    ] = None,
    vendor: VendorOption = None,
    reason: ReasonOption = None,
    since: FromOption = None,
    attempt: Annotated[
        str,
        typer.Option(help="Name of this attempt: with the same name again, nothing is told twice. Default: the time."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go back.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Put messages back on their raw topics, to be normalised again: after an update, or a change of settings.

    Only messages of which nothing was used: of one with a single bad field, the rest would be told twice. What a
    connector refused goes back if all of it was kept and the connector would take it now: a Kärcher machine that the
    registry has learnt of, a body that an update understands.
    """
    from collections import Counter

    from aiokafka.errors import KafkaError

    from fleetlake.local.stages import resolve_kafka
    from fleetlake.ops.dead_letters import Wanted, put_back

    wanted = Wanted(vendor, None, reason, moment(since), tuple(messages or ()))
    settings, location, found = _letters(config, data, wanted)
    if dry_run:
        told = [(letter, letter.kept_back) for letter in found]
    else:
        name = attempt or datetime.now(UTC).isoformat(timespec="seconds")
        try:
            told = asyncio.run(put_back(resolve_kafka(settings), location, found, name))
        except KafkaError as error:
            raise UserError(f"not all were put back: {error or type(error).__name__}") from error
    outcomes = Counter(why or ("would go back" if dry_run else "put back") for _, why in told)
    print_records([{"outcome": outcome, "letters": count} for outcome, count in outcomes.most_common()])


def _letters(config: Path | None, data: Path | None, wanted: Wanted) -> tuple[Settings, LakeLocation, list[Letter]]:
    from fleetlake.ops.dead_letters import letters

    settings, location = _lake(config, data)
    _existing(location, ["dead_letters"])
    return settings, location, letters(location, wanted)


def moment(text: str | None) -> datetime | None:
    """A time (UTC where it has no zone), or so long ago: `90m`, `24h`, `7d`. UserError for anything else."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d+)([mhd])", text):
        unit = {"m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return datetime.now(UTC) - timedelta(**{unit: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{text!r} is no time: 2026-11-21T08:00Z, or 90m, 24h, 7d for so long ago") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _lake(config: Path | None, data: Path | None) -> tuple[Settings, LakeLocation]:
    from sinks.delta.location import LakeLocation

    settings = read_settings(config, data)
    return settings, LakeLocation.of(settings.pipeline.data, settings.sink.delta)


def _expiry(settings: Settings) -> dict[str, int]:
    return {str(name): days for name, days in settings.sink.delta.expire_days.items()}


def _existing(location: LakeLocation, names: list[str] | None) -> list[str]:
    """The tables asked for; UserError for one that is not there."""
    from deltalake import DeltaTable

    from sinks.delta.tables import BY_NAME

    options = dict(location.options) or None
    there = [name for name in BY_NAME if DeltaTable.is_deltatable(location.uri(name), options)]
    missing = [name for name in names or [] if name not in there]
    if missing:
        raise UserError(f"no table {missing[0]!r} in {location.root}; there are {', '.join(there) or 'none'}")
    if not there:
        raise UserError(f"no lake in {location.root} yet")
    for name in names or there:
        _sound(location, name)
    return names or there


def _sound(location: LakeLocation, name: str) -> None:
    from sinks.delta.log_repair import ADVICE, TornLog, torn

    try:
        found = torn(location.local / name) if location.local else []
    except TornLog as error:
        raise UserError(str(error)) from error
    if found:
        raise UserError(f"{name}: {found[0]}. A power cut? {ADVICE}")
