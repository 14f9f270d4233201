"""Kafka in tests: topics of a test's own, producing to a partition, reading a topic to its end, a group's offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError


class MakeTopics(Protocol):
    """Type of the fixture `make_topics`."""

    async def __call__(
        self, names: Iterable[str], partitions: int = 1, configs: Mapping[str, str] | None = None
    ) -> list[str]: ...


Pair = tuple[bytes, bytes | None]


@asynccontextmanager
async def producer(kafka: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=16 << 20, **options) as started:
        yield started


async def produce(client: AIOKafkaProducer, topic: str, partition: int, pairs: Iterable[Pair]) -> int:
    """Write the pairs in order, in as few requests as they need, and wait for the broker's acknowledgement."""
    sent, batch = 0, client.create_batch()

    async def send() -> None:
        batch.close()
        await (await client.send_batch(batch, topic, partition=partition))

    for key, value in pairs:
        if batch.append(key=key, value=value, timestamp=None) is None:
            await send()
            batch = client.create_batch()
            batch.append(key=key, value=value, timestamp=None)
        sent += 1
    if batch.record_count():
        await send()
    return sent


async def read_all(kafka: str, topic: str, partitions: int) -> dict[int, list[ConsumerRecord[bytes, bytes]]]:
    """Every committed record of a topic, by partition, up to the log's end (the high watermark) as it is now."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as plain:
        ends = await plain.end_offsets(tps)
    found: dict[int, list[ConsumerRecord[bytes, bytes]]] = {tp.partition: [] for tp in tps}
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed", fetch_max_wait_ms=50)
    async with consumer:
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        async with asyncio.timeout(60):
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=100, max_records=5000)).items():
                    found[tp.partition] += records
    return found


async def committed(kafka: str, group: str) -> dict[tuple[str, int], int]:
    """The committed offsets of a group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:  # a new broker has no offsets topic before the first group
        return {}
    finally:
        await admin.close()
    return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()}


async def lag(kafka: str, group: str, topic: str, partitions: int) -> int:
    """How many offsets of the topic the group has not committed."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    done = await committed(kafka, group)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed") as consumer:
        ends = await consumer.end_offsets(tps)
    return sum(ends[tp] - max(0, done.get((topic, tp.partition), 0)) for tp in tps)


def numbers(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[list[int]]:
    """Values `1:2:3` as lists of integers."""
    return [[int(part) for part in (record.value or b"").split(b":")] for record in records]
