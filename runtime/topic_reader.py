"""Reading what a topic holds, as no member of any group: whoever else reads it does not notice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.kafka import KafkaSettings, client_options
from schemas.consumed import Record
from schemas.topics import MAX_MESSAGE_BYTES

_POLL_MS = 500


@asynccontextmanager
async def reading(kafka: KafkaSettings, topic: str) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of committed records that has all partitions of a topic; with them, in order."""
    consumer = AIOKafkaConsumer(
        **client_options(kafka),
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )
    await consumer.start()
    try:
        await consumer._client._wait_on_metadata(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        yield consumer, partitions
    finally:
        await consumer.stop()


async def read_stretches(
    consumer: AIOKafkaConsumer, stretches: Mapping[TopicPartition, tuple[int, int]], at_once: int
) -> AsyncIterator[tuple[TopicPartition, list[Record]]]:
    """The records from the first offset of each partition to before the second; some `at_once`, each in its order."""
    waiting = {partition for partition, (first, end) in stretches.items() if first < end}
    for partition in waiting:
        consumer.seek(partition, stretches[partition][0])
    consumer.pause(*(consumer.assignment() - waiting))
    while waiting:
        for partition, records in (await consumer.getmany(timeout_ms=_POLL_MS, max_records=at_once)).items():
            yield partition, [record for record in records if record.offset < stretches[partition][1]]
        for partition in list(waiting):
            if await consumer.position(partition) >= stretches[partition][1]:
                waiting.discard(partition)
                consumer.pause(partition)
