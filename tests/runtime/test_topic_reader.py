"""Topics read to their ends on a real Kafka: what is read, and how the reader knows that it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import UnknownTopicOrPartitionError

from runtime.topic_reader import (
    HIGH_WATERMARK,
    ReadLimits,
    RecordBatch,
    Span,
    read_spans,
    read_topic,
    spans_of,
    spans_since,
    topic_consumer,
)
from tests.support.kafka import MakeTopics
from tests.support.waiting import passing


def client_of(kafka: str) -> dict[str, Any]:
    return {"bootstrap_servers": kafka}


async def write(kafka: str, topic: str, values: Iterable[bytes], partition: int = 0, stamp: int | None = None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for delivery in [
            await producer.send(topic, value, partition=partition, timestamp_ms=stamp) for value in values
        ]:
            await delivery


def transactional(kafka: str, topic: str) -> AIOKafkaProducer:
    return AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=f"{topic}-writer", transaction_timeout_ms=30_000)


def values_of(batches: Iterable[RecordBatch]) -> list[bytes | None]:
    return [record.value for batch in batches for record in batch.records]


async def read(kafka: str, topic: str, **options: Any) -> list[RecordBatch]:
    return [batch async for batch in read_topic(client_of(kafka), topic, **options)]


async def test_every_partition_is_read_in_order_and_completed_once(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"], partitions=3)
    await write(kafka, topic, [b"a", b"b", b"c"], partition=0)
    await write(kafka, topic, [b"x", b"y"], partition=2)
    batches = await read(kafka, topic, limits=ReadLimits(batch_records=2))
    of = {n: values_of(b for b in batches if b.partition == TopicPartition(topic, n)) for n in range(3)}
    assert of == {0: [b"a", b"b", b"c"], 1: [], 2: [b"x", b"y"]}
    assert sorted(batch.partition.partition for batch in batches if batch.complete) == [0, 1, 2]
    assert max(len(batch.records) for batch in batches) <= 2


async def test_some_partitions_can_be_read_alone(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"], partitions=2)
    await write(kafka, topic, [b"a"], partition=0)
    await write(kafka, topic, [b"b"], partition=1)
    assert values_of(await read(kafka, topic, partitions=[1])) == [b"b"]
    assert await read(kafka, topic, partitions=[]) == []


async def test_an_empty_topic_is_complete_at_once(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    assert await read(kafka, topic) == [RecordBatch(TopicPartition(topic, 0), [], complete=True)]


async def test_what_is_written_during_the_read_is_left_out(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    await write(kafka, topic, [b"before"])
    async with topic_consumer(client_of(kafka), topic) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        await write(kafka, topic, [b"after"])
        assert values_of([batch async for batch in read_spans(consumer, spans)]) == [b"before"]


async def test_a_log_that_ends_with_transaction_markers_ends(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    async with transactional(kafka, topic) as producer:
        async with producer.transaction():
            await producer.send_and_wait(topic, b"committed")
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"aborted")
        await producer.abort_transaction()
        async with topic_consumer(client_of(kafka), topic) as (consumer, partitions):
            spans = await spans_of(consumer, partitions)
            assert spans == {TopicPartition(topic, 0): Span(0, 4)}  # two records, two markers
            batches = [batch async for batch in read_spans(consumer, spans)]
    assert values_of(batches) == [b"committed"]
    assert batches[-1].complete


async def test_the_last_stable_offset_is_before_an_open_transaction(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    await write(kafka, topic, [b"a"])
    async with transactional(kafka, topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open")
        await write(kafka, topic, [b"behind it"])
        assert values_of(await read(kafka, topic)) == [b"a"]
        await producer.abort_transaction()


async def test_the_high_watermark_waits_for_an_open_transaction(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    tp = TopicPartition(topic, 0)
    async with transactional(kafka, topic) as producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open")
        await write(kafka, topic, [b"behind it"])

        async def read_to_high_watermark() -> list[RecordBatch]:
            async with topic_consumer(client_of(kafka), topic) as (consumer, _):
                return [batch async for batch in read_spans(consumer, {tp: Span(0, HIGH_WATERMARK)})]

        reading = asyncio.create_task(read_to_high_watermark())
        done, _ = await asyncio.wait([reading], timeout=1.0)
        assert not done
        await producer.commit_transaction()
        batches = await reading
    assert values_of(batches) == [b"open", b"behind it"]
    assert [batch.complete for batch in batches][-1]


async def test_the_high_watermark_of_an_empty_partition_is_reached_at_once(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    tp = TopicPartition(topic, 0)
    async with topic_consumer(client_of(kafka), topic) as (consumer, _), asyncio.timeout(10):
        batches = [batch async for batch in read_spans(consumer, {tp: Span(0, HIGH_WATERMARK)})]
    assert batches == [RecordBatch(tp, [], complete=True)]


async def test_no_progress_raises_with_the_place(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    await write(kafka, topic, [b"a"])
    span = Span(0, 2)  # beyond the end
    async with topic_consumer(client_of(kafka), topic) as (consumer, [tp]):
        seen = []
        with pytest.raises(TimeoutError, match=rf"for 0\.5 s: {topic}\[0\] at 1 of 2$"):
            async for batch in read_spans(consumer, {tp: span}, ReadLimits(stall_seconds=0.5)):
                seen.append(batch)
                await passing(1.0, "the caller's time does not count")
                assert not batch.complete
    assert values_of(seen) == [b"a"]


async def test_offsets_that_have_gone_are_skipped(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"])
    await write(kafka, topic, [b"a", b"b", b"c"])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=2)})
    await admin.close()
    async with topic_consumer(client_of(kafka), topic) as (consumer, [tp]):
        assert await spans_of(consumer, [tp]) == {tp: Span(2, 3)}
        batches = [batch async for batch in read_spans(consumer, {tp: Span(0, 3)})]
    assert values_of(batches) == [b"c"]


async def test_a_compacted_log_is_read_over_its_gaps(kafka: str, make_topics: MakeTopics) -> None:
    compact = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.001", "segment.ms": "200"}
    [topic] = await make_topics(["reader"], configs=compact)
    deadline = time.monotonic() + 60
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        number = 0
        while True:  # the cleaner runs some time after a segment was closed by a later record
            number += 1
            last = await producer.send_and_wait(topic, str(number).encode(), key=b"same key")
            batches = await read(kafka, topic)
            assert values_of(batches)[-1] == str(number).encode()
            if len(values_of(batches)) < last.offset:
                return
            assert time.monotonic() < deadline, "Kafka compacted nothing"
            await passing(0.25, "the broker compacts in the background, and is asked by reading the whole topic")


async def test_reading_starts_at_a_time(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"], partitions=2)
    for stamp in (1_000, 2_000, 3_000):
        await write(kafka, topic, [str(stamp).encode()], partition=0, stamp=stamp)
    await write(kafka, topic, [b"early"], partition=1, stamp=500)
    async with topic_consumer(client_of(kafka), topic) as (consumer, partitions):
        spans = await spans_since(consumer, await spans_of(consumer, partitions), 1_500)
        assert spans == {partitions[0]: Span(1, 3), partitions[1]: Span(1, 1)}
        assert values_of([batch async for batch in read_spans(consumer, spans)]) == [b"2000", b"3000"]


async def test_other_partitions_are_paused_meanwhile_and_resumed_after(kafka: str, make_topics: MakeTopics) -> None:
    [topic] = await make_topics(["reader"], partitions=2)
    await write(kafka, topic, [b"a"], partition=0)
    await write(kafka, topic, [b"b"], partition=1)
    async with topic_consumer(client_of(kafka), topic) as (consumer, [first, second]):
        async with aclosing(read_spans(consumer, {first: Span(0, 1)})) as batches:
            async for _ in batches:
                assert consumer.paused() == {first, second}
        assert consumer.paused() == set()
        consumer.seek(second, 0)
        record = await asyncio.wait_for(consumer.getone(second), 10)
        assert record.value == b"b"


async def test_a_missing_topic_is_an_error(kafka: str) -> None:
    with pytest.raises(UnknownTopicOrPartitionError):
        async for _ in read_topic({**client_of(kafka), "request_timeout_ms": 2000}, "no-such-topic"):
            pass
