"""Fixtures: a publisher on the session's Kafka, and the tails of topics, which show what arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from connectors.common.publisher import Publisher
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.kafka import KafkaSettings, declare_topics
from schemas.envelope import Envelope, read_envelope
from schemas.topics import DEAD_LETTER, raw_topic, topic_specs
from schemas.wire import DeadLetter, decode_dead_letter
from tests.support.waiting import eventually


@pytest.fixture
async def kafka_settings(kafka: str) -> KafkaSettings:
    settings = KafkaSettings(bootstrap_servers=kafka)
    await declare_topics(settings, topic_specs())
    return settings


@pytest.fixture
async def publisher(kafka_settings: KafkaSettings) -> AsyncIterator[Publisher]:
    async with Publisher(kafka_settings) as publisher:
        yield publisher


class Tail:
    """Everything that came to a topic since the tail was opened."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self.records: list[ConsumerRecord[bytes, bytes]] = []
        self._envelopes: list[Envelope] = []

    async def until(
        self, enough: Callable[[list[ConsumerRecord[bytes, bytes]]], bool], seconds: float = 20
    ) -> list[ConsumerRecord[bytes, bytes]]:
        """All records so far, as soon as they are enough; AssertionError where they are not in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not enough(self.records):
            left = deadline - asyncio.get_running_loop().time()
            assert left > 0, f"not enough after {seconds} s: {len(self.records)} records"
            for batch in (await self._consumer.getmany(timeout_ms=200)).values():
                self.records += batch
        return self.records

    async def quiet(self, seconds: float) -> list[ConsumerRecord[bytes, bytes]]:
        """All records so far, after waiting."""
        for batch in (await self._consumer.getmany(timeout_ms=int(seconds * 1000))).values():
            self.records += batch
        return self.records

    async def all(self) -> list[ConsumerRecord[bytes, bytes]]:
        """All records that are in the topic by now."""
        ends = await self._consumer.end_offsets(self._consumer.assignment())

        async def is_read() -> bool:
            for batch in (await self._consumer.getmany(timeout_ms=50)).values():
                self.records += batch
            return all([await self._consumer.position(partition) >= end for partition, end in ends.items()])

        await eventually(is_read)
        return self.records

    async def all_envelopes(self) -> list[Envelope]:
        """The envelopes of `all`."""
        await self.all()
        return list(self._read())

    async def envelopes(self, enough: Callable[[list[Envelope]], bool], seconds: float = 20) -> list[Envelope]:
        await self.until(lambda _: enough(self._read()), seconds)
        return list(self._read())

    def _read(self) -> list[Envelope]:
        self._envelopes += [read_envelope(r.value, r.headers) for r in self.records[len(self._envelopes) :]]
        return self._envelopes

    async def dead_letters(self, count: int, seconds: float = 20) -> list[DeadLetter]:
        records = await self.until(lambda records: len(records) >= count, seconds)
        return [decode_dead_letter(r.value or b"") for r in records]


class OpenTail(Protocol):
    """Type of the fixture `tail`."""

    def __call__(self, topic: str) -> Awaitable[Tail]: ...


RawTail = Callable[[str], Awaitable[Tail]]
"""Type of the fixture `raw_tail`."""


@pytest.fixture
async def tail(kafka_settings: KafkaSettings) -> AsyncIterator[OpenTail]:
    """Opens a topic at its end."""
    consumers: list[AIOKafkaConsumer] = []

    async def open_tail(topic: str) -> Tail:
        consumer = AIOKafkaConsumer(bootstrap_servers=kafka_settings.bootstrap_servers, enable_auto_commit=False)
        await consumer.start()
        consumers.append(consumer)
        partitions = [TopicPartition(topic, p) for p in sorted(await _partitions(consumer, topic))]
        consumer.assign(partitions)
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        return Tail(consumer)

    yield open_tail
    for consumer in consumers:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    await load_metadata(consumer, topic)
    return consumer.partitions_for_topic(topic) or set()


@pytest.fixture
async def raw_tail(tail: OpenTail) -> RawTail:
    """Opens the raw topic of a vendor at its end."""

    async def open_raw(vendor: str) -> Tail:
        return await tail(raw_topic(vendor))

    return open_raw


@pytest.fixture
async def dead_tail(tail: OpenTail) -> Tail:
    return await tail(DEAD_LETTER)
