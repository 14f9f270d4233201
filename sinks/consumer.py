"""The consumer loop of a sink: reads Kafka and gives slices of partitions to a writer that stores the offsets itself.

Exactly once: reading resumes at the offset that the writer stored together with the rows
(docs/adr/0002-batch-is-a-transaction.md), never at Kafka's committed offset. That one is committed afterwards only so
that tools see the lag. Several processes share the partitions as one consumer group. If the writer refuses a batch as
stale, the batch is dropped and its records are read again from the stored offsets.

Before every batch and at every assignment the topics are compared with those of the start, so that no record of a topic
that was deleted and created again is written under the offsets of the old one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from runtime.kafka import KafkaSettings, client_options
from runtime.metrics import BATCH_RECORDS, BATCH_SECONDS
from runtime.topic_watch import TopicWatch
from runtime.tracing import trace_batch
from schemas.consumed import Record
from schemas.topics import MAX_MESSAGE_BYTES
from sinks.buffers import Bounds, Buffers, start_of
from sinks.lag import LagMeter
from sinks.writer import StaleBatch, Writer

log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS = 0.2
FETCH_RECORDS = 20_000
COMMIT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Subscription:
    """What a sink reads: its name in logs and metrics, topics, consumer group, and when buffers are written."""

    stage: str
    topics: tuple[str, ...]
    group: str
    bounds: Bounds


class SinkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads topics as a member of a group and feeds a writer."""

    def __init__(self, subscription: Subscription, kafka: KafkaSettings, writer: Writer, watch: TopicWatch) -> None:
        self._watch = watch
        self._stage = subscription.stage
        self._topics = sorted(subscription.topics)
        self._writer = writer
        self._buffers = Buffers(subscription.bounds)
        self._epoch = 0  # rises whenever positions change: a fetch that spans a change is dropped
        self._joined = False
        self._failure: BaseException | None = None
        self._lock = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{self._stage}-writer")
        session_ms = int(kafka.session_timeout_seconds * 1000)
        self._consumer = AIOKafkaConsumer(
            **client_options(kafka),
            group_id=subscription.group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 5,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            fetch_max_bytes=4 * MAX_MESSAGE_BYTES,
            fetch_max_wait_ms=200,
        )
        self._lag = LagMeter(self._stage, self._topics, self._consumer)

    @property
    def assignment(self) -> set[TopicPartition]:
        """Return the assigned partitions whose position is known."""
        return set(self._buffers)

    @property
    def joined(self) -> bool:
        """Return whether the group has assigned partitions, possibly none if there are more processes than those."""
        return self._joined

    def problem(self) -> str | None:
        """Return why the sink counts as stalled, or None (liveness)."""
        return self._lag.problem()

    async def run(self, stop: asyncio.Event) -> None:
        """Read and write until `stop` is set, then write what is buffered.

        Raise SinkError, Kafka's errors and the writer's errors; the sink may then be started again.
        """
        try:
            await self._consumer.start()
            self._consumer.subscribe(self._topics, listener=self)
            while not stop.is_set():
                await self._step()
            await self._drain()
            await self._raise_failure()
        finally:
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)
            await self._consumer.stop()
            self._thread.shutdown(wait=True)

    async def _step(self) -> None:
        epoch = self._epoch
        fetched = await self._fetch()
        if epoch == self._epoch:
            now = time.monotonic()
            for partition, records in fetched.items():
                self._buffers.add(partition, records, now)
                log.debug("%s: %d records of %s fetched", self._stage, len(records), partition)
        else:  # fetched before a seek, so these records do not follow our position
            self._seek(self._buffers)
        await self._raise_failure()
        await self._watch.check_if_due()
        await self._lag.measure(self._consumer.assignment() & set(self._buffers), bool(fetched))
        due = self._buffers.due(time.monotonic())
        if due:
            await self._finish_writing()
            self._writing = asyncio.create_task(self._write(due))

    async def _fetch(self) -> dict[TopicPartition, list[Record]]:
        try:
            fetched: dict[TopicPartition, list[Record]] = await self._consumer.getmany(
                timeout_ms=int(POLL_SECONDS * 1000), max_records=FETCH_RECORDS
            )
            return fetched
        except NoOffsetForPartitionError:  # polled before the first seek
            return {}
        except OffsetOutOfRangeError:  # records expired while we read: write the buffers, then resume behind the gap
            await self._drain()
            await self._position(list(self._buffers))
            return {}

    async def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._writing is not None and self._writing.done():
            await self._finish_writing()

    async def _finish_writing(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing

    async def _drain(self) -> None:
        await self._finish_writing()
        await self._write(self._buffers.topics())

    async def _write(self, topics: list[str]) -> None:
        async with self._lock:
            for topic in topics:
                await self._write_topic(topic)

    async def _write_topic(self, topic: str) -> None:
        since, slices = self._buffers.cut(topic)
        if not slices:
            return
        await self._watch.check()
        started = time.monotonic()
        try:
            await self._in_thread(partial(self._writer.write, topic, slices))
        except StaleBatch as error:
            log.warning("%s: %s: %s; re-reading from the stored offsets", self._stage, topic, error)
            await self._position(self._buffers.of_topic(topic))
            return
        BATCH_SECONDS.labels(self._stage).observe(time.monotonic() - since)
        number = sum(len(one.records) for one in slices)
        BATCH_RECORDS.labels(self._stage).observe(number)
        headers = (record.headers for one in slices for record in one.records)
        attributes = {"messaging.destination.name": topic, "messaging.batch.message_count": number}
        trace_batch(f"write {topic}", headers, time.monotonic() - started, attributes)
        await self._commit({TopicPartition(topic, one.partition): one.next for one in slices})

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Commit offsets to Kafka for tools that show lag; a failure costs nothing."""
        held = {p: offset for p, offset in offsets.items() if p in self._buffers}
        try:
            await asyncio.wait_for(self._consumer.commit(held), COMMIT_SECONDS)
        except (KafkaError, TimeoutError, ValueError) as error:
            log.debug("%s: offsets not committed to Kafka: %r", self._stage, error)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Write the buffers before another process takes over; it reads again what could not be written."""
        try:
            await self._drain()
        except Exception as error:
            self._failure = error
        self._epoch += 1
        self._buffers.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Resume at the offsets that the writer has stored."""
        try:
            await self._position(list(assigned))
            self._joined = True
            log.info("%s: reads %d partitions of %d topics", self._stage, len(self._buffers), len(self._topics))
        except Exception as error:  # aiokafka would only log it
            self._failure = error

    async def _position(self, partitions: list[TopicPartition]) -> None:
        await self._watch.check()
        stored = await self._stored(partitions)
        begin = await self._consumer.beginning_offsets(partitions)
        end = await self._consumer.end_offsets(partitions)
        starts = {p: start_of(p, stored[p], begin[p], end[p]) for p in partitions}
        for partition, start in starts.items():
            if start.lost:
                log.error(
                    "%s: %s: up to %d records expired in Kafka before they were written",
                    self._stage,
                    partition,
                    start.lost,
                )
        owned = self._consumer.assignment()
        self._epoch += 1
        for partition, start in starts.items():
            if partition in owned:
                self._buffers.position(partition, stored[partition], start.next)
        self._seek(partitions)

    async def _stored(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        stored: dict[TopicPartition, int | None] = {}
        for topic in {partition.topic for partition in partitions}:
            numbers = [partition.partition for partition in partitions if partition.topic == topic]
            offsets = await self._in_thread(partial(self._writer.stored, topic, numbers))
            stored |= {TopicPartition(topic, number): offset for number, offset in offsets.items()}
        return stored

    def _seek(self, partitions: Iterable[TopicPartition]) -> None:
        owned = self._consumer.assignment()
        for partition in partitions:
            if partition in owned and partition in self._buffers:
                self._consumer.seek(partition, self._buffers.next_offset(partition))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
