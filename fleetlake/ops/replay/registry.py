"""The registry's history: what its topic holds, and from the live lake what was compacted away there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import pyarrow.dataset as ds
from deltalake.exceptions import TableNotFoundError

from fleetlake.ops.replay.topic_contents import RebuiltRecord, read_contents
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.consumed import Record
from sinks.delta.location import LakeLocation
from sinks.delta.tables import DEVICES_TABLE


async def registry_history(kafka: KafkaSettings, live: LakeLocation) -> AsyncIterator[tuple[int, list[Record]]]:
    """Each partition of the registry topic, with its entries in order."""
    contents = await read_contents(kafka, DEVICES_TABLE.topic)
    for partition, records in contents.records.items():
        held = {record.offset for record in records}
        compacted = [record for record in _entries_of_lake(live, partition) if record.offset not in held]
        yield partition, sorted([*records, *compacted], key=lambda record: record.offset)


def _entries_of_lake(live: LakeLocation, partition: int) -> list[Record]:
    try:
        table = live.open(DEVICES_TABLE.name).to_pyarrow_dataset()
    except TableNotFoundError:
        return []
    rows = table.to_table(filter=ds.field("origin_partition") == partition).to_pylist()
    return [entry_of_row(row) for row in rows]


def entry_of_row(row: dict[str, Any]) -> Record:
    """A row of the table `devices` as the registry entry it was; a tombstone where the device was deleted."""
    value = None
    if not row["deleted"]:
        device = wire.Device(
            device_id=row["device_id"],
            vendor=row["vendor"],
            updated_at=row["updated_at"].replace(tzinfo=UTC),
            registered=row["registered"],
            name=row["name"],
            model=row["model"],
            serial_number=row["serial_number"],
            firmware_version=row["firmware_version"],
            attributes=json.loads(row["attributes"] or "{}"),
        )
        value = wire.encode(device)
    timestamp = int(row["received_at"].replace(tzinfo=UTC).timestamp() * 1000)
    key = row["device_id"].encode()
    return RebuiltRecord(DEVICES_TABLE.topic, row["origin_partition"], row["origin_offset"], timestamp, key, value)
