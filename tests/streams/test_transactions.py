"""The transactional producer against a real Kafka: nothing is refused for want of order, and errors keep their name."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ProducerFenced

from runtime.aiokafka_internals.transactions import TransactionalProducer
from runtime.kafka import KafkaSettings
from streams.engine.app import Streams, build_app, run_streams
from tests.streams.worker import Counter
from tests.support.kafka import MakeTopics, produce, producer, read_all
from tests.support.waiting import eventually, passing


@asynccontextmanager
async def started(kafka: str, name: str) -> AsyncIterator[TransactionalProducer]:
    client = TransactionalProducer(
        bootstrap_servers=kafka, group_id=f"group-{name}", transactional_id=name, transaction_timeout_ms=10_000
    )
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def transaction(client: TransactionalProducer, group: str, topics: list[str], number: int) -> None:
    await client.open_transaction([TopicPartition(topic, 0) for topic in topics])
    for delivery in [await client.send(topic, b"%d" % number, partition=0) for topic in topics]:
        await delivery
    await client.send_offsets_to_transaction({TopicPartition(topics[0], 0): number + 1}, group)
    await client.commit_transaction()


async def test_the_broker_refuses_no_records_of_pipelines_at_light_load(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A refusal would be NOT_ENOUGH_REPLICAS, from the broker's check of the transaction, and cost 100 ms."""
    source, out, state = await make_topics(["in", "out", "state"], partitions=8)
    settings = KafkaSettings(bootstrap_servers=kafka, application_id=f"app-{source}")
    stop = asyncio.Event()
    with caplog.at_level(logging.WARNING, logger="aiokafka"):
        streams = build_app(settings, {source: lambda topic, partition: Counter(out, state)}, tmp_path)
        running = asyncio.create_task(run_streams(streams, stop))
        async with producer(kafka) as client:
            for _ in range(60):
                await asyncio.gather(*(produce(client, source, number, [(b"key", b"x")]) for number in range(8)))
                await passing(0.02, "so that they are many batches")
        await eventually(lambda: _processed(streams, 60), 30)
        stop.set()
        await running
    assert [line for line in caplog.messages if "NotEnoughReplicas" in line] == []
    assert {n: len(found) for n, found in (await read_all(kafka, out, 8)).items()} == dict.fromkeys(range(8), 60)


async def _processed(streams: Streams, offset: int) -> bool:
    progress = streams.progress()
    return len(progress) == 8 and all(p.position == offset for p in progress)


async def test_a_partition_that_was_expected_and_not_written_is_no_harm(kafka: str, make_topics: MakeTopics) -> None:
    used, unused = await make_topics(["used", "unused"])
    async with started(kafka, used) as client:
        for number in range(2):
            await client.open_transaction([TopicPartition(unused, 0)])
            await client.send_and_wait(used, b"%d" % number, partition=0)
            await client.send_offsets_to_transaction({TopicPartition(used, 0): number}, f"group-{used}")
            await client.commit_transaction()
        await client.open_transaction([])
        await client.abort_transaction()  # a transaction of nothing but its group
    assert [record.value for record in (await read_all(kafka, used, 1))[0]] == [b"0", b"1"]
    assert (await read_all(kafka, unused, 1))[0] == []


async def test_who_is_fenced_is_told_so_when_the_transaction_opens(kafka: str, make_topics: MakeTopics) -> None:
    (topic,) = await make_topics(["topic"])
    async with started(kafka, topic) as old, started(kafka, topic) as new:
        await old.open_transaction([TopicPartition(topic, 0)])
        with pytest.raises(ProducerFenced):
            await asyncio.wait_for(old.opened(), 10)
        with pytest.raises(ProducerFenced):
            old.check()
        await transaction(new, f"group-{topic}", [topic], 7)
    assert [record.value for record in (await read_all(kafka, topic, 1))[0]] == [b"7"]
