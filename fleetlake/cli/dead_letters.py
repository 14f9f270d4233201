"""`fleetlake dead-letters …`: messages that could not be used, and putting them back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, parse_time
from fleetlake.cli.output import print_records, time_text
from fleetlake.cli.stores import existing_tables, open_lake
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings
    from fleetlake.ops.dead_letters import Letter, LetterFilter
    from sinks.delta.location import LakeLocation

dead_letters = typer.Typer(
    help="Messages that could not be used: show them, put them back.", no_args_is_help=True, rich_markup_mode=None
)
VendorOption = Annotated[str | None, typer.Option(help="Only this vendor's.")]
StageOption = Annotated[str | None, typer.Option(help="Only those of this stage: connector, normalise, sink.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only those with this reason among their problems.")]
FromOption = Annotated[str | None, typer.Option("--from", help="Only those received since: a time, or 24h, 7d.")]


@dead_letters.command("list")
def list_dead_letters(
    vendor: VendorOption = None,
    stage: StageOption = None,
    reason: ReasonOption = None,
    since: FromOption = None,
    each: Annotated[bool, typer.Option("--each", help="Print one row per letter instead of counts.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="With --each: at most this many, the newest.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Show the dead letters: counts, or each."""
    from fleetlake.ops.dead_letters import LetterFilter, summary

    _, _, letters = _letters(config, data, LetterFilter(vendor, stage, reason, parse_time(since)))
    if as_json and each:
        print(json.dumps([_as_json(letter) for letter in letters[-limit:]], indent=1, default=str))
    elif not each:
        print_records(list(summary(letters)), as_json)
    else:
        print_records([_as_row(letter) for letter in letters[-limit:]])


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
        typer.Option(help="Name of this attempt; repeating it makes no duplicates. Default: the time."),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be put back.")] = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Put messages back on their raw topics, to be normalised once more: after an update, or a change of settings.

    Only messages of which nothing was used are put back: of a message with a single bad field, the other fields would
    be stored twice. A message that a connector refused is put back if all of it was kept and the connector would accept
    it now: a Kärcher machine that the registry has since learnt of, or a body that an update understands.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.ops.dead_letters import LetterFilter
    from fleetlake.ops.put_back import put_back
    from fleetlake.stages import resolve_kafka

    chosen = LetterFilter(vendor, None, reason, parse_time(since), tuple(messages or ()))
    settings, location, letters = _letters(config, data, chosen)
    if dry_run:
        outcomes = [(letter, letter.kept_back) for letter in letters]
    else:
        name = attempt or datetime.now(UTC).isoformat(timespec="seconds")
        try:
            outcomes = asyncio.run(put_back(resolve_kafka(settings), location, letters, name))
        except KafkaError as error:
            raise UserError(f"not all messages were put back: {error or type(error).__name__}") from error
    counts = Counter(why or ("would be put back" if dry_run else "put back") for _, why in outcomes)
    print_records([{"outcome": outcome, "letters": count} for outcome, count in counts.most_common()])


def _letters(
    config: Path | None, data: Path | None, chosen: LetterFilter
) -> tuple[Settings, LakeLocation, list[Letter]]:
    from fleetlake.ops.dead_letters import read_letters

    settings, location = open_lake(config, data)
    existing_tables(location, ["dead_letters"])
    return settings, location, read_letters(location, chosen)


def _as_row(letter: Letter) -> dict[str, Any]:
    return {
        "received": time_text(letter.received_at),
        "message": letter.message_id,
        "device": letter.device_id,
        "stage": letter.stage,
        "type": letter.message_type,
        "problems": "; ".join(f"{p.get('path')} {p.get('reason')}".strip() for p in letter.problems),
        "goes back": "yes" if letter.kept_back is None else f"no: {letter.kept_back}",
    }


def _as_json(letter: Letter) -> dict[str, Any]:
    return {name: value for name, value in asdict(letter).items() if name != "envelopes"}
