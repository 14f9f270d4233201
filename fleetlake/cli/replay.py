"""`fleetlake replay`: make the tables anew from the raw records, in another lake."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption, JsonOption, parse_time
from fleetlake.cli.output import print_records
from fleetlake.cli.stores import open_lake
from fleetlake.errors import UserError


def replay(
    since: Annotated[
        str, typer.Option("--from", help="Raw records received since: a time (UTC unless it names a zone), or 24h, 7d.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Data folder for the new lake; it must not hold a lake.")],
    vendors: Annotated[list[str] | None, typer.Option("--vendor", help="Only these vendors; default all.")] = None,
    alarms: Annotated[
        bool | None,
        typer.Option(
            "--alarms/--no-alarms",
            help="Make alarms anew even if records that they need are gone, or do not make them at all.",
        ),
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make the tables anew from the raw records, in another lake: readings, events, alarms, registry, dead letters.

    Uses the current normalisers and disturbs nothing that runs. Then compare with `fleetlake lake diff data NEW
    --common`. Alarms need the raw records from their beginning, and rules and actions as they were; if some of these
    are gone, a message says so and the other tables are made.
    """
    from aiokafka.errors import KafkaError

    from fleetlake.config import require_vendors
    from fleetlake.ops.replay.rebuild import Replay
    from fleetlake.stages import resolve_kafka
    from schemas.vendors import vendor_names

    settings, location = open_lake(config, data)
    require_vendors(vendors or [])
    begin = parse_time(since)
    assert begin is not None
    rebuilding = Replay(resolve_kafka(settings), settings.stream, location, into, begin)
    try:
        chosen = vendors or list(vendor_names())
        done = asyncio.run(rebuilding.run(chosen, lambda line: print(line, file=sys.stderr), alarms))
    except (KafkaError, OSError) as error:
        raise UserError(f"the replay stopped: {error or type(error).__name__}") from error
    print_records([asdict(one) for one in done], as_json)
