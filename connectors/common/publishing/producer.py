"""The connection of the publisher to Kafka: one idempotent producer, replaced when it fails."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from connectors.common.publishing.kafka_availability import KafkaAvailability
from connectors.common.publishing.outgoing_record import OutgoingRecord
from connectors.common.publishing.send_queues import BATCH_BYTES, SendQueues, TopicPartition
from connectors.common.publishing.timestamp_limit import TimestampLimit
from runtime.aiokafka_internals.producers import abandon, never_expire_batches
from runtime.backoff import Backoff
from runtime.kafka import KafkaSettings, client_options
from schemas.topics import MAX_MESSAGE_BYTES

_log = logging.getLogger(__name__)

OVERHEAD_BYTES = 16 * 1024
"""Room for key, headers and framing below the topic's limit."""


class ProducerConnection:
    """Connects when a producer is first needed, and again after `failed`. Waits between attempts with back-off."""

    def __init__(self, kafka: KafkaSettings, queues: SendQueues, availability: KafkaAvailability) -> None:
        self._kafka = kafka
        self._queues = queues
        self._availability = availability
        self._producer: AIOKafkaProducer | None = None
        self._connecting = asyncio.Lock()
        self._backoff = Backoff(cap=5.0)
        self._limit = TimestampLimit()

    async def connect(self) -> AIOKafkaProducer:
        """The producer; where there is none, connects for as long as it takes."""
        while self._producer is None:
            async with self._connecting:
                if self._producer is not None:
                    break
                producer = self._new_producer()
                try:
                    await producer.start()
                except (KafkaError, OSError) as error:
                    await _discard(producer)
                    self._availability.failed(describe(error))
                    await asyncio.sleep(self._backoff.next(random.random()))
                except asyncio.CancelledError:
                    await _discard(producer)
                    raise
                else:
                    self._producer = producer
                    if self._queues.is_empty:  # otherwise the first acknowledgement shows whether Kafka takes records
                        self.succeeded()
        return self._producer

    async def failed(self, producer: AIOKafkaProducer, reason: str) -> None:
        """Replace a producer that raised an error: aiokafka itself retries whatever can be retried."""
        _log.debug("the producer is replaced (%s)", reason)
        self._availability.failed(reason)
        if self._producer is producer:
            self._producer = None
            await _discard(producer)
        await asyncio.sleep(self._backoff.next(random.random()))

    async def refused_times(self, producer: AIOKafkaProducer, records: list[OutgoingRecord]) -> None:
        """Kafka refuses the times of a batch: they, and others as far ahead, are written without (`TimestampLimit`).

        The producer is replaced all the same: the refused batch has used up sequence numbers that Kafka waits for.
        """
        if not self._limit.refused([record.timestamp_ms for record in records], time.monotonic()):
            await self.failed(producer, "it refuses records without a time, too")
            return
        _log_fast_clock()
        if self._producer is producer:
            self._producer = None
            await _discard(producer)

    def is_replaced(self, producer: AIOKafkaProducer) -> bool:
        """Whether another producer is to be used in place of this one."""
        return self._producer is not producer

    async def send(self, producer: AIOKafkaProducer, partition: TopicPartition, records: list[OutgoingRecord]) -> None:
        """Send one batch and wait for its acknowledgement. Raises aiokafka's errors."""
        topic, number = partition
        batch, now = producer.create_batch(), time.monotonic()
        for record in records:
            at = self._limit.allowed(record.timestamp_ms, now)
            added = batch.append(timestamp=at, key=record.key, value=record.value, headers=record.headers)
            if added is None:  # sizes are overestimated, so this cannot happen; but no record may be lost in silence
                raise MessageSizeTooLargeError(f"a batch of {len(records)} records does not fit")
        batch.close()
        await (await producer.send_batch(batch, topic, partition=number))

    def succeeded(self) -> None:
        """Kafka acknowledged something."""
        if self._availability.succeeded():
            self._backoff.reset()

    async def close(self) -> None:
        """Disconnect."""
        if self._producer is not None:
            await _discard(self._producer)

    def _new_producer(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **client_options(self._kafka),
            acks="all",
            enable_idempotence=True,
            compression_type="lz4",
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES + OVERHEAD_BYTES,
            request_timeout_ms=15_000,
            retry_backoff_ms=250,
        )
        never_expire_batches(producer)
        return producer


def describe(error: BaseException) -> str:
    """Kind and text of an error."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@cache
def _log_fast_clock() -> None:
    """One line per process."""
    _log.warning(
        "Kafka refuses times so far ahead: this machine's clock is fast, or the broker's is slow; records are written "
        "without a time of their own until that is mended (their envelopes keep it)"
    )


async def _discard(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(2):
            await producer.stop()
    except (TimeoutError, KafkaError, OSError):  # its sender still tries to reach a broker that is away
        await abandon(producer)
