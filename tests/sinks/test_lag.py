"""Lag: measured per topic, and a stall only where records wait and none is read."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from runtime.metrics import LAG
from sinks import lag
from sinks.lag import STALL_SECONDS, LagMeter

FIRST, SECOND, OTHER = TopicPartition("t", 0), TopicPartition("t", 1), TopicPartition("u", 0)


class Consumer:
    """Stands in for aiokafka's: ends and positions by partition."""

    def __init__(self) -> None:
        self.ends: dict[TopicPartition, int | None] = {}
        self.positions: dict[TopicPartition, int] = {}

    def last_stable_offset(self, partition: TopicPartition) -> int | None:
        return self.ends.get(partition)

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(lag, "time", made)
    return made


def meter(consumer: Consumer) -> LagMeter:
    return LagMeter("lag-test", ["t", "u"], consumer)  # type: ignore[arg-type]


def shown(topic: str) -> float:
    return float(LAG.labels("lag-test", topic)._value.get())


async def test_lag_is_the_records_between_position_and_end_per_topic(clock: Clock) -> None:
    consumer = Consumer()
    consumer.ends = {FIRST: 10, SECOND: 7, OTHER: None}
    consumer.positions = {FIRST: 4, SECOND: 7, OTHER: 0}
    made = meter(consumer)
    clock.now += 1
    await made.measure([FIRST, SECOND, OTHER], records_read=True)
    assert (shown("t"), shown("u")) == (6, 0)


async def test_a_position_past_the_known_end_is_no_negative_lag(clock: Clock) -> None:
    consumer = Consumer()
    consumer.ends, consumer.positions = {FIRST: 10, SECOND: 10}, {FIRST: 13, SECOND: 8}
    made = meter(consumer)
    clock.now += 1
    await made.measure([FIRST, SECOND], records_read=True)
    assert shown("t") == 2


async def test_lag_is_measured_at_most_once_per_second(clock: Clock) -> None:
    consumer = Consumer()
    consumer.ends, consumer.positions = {FIRST: 5}, {FIRST: 0}
    made = meter(consumer)
    clock.now += 1
    await made.measure([FIRST], records_read=True)
    consumer.positions[FIRST] = 5
    clock.now += 0.9
    await made.measure([FIRST], records_read=True)
    assert shown("t") == 5
    clock.now += 0.2
    await made.measure([FIRST], records_read=True)
    assert shown("t") == 0


async def test_waiting_records_that_nobody_reads_for_a_minute_are_a_stall(clock: Clock) -> None:
    consumer = Consumer()
    consumer.ends, consumer.positions = {FIRST: 5}, {FIRST: 0}
    made = meter(consumer)
    clock.now += 1
    await made.measure([FIRST], records_read=True)
    clock.now += STALL_SECONDS
    await made.measure([FIRST], records_read=False)
    assert made.problem() is None
    clock.now += 0.1
    assert made.problem() == "lag-test: 5 records wait in Kafka, and none has been read for 60 s"
    await made.measure([FIRST], records_read=True)
    assert made.problem() is None


async def test_without_waiting_records_silence_is_no_stall(clock: Clock) -> None:
    consumer = Consumer()
    consumer.ends, consumer.positions = {FIRST: 5}, {FIRST: 5}
    made = meter(consumer)
    clock.now += 10 * STALL_SECONDS
    await made.measure([FIRST], records_read=False)
    assert made.problem() is None
