"""`fleetlake erase`: delete what a device sent, from all tables."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from fleetlake.cli.options import ConfigOption, DataOption
from fleetlake.cli.output import print_records
from fleetlake.cli.stores import existing_tables, open_lake
from fleetlake.errors import UserError
from fleetlake.hints import command


def erase(
    device: Annotated[str, typer.Argument(help="The device, as vendor:native-id.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    wait: Annotated[int, typer.Option(min=0, help="Seconds to wait for fleet.duckdb to follow.")] = 60,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Delete what a device sent from all tables, for good.

    Disconnect the device first: whatever arrives later is written as usual. Kafka's topics keep their records until
    their retention ends.
    """
    from aiokafka.errors import KafkaError
    from sqlalchemy.exc import SQLAlchemyError

    from fleetlake.ops.erase import (
        delete_files,
        erase_alarms,
        erase_rows,
        forget_registry_entry,
        is_known,
        wait_for_published,
    )
    from fleetlake.stages import resolve_kafka
    from runtime.errors import StageError
    from sinks.delta.maintenance.commits import Contended

    settings, location = open_lake(config, data)
    existing_tables(location, None)
    if not is_known(location, settings.alarms, settings.pipeline.data, device):
        raise UserError(
            f"no table has a row of {device!r}; a device is named vendor:native-id, and "
            f"`{command('sql', '--data', settings.pipeline.data, 'SELECT device_id FROM devices')}` lists them"
        )
    kafka = resolve_kafka(settings)
    if not yes:
        typer.confirm(f"Delete all rows of {device} from {location.root}? They cannot be restored", abort=True)
    try:
        asyncio.run(forget_registry_entry(kafka, device))
        alarms = erase_alarms(settings.alarms, settings.pipeline.data, device)
        erased = erase_rows(location, device)
    except (KafkaError, Contended, StageError, SQLAlchemyError) as error:
        raise UserError(
            f"the device is not erased completely; run this again: {error or type(error).__name__}"
        ) from error
    rows = {**erased.rows} if alarms is None else {**erased.rows, "(alarm service)": alarms}
    print_records([{"table": name, "rows deleted": count} for name, count in rows.items()])
    if not wait_for_published(settings.pipeline.data, erased, wait):
        raise UserError(
            "the rows are deleted from the lake, but fleet.duckdb does not follow: is `fleetlake sink duckdb` running? "
            "Start it and run this again, so that the files are deleted too"
        )
    delete_files(location, erased)
    print(
        "The rows and their files are deleted. Kafka keeps its records until their retention ends: raw records and "
        "readings 7 days, alarms 30 days."
    )
