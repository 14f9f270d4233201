"""The parts of the publisher, each by itself: queues, availability, background tasks, records. No Kafka."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.common.publishing.background_tasks import BackgroundTasks
from connectors.common.publishing.kafka_availability import KafkaAvailability
from connectors.common.publishing.outgoing_record import (
    OutgoingRecord,
    VendorRule,
    dead_letter_record,
    device_record,
    envelope_record,
    rule_record,
)
from connectors.common.publishing.send_queues import BATCH_BYTES, BATCH_RECORDS, UNKNOWN, SendQueues
from connectors.common.publishing.timestamp_limit import NO_TIMESTAMP, TimestampLimit
from schemas.envelope import Envelope
from schemas.topics import DEAD_LETTER, DEVICES, RULES
from schemas.wire import DeadLetter, Device

NOW = datetime(2026, 3, 29, 12, 0, 0, 5999, tzinfo=UTC)
A, B = ("raw.ogmen", 0), ("raw.ogmen", 1)


def record(number: int, size: int = 0) -> OutgoingRecord:
    return OutgoingRecord("raw.ogmen", "ogmen", b"%d" % number, b"x" * size, number)


# -- times that Kafka refuses

HOUR = 3_600_000


def test_a_refused_time_says_the_same_of_all_that_are_as_far_ahead() -> None:
    limit = TimestampLimit()
    assert limit.allowed(10 * HOUR, 0.0) == 10 * HOUR, "nothing is known yet"
    assert limit.refused([2 * HOUR, 10 * HOUR], 0.0)
    assert limit.allowed(10 * HOUR, 0.0) == limit.allowed(11 * HOUR, 0.0) == NO_TIMESTAMP
    assert limit.allowed(9 * HOUR, 0.0) == 9 * HOUR
    assert limit.allowed(10 * HOUR, 3600.0) == 10 * HOUR, "the broker's clock has gone on by an hour"
    assert limit.allowed(11 * HOUR, 3600.0) == NO_TIMESTAMP
    assert limit.refused([2 * HOUR, 10 * HOUR], 0.0), "a lower one was written, and refused"
    assert limit.allowed(2 * HOUR, 0.0) == NO_TIMESTAMP and limit.allowed(HOUR, 0.0) == HOUR
    assert limit.refused([50 * HOUR, 60 * HOUR], 0.0) is False, "none of them was written with its time"


# -- queues


async def test_a_queue_keeps_the_order_and_begins_once() -> None:
    queues = SendQueues(max_bytes=1_000_000)
    assert queues.is_empty
    assert [queues.put(A, record(n)) for n in range(3)] == [True, False, False]
    assert queues.put(B, record(9))
    assert [r.key for r in queues.take_batch(A)] == [b"0", b"1", b"2"]
    assert not queues.is_empty, "the queue exists until somebody finds it empty"
    assert queues.take_batch(A) == []
    assert [r.key for r in queues.take_all(B)] == [b"9"]
    assert queues.is_empty and queues.put(A, record(4))


async def test_a_batch_is_bounded_by_bytes_and_by_records() -> None:
    queues = SendQueues(max_bytes=1 << 30)
    for number in range(BATCH_RECORDS + 1):
        queues.put(A, record(number))
    assert [len(queues.take_batch(A)) for _ in range(3)] == [BATCH_RECORDS, 1, 0]
    queues.put(B, record(0, BATCH_BYTES + 1))  # larger than a batch: goes alone
    for number in (1, 2, 3):
        queues.put(B, record(number, BATCH_BYTES // 3))
    assert [[r.timestamp_ms for r in queues.take_batch(B)] for _ in range(4)] == [[0], [1, 2], [3], []]


async def test_the_buffer_makes_callers_wait_for_room_but_takes_one_record_of_any_size() -> None:
    queues = SendQueues(max_bytes=2000)
    huge, small = record(1, 5000), record(2, 100)
    await queues.reserve(huge)
    assert queues.buffered_bytes == huge.size > 2000
    waiting = asyncio.create_task(queues.reserve(small))
    await asyncio.sleep(0)
    assert not waiting.done()
    queues.release(huge)
    await asyncio.wait_for(waiting, 1)
    assert queues.buffered_bytes == small.size
    queues.uncount(small)
    assert queues.buffered_bytes == 0


@given(st.lists(st.tuples(st.sampled_from([A, B, ("raw.ogmen", UNKNOWN)]), st.integers(0, 600_000)), max_size=30))
def test_everything_put_is_taken_once_in_order(puts: list[tuple[tuple[str, int], int]]) -> None:
    async def run() -> None:
        queues = SendQueues(max_bytes=1 << 30)
        for number, (partition, size) in enumerate(puts):
            queues.put(partition, record(number, size))
        for partition in {partition for partition, _ in puts}:
            taken: list[OutgoingRecord] = []
            while batch := queues.take_batch(partition):
                assert len(batch) == 1 or sum(r.size for r in batch) <= BATCH_BYTES
                taken += batch
            assert [r.timestamp_ms for r in taken] == [n for n, (p, _) in enumerate(puts) if p == partition]
        assert queues.is_empty

    asyncio.run(run())


# -- availability


class HandClock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage()[:13] for r in caplog.records]


def test_the_first_attempt_is_a_problem_but_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kafka = KafkaAvailability(10)
    assert kafka.problem == "Kafka is away: not connected yet" and not kafka.is_away
    assert kafka.succeeded() and kafka.problem is None
    assert not caplog.records


def test_an_outage_is_one_line_down_and_one_line_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kafka = KafkaAvailability(10)
    for reason in ("refused", "no route"):
        kafka.failed(reason)
    assert kafka.is_away and kafka.problem == "Kafka is away: no route"
    assert kafka.succeeded() and kafka.succeeded() and not kafka.is_away
    assert lines(caplog) == ["Kafka is away", "Kafka is back"]


def test_a_batch_that_is_never_acknowledged_makes_an_outage_that_ends_only_when_all_are_fast() -> None:
    clock = HandClock()
    kafka = KafkaAvailability(10, clock)
    kafka.succeeded()
    kafka.sent(A)
    clock.now += 10
    kafka.check_stalled()
    assert not kafka.is_away
    kafka.sent(B)
    clock.now += 0.1
    kafka.check_stalled()
    assert kafka.is_away and kafka.problem == "Kafka is away: no acknowledgement for 10 s"
    kafka.ended(A)
    clock.now += 3
    assert not kafka.succeeded() and kafka.is_away, "another partition still waits too long"
    kafka.ended(B)
    kafka.ended(B)
    assert kafka.succeeded() and not kafka.is_away


def test_a_slow_broker_that_is_not_away_needs_no_recovery() -> None:
    clock = HandClock()
    kafka = KafkaAvailability(10, clock)
    kafka.sent(A)
    clock.now += 9
    assert kafka.succeeded() and kafka.problem is None


# -- background tasks


async def test_the_first_error_of_a_task_is_kept_and_raised() -> None:
    async def fail(text: str) -> None:
        raise ValueError(text)

    tasks = BackgroundTasks()
    waiting = asyncio.create_task(tasks.raise_error())
    tasks.spawn(fail("first"))
    tasks.spawn(fail("second"))
    with pytest.raises(ValueError, match="first"):
        await waiting
    assert str(tasks.error) == "first"


async def test_cancelled_tasks_are_no_error() -> None:
    tasks, ended = BackgroundTasks(), asyncio.Event()

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks.spawn(forever())
    await asyncio.sleep(0)
    await tasks.cancel()
    assert ended.is_set() and tasks.error is None


# -- records


async def test_each_message_becomes_the_record_of_its_topic() -> None:
    envelope = Envelope("1", "ogmen.channel", "ogmen/websocket", "ogmen:r", NOW, b"{}")
    raw = envelope_record(envelope)
    assert (raw.vendor, raw.key, raw.value, raw.envelope) == ("ogmen", b"ogmen:r", b"{}", envelope)
    assert raw.headers == envelope.headers() and raw.timestamp_ms % 1000 == 5
    device = device_record(Device(device_id="ogmen:r", vendor="ogmen", updated_at=NOW))
    assert (device.topic, device.key, device.headers, device.envelope) == (DEVICES, b"ogmen:r", [], None)
    tombstone = rule_record(VendorRule("wayscloud", "7", None, [("a", b"b")], NOW))
    assert (tombstone.topic, tombstone.key, tombstone.value, tombstone.headers) == (RULES, b"7", None, [("a", b"b")])
    letter = DeadLetter(
        id="1", stage="connector", received_at=NOW, problems=[], payload="", payload_bytes=0, payload_sha256=""
    )
    assert (dead_letter_record(letter).topic, dead_letter_record(letter).key) == (DEAD_LETTER, b"unknown")


async def test_a_record_that_nobody_waits_for_is_settled_without_an_error() -> None:
    one = record(1)
    one.delivered.cancel()
    one.settle()
    two = record(2)
    two.settle()
    two.settle()
    assert two.delivered.done()
