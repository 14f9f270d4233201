"""The only way of all connectors into Kafka: ordered per device, acknowledged, bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from connectors.common.dead_letters import too_large
from connectors.common.publishing.background_tasks import BackgroundTasks
from connectors.common.publishing.kafka_availability import KafkaAvailability
from connectors.common.publishing.outgoing_record import (
    VendorRule,
    coverage_record,
    dead_letter_record,
    device_record,
    envelope_record,
    rule_record,
)
from connectors.common.publishing.producer import OVERHEAD_BYTES, ProducerConnection
from connectors.common.publishing.record_sender import RecordSender
from connectors.common.publishing.send_queues import SendQueues
from runtime.kafka import KafkaSettings
from runtime.tracing import begin_message
from schemas import wire
from schemas.envelope import TRACEPARENT, Envelope
from schemas.topics import MAX_MESSAGE_BYTES


class Publisher:
    """Publishes envelopes, devices, vendors' rules and dead letters with one idempotent producer.

    Delivery: at least once. A record is repeated, with the same envelope id, only where Kafka's idempotence cannot hold
    because the producer had to be replaced. Records of one device keep the order of the calls. `publish` returns, and
    the future of `publish_soon` is done, only when the broker has acknowledged the record (`acks=all`). While Kafka is
    away, at most `max_buffered_bytes` are kept and callers wait; sending is retried until Kafka is back, and one log
    line reports each change. A record that Kafka would refuse becomes a dead letter, which counts as delivered.

    `stalled_after`: seconds without an acknowledgement after which Kafka counts as away.
    """

    def __init__(
        self, kafka: KafkaSettings, *, max_buffered_bytes: int = 32 * 1024 * 1024, stalled_after: float = 10.0
    ) -> None:
        self._tasks = BackgroundTasks()
        self._queues = SendQueues(max_buffered_bytes)
        self._availability = KafkaAvailability(stalled_after)
        self._connection = ProducerConnection(kafka, self._queues, self._availability)
        self._sender = RecordSender(self._queues, self._connection, self._availability, self._tasks)

    async def start(self) -> None:
        """Begin to connect. Returns at once, whether Kafka is there or not."""
        # The producer's own lines repeat several times per second while a broker is away; ours report it once.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
        self._tasks.spawn(self._connect())
        self._tasks.spawn(self._watch())

    async def stop(self, timeout: float = 10.0) -> None:
        """Deliver what is buffered, as far as Kafka takes it within `timeout` seconds, and disconnect."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._queues.buffered_bytes:
                    await asyncio.sleep(0.02)
        await self._tasks.cancel()
        await self._connection.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def problem(self) -> str | None:
        """Why Kafka takes no records at the moment; None where it does. For a readiness probe."""
        return self._availability.problem

    @property
    def away(self) -> bool:
        """Whether Kafka is known to be away; not during the first attempt to connect, which callers can wait for."""
        return self._availability.is_away

    @property
    def defect(self) -> str | None:
        """The defect that ended publishing until a restart; None where there is none. For a liveness probe."""
        error = self._tasks.error
        return f"publishing failed: {error!r}" if error is not None else None

    async def broken(self) -> None:
        """Wait until a defect ends publishing, and raise it."""
        await self._tasks.raise_error()

    async def publish(self, envelope: Envelope) -> None:
        """Publish and wait for the broker's acknowledgement."""
        await (await self.publish_soon(envelope))

    async def publish_all(self, envelopes: Iterable[Envelope]) -> None:
        """Publish several envelopes in order and wait until the broker has acknowledged all of them."""
        futures = [await self.publish_soon(envelope) for envelope in envelopes]
        await asyncio.gather(*futures)

    async def publish_soon(self, envelope: Envelope) -> asyncio.Future[None]:
        """Queue an envelope; waits only while the buffer is full. The future is done when the broker has it."""
        if len(envelope.data) > MAX_MESSAGE_BYTES - OVERHEAD_BYTES:
            return await self.dead_letter_soon(too_large(envelope, MAX_MESSAGE_BYTES))
        span = begin_message(envelope)
        if span is None:
            return await self._sender.enqueue(envelope_record(envelope))
        attributes = {**envelope.attributes, TRACEPARENT: span.traceparent}
        delivered = await self._sender.enqueue(envelope_record(replace(envelope, attributes=attributes)))
        delivered.add_done_callback(lambda _: span.end())
        return delivered

    async def publish_device(self, device: wire.Device) -> None:
        """Publish what is known about a device and wait for the acknowledgement."""
        await (await self._sender.enqueue(device_record(device)))

    async def publish_coverage(self, report: wire.Coverage, key: str, subject: str) -> None:
        """Publish a report of coverage on its subject's partition and wait for the acknowledgement."""
        await (await self._sender.enqueue(coverage_record(report, key, subject)))

    async def flushed(self) -> None:
        """Wait until Kafka has everything that was given to this publisher before the call."""
        await self._queues.flushed()

    async def publish_rule(self, rule: VendorRule) -> None:
        """Publish a vendor's alarm rule, or its deletion, and wait for the acknowledgement."""
        await (await self._sender.enqueue(rule_record(rule)))

    async def dead_letter(self, letter: wire.DeadLetter) -> None:
        """Publish a dead letter and wait for the acknowledgement."""
        await (await self.dead_letter_soon(letter))

    async def dead_letter_soon(self, letter: wire.DeadLetter) -> asyncio.Future[None]:
        """Queue a dead letter; waits only while the buffer is full. The future is done when the broker has it."""
        return await self._sender.enqueue(dead_letter_record(letter))

    async def _connect(self) -> None:
        await self._connection.connect()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._availability.stalled_after / 2))
            self._availability.check_stalled()
