"""The consumer loop of a sink: Kafka records in, whole slices of partitions to a writer that remembers offsets itself.

Exactly once: where to go on is what the writer stored together with the rows (design decision 3), never Kafka's
committed offset, which is committed afterwards only so that tools see the lag. Several processes share the
partitions as one consumer group. What a writer refuses as stale is dropped and read again from what is stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from runtime.kafka import KafkaSettings, client_options
from runtime.metrics import BATCH_SECONDS, LAG
from schemas.consumed import Record
from schemas.topics import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
T = TypeVar("T")

MEASURE_SECONDS = 1.0
POLL_SECONDS = 0.2
FETCH_RECORDS = 20_000
STALL_SECONDS = 60.0
COMMIT_SECONDS = 5.0


class StaleWriter(Exception):
    """Somebody else has written these offsets meanwhile: what is buffered is not ours to write any more."""


class SinkError(RuntimeError):
    """The sink cannot go on without its operator; the message says what to do."""


@dataclass(slots=True)
class Slice:
    """Consecutive records of one partition. `stored` is the next offset as the writer has it (None: none yet)."""

    partition: int
    stored: int | None
    next: int
    records: list[Record]


class Writer(Protocol):
    """What writes. Its methods are called from one thread, never two at a time."""

    def stored(self, topic: str, partitions: list[int]) -> dict[int, int | None]:
        """The next offset of each partition, from a fresh look. SinkError if the topic is not the one that was
        written.
        """

    def write(self, topic: str, slices: list[Slice]) -> None:
        """Write rows and offsets in one commit, or raise: StaleWriter if `stored` is no longer what is stored."""


@dataclass(slots=True)
class _Buffer:
    """What was taken of one partition and not yet handed to the writer."""

    stored: int | None
    next: int
    records: list[Record] = field(default_factory=list)
    bytes: int = 0

    def cut(self, partition: int) -> Slice:
        """Take everything out; what follows continues where it ends."""
        taken = Slice(partition, self.stored, self.next, self.records)
        self.stored, self.records, self.bytes = self.next, [], 0
        return taken


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a topic's buffers are written: whichever is reached first."""

    seconds: float
    records: int
    bytes: int


class SinkConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """Reads topics as a member of a group and feeds a writer."""

    def __init__(
        self, stage: str, topics: Iterable[str], group: str, kafka: KafkaSettings, writer: Writer, bounds: Bounds
    ):
        self._stage = stage
        self._topics = sorted(topics)
        self._writer = writer
        self._bounds = bounds
        self._buffers: dict[TopicPartition, _Buffer] = {}
        self._since: dict[str, float] = {}
        self._epoch = 0
        self._joined = False
        self._failure: BaseException | None = None
        self._lock = asyncio.Lock()
        self._writing: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"{stage}-writer")
        self._moved_at = self._measured_at = time.monotonic()
        self._lag = 0
        session_ms = int(kafka.session_timeout_seconds * 1000)
        self._consumer = AIOKafkaConsumer(
            **client_options(kafka),
            group_id=group,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="none",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=session_ms // 5,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            fetch_max_bytes=4 * MAX_MESSAGE_BYTES,
            fetch_max_wait_ms=200,
        )

    @property
    def assignment(self) -> set[TopicPartition]:
        """The partitions this process reads now, those positioned only."""
        return set(self._buffers)

    @property
    def joined(self) -> bool:
        """The group has given us our share (which may be none, if there are more processes than partitions)."""
        return self._joined

    def problem(self) -> str | None:
        """Liveness: records wait, but none has come for a minute."""
        if self._lag and time.monotonic() - self._moved_at > STALL_SECONDS:
            return f"{self._stage}: {self._lag} records wait in Kafka, and none has been read for {STALL_SECONDS:.0f} s"
        return None

    async def run(self, stop: asyncio.Event) -> None:
        """Read and write until `stop` is set, then write what is buffered. Raises whatever cannot be mended here."""
        try:
            await self._consumer.start()
            self._consumer.subscribe(self._topics, listener=self)
            while not stop.is_set():
                await self._step()
            await self._drain()
            await self._check()
        finally:
            if self._writing is not None:
                await asyncio.gather(self._writing, return_exceptions=True)
            await self._consumer.stop()
            self._thread.shutdown(wait=True)

    async def _step(self) -> None:
        epoch = self._epoch
        fetched = await self._fetch()
        if epoch == self._epoch:
            self._add(fetched)
        else:  # fetched before a seek: not what follows our position
            self._seek(self._buffers)
        await self._check()
        await self._measure(bool(fetched))
        due = self._due()
        if due:
            await self._finish_writing()
            self._writing = asyncio.create_task(self._write(due))

    async def _fetch(self) -> dict[TopicPartition, list[Record]]:
        try:
            fetched: dict[TopicPartition, list[Record]] = await self._consumer.getmany(
                timeout_ms=int(POLL_SECONDS * 1000), max_records=FETCH_RECORDS
            )
            return fetched
        except NoOffsetForPartitionError:  # asked for before we had said where to begin
            return {}
        except OffsetOutOfRangeError:  # expired under us: write what we have, then say what is lost and go on behind it
            await self._drain()
            await self._position(list(self._buffers))
            return {}

    def _add(self, fetched: dict[TopicPartition, list[Record]]) -> None:
        now = time.monotonic()
        for partition, records in fetched.items():
            buffer = self._buffers.get(partition)
            if buffer is None or records[-1].offset < buffer.next:
                continue
            if records[0].offset < buffer.next:
                records = [record for record in records if record.offset >= buffer.next]
            buffer.records.extend(records)
            buffer.bytes += sum(len(record.value or b"") for record in records)
            buffer.next = records[-1].offset + 1
            self._since.setdefault(partition.topic, now)

    def _due(self) -> list[str]:
        now = time.monotonic()
        return [
            topic for topic, since in self._since.items() if now - since >= self._bounds.seconds or self._full(topic)
        ]

    def _full(self, topic: str) -> bool:
        buffers = [buffer for partition, buffer in self._buffers.items() if partition.topic == topic]
        return (
            sum(len(buffer.records) for buffer in buffers) >= self._bounds.records
            or sum(buffer.bytes for buffer in buffers) >= self._bounds.bytes
        )

    async def _check(self) -> None:
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
        await self._write(list(self._since))

    async def _write(self, topics: list[str]) -> None:
        async with self._lock:
            for topic in topics:
                await self._write_topic(topic)

    async def _write_topic(self, topic: str) -> None:
        since = self._since.pop(topic, None)
        partitions = [p for p, buffer in self._buffers.items() if p.topic == topic and buffer.records]
        if since is None or not partitions:
            return
        slices = [self._buffers[p].cut(p.partition) for p in partitions]
        try:
            await self._in_thread(partial(self._writer.write, topic, slices))
        except StaleWriter as error:
            log.warning("%s: %s: %s; reading again from what is stored", self._stage, topic, error)
            await self._position([p for p in self._buffers if p.topic == topic])
            return
        BATCH_SECONDS.labels(self._stage).observe(time.monotonic() - since)
        await self._commit({TopicPartition(topic, one.partition): one.next for one in slices})

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        """Tell Kafka how far we are: for tools that show lag; a failure costs nothing."""
        held = {p: offset for p, offset in offsets.items() if p in self._buffers}
        try:
            await asyncio.wait_for(self._consumer.commit(held), COMMIT_SECONDS)
        except (KafkaError, TimeoutError, ValueError) as error:
            log.debug("%s: offsets not committed to Kafka: %r", self._stage, error)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Write what is buffered before another process takes over; what fails is read again by the other."""
        try:
            await self._drain()
        except Exception as error:
            self._failure = error
        self._epoch += 1
        for partition in list(self._buffers):
            del self._buffers[partition]
        self._since.clear()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Go on where the writer's store says."""
        try:
            await self._position(list(assigned))
            self._joined = True
            log.info("%s: reads %d partitions of %d topics", self._stage, len(self._buffers), len(self._topics))
        except Exception as error:  # aiokafka would only log it
            self._failure = error

    async def _position(self, partitions: list[TopicPartition]) -> None:
        stored = await self._stored(partitions)
        begin = await self._consumer.beginning_offsets(partitions)
        end = await self._consumer.end_offsets(partitions)
        fresh: dict[TopicPartition, _Buffer] = {}
        for partition in partitions:
            offset = stored[partition]
            if offset is not None and offset > end[partition]:
                raise SinkError(
                    f"{partition.topic}[{partition.partition}] ends at offset {end[partition]}, but offset {offset} is "
                    "stored as the next to write: the log was cut or replaced. Restore it, or use another folder."
                )
            fresh[partition] = _Buffer(offset, begin[partition] if offset is None else max(offset, begin[partition]))
            if offset is not None and offset < begin[partition]:
                lost = begin[partition] - offset
                log.error(
                    "%s: %s: up to %d records expired in Kafka before they were written", self._stage, partition, lost
                )
        owned = self._consumer.assignment()
        self._epoch += 1
        self._buffers.update({partition: buffer for partition, buffer in fresh.items() if partition in owned})
        self._seek(fresh)

    async def _stored(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int | None]:
        found: dict[TopicPartition, int | None] = {}
        for topic in {partition.topic for partition in partitions}:
            numbers = [partition.partition for partition in partitions if partition.topic == topic]
            offsets = await self._in_thread(partial(self._writer.stored, topic, numbers))
            found |= {TopicPartition(topic, number): offset for number, offset in offsets.items()}
        return found

    def _seek(self, partitions: Iterable[TopicPartition]) -> None:
        owned = self._consumer.assignment()
        for partition in partitions:
            if partition in owned and partition in self._buffers:
                self._consumer.seek(partition, self._buffers[partition].next)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def _measure(self, moved: bool) -> None:
        now = time.monotonic()
        self._moved_at = now if moved else self._moved_at
        if now - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = now
        waiting = dict.fromkeys(self._topics, 0)
        for partition in self._consumer.assignment() & set(self._buffers):
            end = self._consumer.last_stable_offset(partition) or 0
            waiting[partition.topic] += max(0, end - await self._consumer.position(partition))
        for topic, count in waiting.items():
            LAG.labels(self._stage, topic).set(count)
        self._lag = sum(waiting.values())
