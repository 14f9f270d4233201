"""Taking records from aiokafka's buffers, against a real Kafka."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.aiokafka_internals.fetch_buffers import fetch_idle_partitions_promptly, take
from runtime.kafka_records.fetched import FetchedRecord
from tests.support.kafka import MakeTopics, produce, producer
from tests.support.waiting import passing


async def test_a_partition_does_not_wait_for_a_fetch_that_leaves_it_out(kafka: str, make_topics: MakeTopics) -> None:
    """While its records lie there, a fetch of the other, empty partition is under way, which ends after two minutes."""
    (topic,) = await make_topics(["in"], partitions=2)
    busy = TopicPartition(topic, 0)
    async with producer(kafka, max_batch_size=20_000) as client:
        await produce(client, topic, 0, [(b"k", bytes(1000))] * 200)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka,
        fetch_max_wait_ms=120_000,
        max_partition_fetch_bytes=100_000,
        request_timeout_ms=150_000,
    )
    consumer.assign([busy, TopicPartition(topic, 1)])
    await consumer.start()
    try:
        fetch_idle_partitions_promptly(consumer)
        await consumer.seek_to_beginning()
        taken: list[FetchedRecord] = []
        async with asyncio.timeout(30):
            while len(taken) < 200:
                await passing(0.25, "longer than aiokafka's back-off, so that it asks for the other meanwhile")
                taken += take(consumer, {busy}, 30).get(busy, ())
        assert [record.offset for record in taken] == list(range(200))
    finally:
        await consumer.stop()
