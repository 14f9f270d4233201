"""Sends queued records: one batch per partition at a time, in order, until the broker has acknowledged each."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime

from aiokafka.errors import (
    InvalidTimestampError,
    KafkaError,
    MessageSizeTooLargeError,
    ProducerClosed,
    RecordListTooLargeError,
)

from connectors.common import STAGE
from connectors.common.dead_letters import too_large
from connectors.common.publishing.background_tasks import BackgroundTasks
from connectors.common.publishing.kafka_availability import KafkaAvailability
from connectors.common.publishing.outgoing_record import OutgoingRecord, dead_letter_record
from connectors.common.publishing.partitioner import partition_of
from connectors.common.publishing.producer import ProducerConnection, describe
from connectors.common.publishing.send_queues import UNKNOWN, SendQueues, TopicPartition
from runtime.metrics import DEAD_LETTERS, HOP_SECONDS, RECORDS_OUT
from schemas.envelope import GAP, Envelope
from schemas.topics import DEAD_LETTER, MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)

_RECORD_TOO_LARGE = (MessageSizeTooLargeError, RecordListTooLargeError)
"""The broker refuses the record itself; another attempt would not help."""


class RecordSender:
    """Delivery: at least once, in the order of `enqueue` per partition. A record is sent until Kafka takes it; one
    that Kafka refuses for its size becomes a dead letter.
    """

    def __init__(
        self,
        queues: SendQueues,
        connection: ProducerConnection,
        availability: KafkaAvailability,
        tasks: BackgroundTasks,
    ) -> None:
        self._queues = queues
        self._connection = connection
        self._availability = availability
        self._tasks = tasks
        self._partition_counts: dict[str, int] = {}

    async def enqueue(self, record: OutgoingRecord) -> asyncio.Future[None]:
        """Queue a record; waits only while the buffer is full. The future is done when the broker has the record."""
        await self._queues.reserve(record)
        count = self._partition_counts.get(record.topic)
        if count:
            self._put(record, count)
        elif self._queues.put((record.topic, UNKNOWN), record):
            self._tasks.spawn(self._assign_partitions(record.topic))
        return record.delivered

    def _put(self, record: OutgoingRecord, count: int) -> None:
        partition = (record.topic, partition_of(record.partition_key or record.key, count))
        if self._queues.put(partition, record):
            self._tasks.spawn(self._drain(partition))

    async def _assign_partitions(self, topic: str) -> None:
        """Learn the topic's number of partitions, then move its waiting records to their partitions' queues."""
        count = await self._count_partitions(topic)
        self._partition_counts[topic] = count
        for record in self._queues.take_all((topic, UNKNOWN)):
            self._put(record, count)

    async def _count_partitions(self, topic: str) -> int:
        while True:
            producer = await self._connection.connect()
            try:
                return len(await producer.partitions_for(topic))
            except (KafkaError, OSError) as error:
                await self._connection.failed(producer, f"topic {topic}: {describe(error)}")

    async def _drain(self, partition: TopicPartition) -> None:
        """Send one batch after the other. What is queued meanwhile makes the next batch."""
        while batch := self._queues.take_batch(partition):
            self._availability.sent(partition)
            try:
                await self._deliver(partition, batch)
            finally:
                self._availability.ended(partition)

    async def _deliver(self, partition: TopicPartition, records: list[OutgoingRecord]) -> None:
        while True:
            producer = await self._connection.connect()
            try:
                await self._connection.send(producer, partition, records)
            except _RECORD_TOO_LARGE:
                await self._refused(partition, records)
                return
            except InvalidTimestampError:
                await self._connection.refused_times(producer, records)
            except ProducerClosed as error:
                if not self._connection.is_replaced(producer):
                    await self._connection.failed(producer, describe(error))
            except (KafkaError, OSError, AssertionError) as error:  # aiokafka asserts that it knows the partition
                await self._connection.failed(producer, describe(error))
            else:
                self._availability.ended(partition)
                self._acknowledged(records)
                return

    async def _refused(self, partition: TopicPartition, records: list[OutgoingRecord]) -> None:
        """Send the records of a refused batch one by one; the one that Kafka refuses becomes a dead letter."""
        if len(records) > 1:
            for record in records:
                await self._deliver(partition, [record])
            return
        record = records[0]
        if record.envelope is None:
            _log.error("Kafka refuses a record of %d bytes on %s", record.size, record.topic)
            self._release(record)
            return
        self._queues.uncount(record)  # its dead letter needs the room, and must not wait for this very partition
        letter = await self.enqueue(dead_letter_record(too_large(record.envelope, MAX_MESSAGE_BYTES)))
        letter.add_done_callback(lambda _: record.settle())

    def _acknowledged(self, records: list[OutgoingRecord]) -> None:
        """A batch has one topic; it is counted by vendor, not by record."""
        self._connection.succeeded()
        counter = DEAD_LETTERS if records[0].topic == DEAD_LETTER else RECORDS_OUT
        numbers = Counter(r.vendor for r in records if counter is DEAD_LETTERS or r.envelope is not None)
        for vendor, number in numbers.items():
            counter.labels(STAGE, vendor).inc(number)
        observe_ages([record.envelope for record in records if record.envelope is not None], datetime.now(UTC))
        for record in records:
            self._release(record)

    def _release(self, record: OutgoingRecord) -> None:
        self._queues.release(record)
        record.settle()


def observe_ages(envelopes: list[Envelope], now: datetime) -> None:
    """Observe how old acknowledged messages are: since their receipt, and at it by the vendor's own time."""
    since_receipt: dict[str, list[float]] = {}
    at_receipt: dict[str, list[float]] = {}
    for envelope in envelopes:
        vendor = envelope.device_id.partition(":")[0]
        since_receipt.setdefault(vendor, []).append((now - envelope.received_at).total_seconds())
        if envelope.time is not None and envelope.type != GAP:
            at_receipt.setdefault(vendor, []).append((envelope.received_at - envelope.time).total_seconds())
    for hop, ages in (("receipt_raw", since_receipt), ("vendor_receipt", at_receipt)):
        for vendor, seconds in ages.items():
            HOP_SECONDS.observe_all((hop, vendor), seconds)
