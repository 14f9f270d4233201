"""The one way into Kafka for all connectors: ordered per device, acknowledged, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
)
from aiokafka.partitioner import murmur2

from connectors.common.backoff import Backoff
from connectors.common.dead_letters import too_large
from runtime.kafka import KafkaSettings, client_options
from runtime.metrics import DEAD_LETTERS, RECORDS_OUT
from schemas import wire
from schemas.device import split_device_id
from schemas.envelope import Envelope
from schemas.timestamps import to_micros
from schemas.topics import DEAD_LETTER, DEVICES, MAX_MESSAGE_BYTES, RULES, raw_topic

STAGE = "connect"

_log = logging.getLogger(__name__)

_OVERHEAD_BYTES = 16 * 1024
"""Room for key, headers and framing below the topic's limit."""

_BATCH_BYTES = 1024 * 1024
_BATCH_RECORDS = 2000
_RECOVERED = 0.3
"""Which part of the time after which Kafka counts as away no batch may exceed when it is to count as back."""

_REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError)
"""The broker refuses the record itself: trying again does not help."""

Lane = tuple[str, int]
"""Topic and partition."""


@dataclass(slots=True)
class _Record:
    topic: str
    vendor: str
    key: bytes
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int
    delivered: asyncio.Future[None]
    envelope: Envelope | None = None

    @property
    def size(self) -> int:
        return len(self.key) + len(self.value or b"") + 500


class Publisher:
    """Publishes envelopes, devices and dead letters with one idempotent producer.

    Delivery: at least once; a record is repeated only where Kafka's idempotence cannot hold (the producer had to be
    replaced), with the same envelope id. Records of one device keep the order of their calls. `publish` returns, and
    the future of `publish_soon` is done, only when the broker has acknowledged (`acks=all`). While Kafka is away, at
    most `max_buffered_bytes` are kept and callers wait; it is tried until it is back, and one log line tells each
    change. A record that Kafka would refuse becomes a dead letter, which counts as delivered.
    """

    def __init__(
        self, kafka: KafkaSettings, *, max_buffered_bytes: int = 32 * 1024 * 1024, stalled_after: float = 10.0
    ) -> None:
        self._kafka = kafka
        self._limit = max_buffered_bytes
        self._stalled_after = stalled_after
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._waiting: dict[Lane, deque[_Record]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._partitions: dict[str, int] = {}
        self._buffered = 0
        self._room = asyncio.Event()
        self._room.set()
        self._in_flight: dict[Lane, float] = {}
        self._away: str | None = "not connected yet"
        self._said_so = False
        self._backoff = Backoff(cap=5.0)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> None:
        """Begin to connect; returns at once, whether Kafka is there or not."""
        # The producer's own lines repeat several times a second while a broker is away; ours say it once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._spawn(self._connect())
        self._spawn(self._watch())

    async def stop(self, timeout: float = 10.0) -> None:
        """Deliver what is buffered, as far as Kafka takes it within `timeout` seconds, and disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._buffered:
                    await asyncio.sleep(0.02)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._discard(self._producer)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def problem(self) -> str | None:
        """Why Kafka takes nothing at the moment; None when it does. A readiness probe."""
        return f"Kafka is away: {self._away}" if self._away else None

    @property
    def away(self) -> bool:
        """Whether Kafka is known to be away; not while the first connection is being made, for which one can wait."""
        return self._said_so

    @property
    def defect(self) -> str | None:
        """What broke publishing for good, which only a restart mends; None as long as nothing did. A liveness probe."""
        return f"publishing failed: {self._broken.exception()!r}" if self._broken.done() else None

    async def broken(self) -> None:
        """Waits until publishing is broken by a defect, and raises it."""
        await asyncio.shield(self._broken)

    async def publish(self, envelope: Envelope) -> None:
        """Publish and wait for the broker's acknowledgement."""
        await (await self.publish_soon(envelope))

    async def publish_all(self, envelopes: Iterable[Envelope]) -> None:
        """Publish several in order and wait until the broker has all of them."""
        futures = [await self.publish_soon(envelope) for envelope in envelopes]
        await asyncio.gather(*futures)

    async def publish_soon(self, envelope: Envelope) -> asyncio.Future[None]:
        """Queue an envelope; waits only while the buffer is full. The future is done when the broker has it."""
        if len(envelope.data) > MAX_MESSAGE_BYTES - _OVERHEAD_BYTES:
            return await self.dead_letter_soon(too_large(envelope, MAX_MESSAGE_BYTES))
        vendor, _ = split_device_id(envelope.device_id)
        return await self._queue(
            raw_topic(vendor), vendor, envelope.key, envelope.data, envelope.headers(), envelope.received_at, envelope
        )

    async def publish_device(self, device: wire.Device) -> None:
        """Publish what is known of a device and wait for the acknowledgement."""
        key = device.device_id.encode()
        await (await self._queue(DEVICES, device.vendor, key, wire.encode(device), [], device.updated_at))

    async def publish_rule(
        self, vendor: str, rule_id: str, rule: bytes | None, headers: list[tuple[str, bytes]], at: datetime
    ) -> None:
        """Publish a vendor's alarm rule as it is, None where it was deleted; waits for the acknowledgement."""
        await (await self._queue(RULES, vendor, rule_id.encode(), rule, headers, at))

    async def dead_letter(self, letter: wire.DeadLetter) -> None:
        """Publish a dead letter and wait for the acknowledgement."""
        await (await self.dead_letter_soon(letter))

    async def dead_letter_soon(self, letter: wire.DeadLetter) -> asyncio.Future[None]:
        """Queue a dead letter; waits only while the buffer is full."""
        vendor = letter.vendor or "unknown"
        key = (letter.device_id or vendor).encode()
        return await self._queue(DEAD_LETTER, vendor, key, wire.encode(letter), [], letter.received_at)

    async def _queue(
        self,
        topic: str,
        vendor: str,
        key: bytes,
        value: bytes | None,
        headers: list[tuple[str, bytes]],
        at: datetime,
        envelope: Envelope | None = None,
    ) -> asyncio.Future[None]:
        delivered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        record = _Record(topic, vendor, key, value, headers, to_micros(at) // 1000, delivered, envelope)
        while self._buffered > 0 and self._buffered + record.size > self._limit:
            self._room.clear()
            await self._room.wait()
        self._buffered += record.size
        count = self._partitions.get(topic)
        lane = (topic, partition_of(key, count) if count else -1)  # -1: how many there are is not known yet
        if lane in self._waiting:
            self._waiting[lane].append(record)
        else:
            self._waiting[lane] = deque([record])
            self._spawn(self._drain(lane) if count else self._sort(topic))
        return delivered

    async def _sort(self, topic: str) -> None:
        """Learn the topic's number of partitions, then hand its waiting records to their lanes in order."""
        count = await self._count_partitions(topic)
        self._partitions[topic] = count
        for record in self._waiting.pop((topic, -1)):
            lane = (topic, partition_of(record.key, count))
            if lane in self._waiting:
                self._waiting[lane].append(record)
            else:
                self._waiting[lane] = deque([record])
                self._spawn(self._drain(lane))

    async def _count_partitions(self, topic: str) -> int:
        while True:
            producer = await self._connect()
            try:
                return len(await producer.partitions_for(topic))
            except (KafkaError, OSError) as error:
                await self._failed(producer, f"topic {topic}: {_name(error)}")

    async def _drain(self, lane: Lane) -> None:
        """Send all that waits for a partition, one batch after the other; what arrives meanwhile is the next batch."""
        waiting = self._waiting[lane]
        while waiting:
            batch = _take(waiting)
            self._in_flight[lane] = time.monotonic()
            try:
                await self._deliver(lane, batch)
            finally:
                self._in_flight.pop(lane, None)
        del self._waiting[lane]

    async def _deliver(self, lane: Lane, records: list[_Record]) -> None:
        topic, partition = lane
        while True:
            producer = await self._connect()
            try:
                await (await producer.send_batch(_build(producer, records), topic, partition=partition))
            except _REFUSED:
                await self._refused(lane, records)
                return
            except (KafkaError, OSError, AssertionError) as error:  # aiokafka asserts that it knows the partition
                await self._failed(producer, _name(error))
            else:
                self._in_flight.pop(lane, None)
                self._acknowledged(records)
                return

    async def _refused(self, lane: Lane, records: list[_Record]) -> None:
        """Find the record that the broker refuses: send them one by one; that one becomes a dead letter."""
        if len(records) > 1:
            for record in records:
                await self._deliver(lane, [record])
            return
        record = records[0]
        if record.envelope is None:
            _log.error("Kafka refuses a record of %d bytes on %s", record.size, record.topic)
            self._release(record)
            return
        self._buffered -= record.size  # makes room for its own dead letter, which must not wait for this very lane
        letter = await self.dead_letter_soon(too_large(record.envelope, MAX_MESSAGE_BYTES))
        letter.add_done_callback(lambda _: _settle(record))

    def _acknowledged(self, records: list[_Record]) -> None:
        """One batch, so one topic: count it by vendor, not by record."""
        self._back()
        counter = DEAD_LETTERS if records[0].topic == DEAD_LETTER else RECORDS_OUT
        told = Counter(r.vendor for r in records if counter is DEAD_LETTERS or r.envelope is not None)
        for vendor, number in told.items():
            counter.labels(STAGE, vendor).inc(number)
        for record in records:
            self._release(record)

    def _release(self, record: _Record) -> None:
        self._buffered -= record.size
        self._room.set()
        _settle(record)

    async def _connect(self) -> AIOKafkaProducer:
        """The producer; connects, for as long as it takes, where there is none."""
        while self._producer is None:
            async with self._connecting:
                if self._producer is not None:
                    break
                producer = self._new_producer()
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    await self._discard(producer)
                    self._gone(_name(error))
                    await asyncio.sleep(self._backoff.next(random.random()))
                except asyncio.CancelledError:
                    await self._discard(producer)
                    raise
                else:
                    self._producer = producer
                    if not self._waiting:  # else the first acknowledgement tells whether Kafka takes records, too
                        self._back()
        return self._producer

    def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=_BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES + _OVERHEAD_BYTES,
            request_timeout_ms=15_000,
            retry_backoff_ms=250,
        )
        # aiokafka gives a batch up that had no leader for the request time-out, though it may be written already: sent
        # again it would have another sequence number and be there twice. Never giving up keeps idempotence.
        producer._message_accumulator._batch_ttl = math.inf
        return producer

    async def _failed(self, producer: AIOKafkaProducer, reason: str) -> None:
        """Aiokafka retries by itself whatever can be retried, so an error that comes through ends this producer."""
        _log.debug("the producer is replaced (%s)", reason)
        self._gone(reason)
        if self._producer is producer:
            self._producer = None
            await self._discard(producer)
        await asyncio.sleep(self._backoff.next(random.random()))

    async def _discard(self, producer: AIOKafkaProducer | None) -> None:
        if producer is None:
            return
        try:
            async with asyncio.timeout(2):
                await producer.stop()
        except (TimeoutError, KafkaError, OSError):  # its sender still tries to reach a broker that is away
            sender: Any = producer._sender
            if sender.sender_task is not None:
                sender.sender_task.cancel()
            await producer.client.close()

    async def _watch(self) -> None:
        """A broker that accepts and never answers is away, too."""
        while True:
            await asyncio.sleep(min(1.0, self._stalled_after / 2))
            if self._slowest() > self._stalled_after:
                self._gone(f"no acknowledgement for {self._stalled_after:g} s")

    def _slowest(self) -> float:
        """For how many seconds the oldest batch of any partition has waited for its acknowledgement."""
        now = time.monotonic()
        return now - min(self._in_flight.values(), default=now)

    def _gone(self, reason: str) -> None:
        if not self._said_so:
            _log.warning("Kafka is away (%s); nothing is acknowledged upstream until it is back", reason)
        self._said_so = True
        self._away = reason

    def _back(self) -> None:
        """Said when all partitions have a leader again, not at the first: after a restart that takes a while.

        What is away must become clearly faster to be back, so that a slow broker is not away and back by turns.
        """
        if self._said_so and self._slowest() > self._stalled_after * _RECOVERED:
            return
        if self._said_so:
            _log.info("Kafka is back")
        self._said_so = False
        self._away = None
        self._backoff.reset()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._broken.done():
            self._broken.set_exception(error)
            self._broken.exception()  # seen; whoever asks `broken` gets it raised


def _settle(record: _Record) -> None:
    if not record.delivered.done():  # its caller may have given up waiting
        record.delivered.set_result(None)


@lru_cache(maxsize=100_000)
def partition_of(key: bytes, count: int) -> int:
    """Kafka's default partitioner: a device has the same number on every topic of as many partitions."""
    number: int = (murmur2(key) & 0x7FFFFFFF) % count
    return number


def _take(waiting: deque[_Record]) -> list[_Record]:
    taken = [waiting.popleft()]
    size = taken[0].size
    while waiting and size + waiting[0].size <= _BATCH_BYTES and len(taken) < _BATCH_RECORDS:
        taken.append(waiting.popleft())
        size += taken[-1].size
    return taken


def _build(producer: AIOKafkaProducer, records: list[_Record]) -> Any:
    batch = producer.create_batch()
    for record in records:
        added = batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers)
        if added is None:  # `_take` counts generously, so this cannot be; a lost record must not be, either
            raise MessageSizeTooLargeError(f"a batch of {len(records)} records does not fit")
    batch.close()
    return batch


def _name(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
