"""The raw records of a vendor: those that Kafka has expired from the table `raw`, the others from Kafka."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow.dataset as ds
from deltalake.exceptions import TableNotFoundError

from fleetlake.ops.replay.topic_contents import RebuiltRecord
from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import read_spans, spans_of, spans_since, topic_consumer
from schemas.consumed import Record
from schemas.topics import raw_topic
from sinks.delta.location import LakeLocation

_BATCH_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Raw records of one partition, in order."""

    records: list[Record]
    from_table: bool


class RawRecords:
    """The raw records, in the lake `live` and in Kafka. Reads as no member of any group."""

    def __init__(self, kafka: KafkaSettings, live: LakeLocation) -> None:
        self._kafka = kafka
        self._live = live

    async def read(self, vendor: str, start_ms: int) -> AsyncIterator[RawBatch]:
        """The records of a vendor received since `start_ms` (epoch milliseconds; 0: all), each partition in order."""
        topic = raw_topic(vendor)
        async with topic_consumer(client_options(self._kafka), topic) as (consumer, partitions):
            spans = await spans_of(consumer, partitions)
            for records in self._expired(topic, {tp.partition: span.start for tp, span in spans.items()}, start_ms):
                yield RawBatch(records, from_table=True)
            if start_ms:
                spans = await spans_since(consumer, spans, start_ms)
            async for batch in read_spans(consumer, spans):
                yield RawBatch(batch.records, from_table=False)

    async def why_incomplete(self, vendor: str) -> str | None:
        """Which raw records from the beginning are neither in Kafka nor in the table; None if all are there."""
        topic = raw_topic(vendor)
        async with topic_consumer(client_options(self._kafka), topic) as (consumer, partitions):
            begin = await consumer.beginning_offsets(partitions)
        for tp, offset in begin.items():
            if offset and self._count_in_table(topic, tp.partition, offset) < offset:
                return f"raw records of {vendor} before offset {offset} of partition {tp.partition} are gone"
        return None

    def _count_in_table(self, topic: str, partition: int, before: int) -> int:
        table = self._table()
        return 0 if table is None else int(table.count_rows(filter=_before(topic, partition, before)))

    def _expired(self, topic: str, begins: dict[int, int], start_ms: int) -> Iterator[list[Record]]:
        """The table's records from before Kafka's first ones, in batches of one partition."""
        if (table := self._table()) is None:
            return
        earliest = datetime.fromtimestamp(start_ms / 1000, UTC).replace(tzinfo=None)
        for partition, offset in begins.items():
            rows = table.to_table(
                columns=["origin_offset", "received_at", "device_id", "value", "headers"],
                filter=_before(topic, partition, offset) & (ds.field("received_at") >= earliest),
            ).sort_by("origin_offset")
            for batch in rows.to_batches(max_chunksize=_BATCH_RECORDS):
                yield [record_of_row(topic, partition, row) for row in batch.to_pylist()]

    def _table(self) -> ds.Dataset | None:
        try:
            return self._live.open("raw").to_pyarrow_dataset()
        except TableNotFoundError:
            return None


def record_of_row(topic: str, partition: int, row: dict[str, Any]) -> Record:
    """A row of the table `raw` as the record it was."""
    timestamp = int(row["received_at"].replace(tzinfo=UTC).timestamp() * 1000)
    headers = [(name, None if value is None else value.encode()) for name, value in json.loads(row["headers"])]
    key = row["device_id"].encode()
    return RebuiltRecord(topic, partition, row["origin_offset"], timestamp, key, row["value"], headers)


def _before(topic: str, partition: int, offset: int) -> ds.Expression:
    return (
        (ds.field("origin_topic") == topic)
        & (ds.field("origin_partition") == partition)
        & (ds.field("origin_offset") < offset)
    )
