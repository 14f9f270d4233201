"""Reading what a topic holds: committed records up to an end, as no member of any group, so that nobody else notices.

`read_topic` reads a whole topic. `topic_consumer`, `spans_of` and `read_spans` are its parts, for readers that start
elsewhere, or that look at the offsets first.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.aiokafka_internals.consumers import load_metadata
from schemas.consumed import Record
from schemas.topics import MAX_MESSAGE_BYTES

_POLL_MS = 200
_FETCH_WAIT_MS = 100


HIGH_WATERMARK = -1
"""As the end of a span: the high watermark that the first fetch reports. It is later than the last stable offset where
a transaction is open, so that the reader waits until that transaction is decided.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """The offsets of one partition to read: from `start` to before `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Some records of one partition, in order. The last batch of each partition is `complete`; it may be empty."""

    partition: TopicPartition
    records: list[Record]
    complete: bool


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """How much to take at once, and how long to wait for progress."""

    batch_records: int = 20_000
    """Records per fetch, over all partitions."""
    stall_seconds: float | None = 60.0
    """TimeoutError when no partition advances for this long. None: wait for ever. The caller's time does not count."""


_DEFAULT_LIMITS = ReadLimits()


async def read_topic(
    client: Mapping[str, Any],
    topic: str,
    partitions: Collection[int] | None = None,
    limits: ReadLimits = _DEFAULT_LIMITS,
) -> AsyncIterator[RecordBatch]:
    """Read the committed records that a topic holds now: of all partitions, or of those given.

    `client` is what `runtime.kafka.client_options` gives. Raises what `topic_consumer` and `read_spans` raise. Whoever
    stops early closes the iterator (`contextlib.aclosing`), which stops the consumer.
    """
    async with topic_consumer(client, topic) as (consumer, all_partitions):
        wanted = [tp for tp in all_partitions if partitions is None or tp.partition in partitions]
        async for batch in read_spans(consumer, await spans_of(consumer, wanted), limits):
            yield batch


@asynccontextmanager
async def committed_consumer(client: Mapping[str, Any]) -> AsyncIterator[AIOKafkaConsumer]:
    """A started consumer of committed records without a group and without partitions. KafkaError without a broker."""
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",  # where records expire while they are read, go on with the first that is left
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


@asynccontextmanager
async def topic_consumer(
    client: Mapping[str, Any], topic: str
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer that has all partitions of a topic assigned; with them, in order.

    Raises KafkaError when no broker answers, or the topic does not exist.
    """
    async with committed_consumer(client) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(await load_metadata(consumer, topic))]
        consumer.assign(partitions)
        yield consumer, partitions


async def spans_of(consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Span]:
    """Where each partition begins and ends now: at the last stable offset, before the first open transaction."""
    if not partitions:
        return {}
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return {tp: Span(begins[tp], ends[tp]) for tp in partitions}


async def spans_since(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, Span], timestamp_ms: int
) -> dict[TopicPartition, Span]:
    """The spans from the first record on whose timestamp is at or after `timestamp_ms`; empty where there is none."""
    if not spans:
        return {}
    first = await consumer.offsets_for_times(dict.fromkeys(spans, timestamp_ms))
    return {tp: Span(at.offset if (at := first[tp]) else span.end, span.end) for tp, span in spans.items()}


async def read_spans(
    consumer: AIOKafkaConsumer, spans: Mapping[TopicPartition, Span], limits: ReadLimits = _DEFAULT_LIMITS
) -> AsyncIterator[RecordBatch]:
    """Read the given spans of assigned partitions; each partition in order, partitions among each other as they come.

    The consumer's position decides when a span is complete, not the last record: the last offsets may be transaction
    markers, aborted records, or compacted away. Assigned partitions are paused while they are not read, and resumed
    at the end. Seek before reading on with the same consumer: its position may be beyond the end of a span.

    Raises TimeoutError when no partition advances for `stall_seconds`, and KafkaError for what retrying does not mend.
    """
    waiting = dict(spans)
    for tp, span in waiting.items():
        consumer.seek(tp, span.start)
    paused = consumer.assignment() - waiting.keys()
    consumer.pause(*paused)
    try:
        while waiting:
            for batch in await _next_batches(consumer, waiting, limits):
                if batch.complete:
                    del waiting[batch.partition]
                    consumer.pause(batch.partition)
                    paused |= {batch.partition}
                yield batch
            await asyncio.sleep(0)  # buffered records come without a pause in which others could run
    finally:
        consumer.resume(*(paused & consumer.assignment()))


async def _next_batches(
    consumer: AIOKafkaConsumer, waiting: dict[TopicPartition, Span], limits: ReadLimits
) -> list[RecordBatch]:
    fetched: Mapping[TopicPartition, list[Record]] = {}
    try:
        async with asyncio.timeout(limits.stall_seconds):
            while not (batches := await _advanced(consumer, waiting, fetched)):
                fetched = await consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=limits.batch_records)
            return batches
    except TimeoutError as error:
        raise TimeoutError(_stalled(waiting, limits.stall_seconds)) from error


async def _advanced(
    consumer: AIOKafkaConsumer, waiting: dict[TopicPartition, Span], fetched: Mapping[TopicPartition, list[Record]]
) -> list[RecordBatch]:
    """The batches of the partitions that came nearer to their ends; their spans get the new start, and the end."""
    batches = []
    for tp, span in list(waiting.items()):
        position = await consumer.position(tp)
        end = span.end
        if end == HIGH_WATERMARK and (high_watermark := consumer.highwater(tp)) is not None:
            end = high_watermark
        waiting[tp] = Span(position, end)
        complete = end != HIGH_WATERMARK and position >= end
        if complete or position > span.start:
            records = [record for record in fetched.get(tp, ()) if record.offset < end]
            batches.append(RecordBatch(tp, records, complete))
    return batches


def _stalled(waiting: Mapping[TopicPartition, Span], seconds: float | None) -> str:
    listed = ", ".join(f"{tp.topic}[{tp.partition}] at {span.start} of {span.end}" for tp, span in waiting.items())
    return f"nothing could be read for {seconds} s: {listed}"
