"""Records as Kafka's batches."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from runtime.kafka_records.fetched import FetchedBatch, FetchedRecord, RecordRun


def batch_of(records: Sequence[FetchedRecord]) -> FetchedBatch:
    """Consecutive records as one Kafka batch."""
    return FetchedBatch(records[0].topic, records[0].partition, stored(records))


def stored(records: Sequence[FetchedRecord]) -> bytes:
    """A Kafka batch as the broker stores it, without compression."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 30)
    first = records[0].offset
    for record in records:
        headers = list(record.headers)
        builder.append(record.offset - first, record.timestamp, record.key, record.value, headers)
    data = bytearray(builder.build())
    data[:8] = first.to_bytes(8, "big")
    return bytes(data)


def run_of(records: Sequence[FetchedRecord]) -> RecordRun:
    """The records as the engine hands them to a step."""
    return RecordRun(batch_of(records), 0, len(records))
