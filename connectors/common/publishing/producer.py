"""The connection of the publisher to Kafka: one idempotent producer, replaced when it fails."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from connectors.common.publishing.kafka_availability import KafkaAvailability
from connectors.common.publishing.outgoing_record import OutgoingRecord
from connectors.common.publishing.send_queues import BATCH_BYTES, SendQueues, TopicPartition
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


async def send(producer: AIOKafkaProducer, partition: TopicPartition, records: list[OutgoingRecord]) -> None:
    """Send one batch and wait for its acknowledgement. Raises aiokafka's errors."""
    topic, number = partition
    await (await producer.send_batch(_build(producer, records), topic, partition=number))


def describe(error: BaseException) -> str:
    """Kind and text of an error."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _build(producer: AIOKafkaProducer, records: list[OutgoingRecord]) -> Any:
    batch = producer.create_batch()
    for record in records:
        added = batch.append(timestamp=record.timestamp_ms, key=record.key, value=record.value, headers=record.headers)
        if added is None:  # sizes are overestimated, so this cannot happen; but no record may be lost in silence
            raise MessageSizeTooLargeError(f"a batch of {len(records)} records does not fit")
    batch.close()
    return batch


async def _discard(producer: AIOKafkaProducer) -> None:
    try:
        async with asyncio.timeout(2):
            await producer.stop()
    except (TimeoutError, KafkaError, OSError):  # its sender still tries to reach a broker that is away
        await abandon(producer)
