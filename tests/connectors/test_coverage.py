"""What connectors report of their listening: spans, gaps after an end, acknowledged before anything is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from connectors.common.coverage import CONNECTOR, SOCKET, CoverageReporter
from connectors.common.publisher import Publisher
from connectors.common.publishing.outgoing_record import OutgoingRecord
from connectors.common.publishing.partitioner import partition_of
from connectors.common.publishing.send_queues import SendQueues
from connectors.common.span_log import SpanLog
from runtime.kafka import KafkaSettings, declare_topics
from schemas import wire
from schemas.coverage import LAPSE, SPANS_KEPT
from schemas.timestamps import to_micros
from schemas.topics import COVERAGE, topic_specs
from tests.support.kafka import read_all
from tests.support.waiting import eventually

SECOND = 1_000_000
DEVICE = "karcher:1.454-500.0/002005"
_names = count()


# -- spans


def test_spans_begin_and_end_and_the_latest_are_kept() -> None:
    log = SpanLog()
    assert not log.end(5) and log.begin(10) and not log.begin(20)
    assert log.end(30) and not log.end(40)
    assert log.spans == [(10, 30)] and not log.is_listening
    for at in range(100, 100 + 2 * SPANS_KEPT, 2):
        log.begin(at)
        log.end(at + 1)
    assert len(log.spans) == SPANS_KEPT and log.spans[-1] == (98 + 2 * SPANS_KEPT, 99 + 2 * SPANS_KEPT)


def test_a_long_outage_is_not_forgotten_for_many_short_ones() -> None:
    hour = 3600 * SECOND
    log = SpanLog()
    log.begin(0)
    for day in range(1, 2 * SPANS_KEPT):  # an hour per day, long ago
        log.end(day * 24 * hour)
        log.begin(day * 24 * hour + hour)
    begin = 2 * SPANS_KEPT * 24 * hour
    log.end(begin)
    log.begin(begin + 20 * hour)
    for number in range(2 * SPANS_KEPT):
        at = begin + 20 * hour + (number + 1) * 60 * SECOND
        log.end(at)
        log.begin(at + 4 * SECOND)
    gaps = [(end, since) for (_, end), (since, _) in pairwise(log.spans)]
    assert len(log.spans) == SPANS_KEPT and log.spans[0][0] == 0 and log.is_listening
    assert (begin, begin + 20 * hour) in gaps, "hours ago"
    assert (at, at + 4 * SECOND) == gaps[-1], "just now"


def test_what_was_reported_does_not_change() -> None:
    log = SpanLog([(10, None)], reported_until=50)
    log.end(40)
    assert log.spans == [(10, 50)]


def test_too_long_without_an_acknowledgement_is_a_gap() -> None:
    log = SpanLog([(0, None)], reported_until=10 * SECOND)
    log.lapse(10 * SECOND + LAPSE)
    assert log.spans == [(0, None)], "so long is none"
    log.lapse(10 * SECOND + LAPSE + 1)
    assert log.spans == [(0, 10 * SECOND), (10 * SECOND + LAPSE + 1, None)]


def test_lapses_one_after_the_other_are_one_gap() -> None:
    """Kafka takes seconds for each report: nothing was listened to meanwhile, and that is one outage."""
    log = SpanLog([(0, None)], reported_until=10 * SECOND)
    for at in range(20, 100, 5):
        log.lapse(at * SECOND)
        log.reported_until = at * SECOND
    assert log.spans == [(0, 10 * SECOND), (95 * SECOND, None)]
    log.reported_until = 97 * SECOND
    log.lapse(110 * SECOND)
    assert log.spans == [(0, 10 * SECOND), (95 * SECOND, 97 * SECOND), (110 * SECOND, None)]


# -- what is in Kafka already


async def test_flushed_waits_for_what_came_before_and_for_nothing_later() -> None:
    queues = SendQueues(10_000)

    def record() -> OutgoingRecord:
        return OutgoingRecord("t", "v", b"k", b"v", 0)

    await asyncio.wait_for(queues.flushed(), 1)
    before, later = record(), record()
    await queues.reserve(before)
    flushed = asyncio.create_task(queues.flushed())
    await asyncio.sleep(0)
    await queues.reserve(later)
    assert not flushed.done()
    queues.release(before)
    await asyncio.wait_for(flushed, 1)
    large = OutgoingRecord("t", "v", b"k", bytes(20_000), 0)
    waiting = asyncio.create_task(queues.reserve(large))
    await asyncio.sleep(0)
    waiting.cancel()
    queues.release(later)
    await asyncio.wait_for(queues.flushed(), 1)


# -- on Kafka


class Clock:
    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def settings(kafka_settings: KafkaSettings) -> KafkaSettings:
    await declare_topics(kafka_settings, topic_specs())
    return kafka_settings


@asynccontextmanager
async def reporting(settings: KafkaSettings, process: str, clock: Clock) -> AsyncIterator[CoverageReporter]:
    async with Publisher(settings) as publisher:
        reporter = CoverageReporter("karcher", process, publisher, settings, clock)
        running = asyncio.create_task(reporter.run())
        try:
            yield reporter
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def reports(settings: KafkaSettings, key: str) -> list[wire.Coverage]:
    found = await read_all(settings.bootstrap_servers, COVERAGE, settings.partitions)
    return [
        wire.decode_coverage(record.value or b"")
        for records in found.values()
        for record in records
        if record.key == key.encode()
    ]


async def test_a_process_reports_up_to_when_it_listened_and_its_successor_the_gap(settings: KafkaSettings) -> None:
    process, clock = f"host-{next(_names)}", Clock()
    key = f"karcher:fleetlake#{CONNECTOR}#{process}"
    async with reporting(settings, process, clock) as reporter:
        await reporter.listening()
        (first,) = await reports(settings, key)
        assert first.spans == [(first.reported_until, None)] or first.spans[0][1] is None

        async def two_more() -> bool:
            return len(await reports(settings, key)) >= 3

        await eventually(two_more, 90)
        assert REGISTRY.get_sample_value("fleetlake_covered_sources", {"vendor": "karcher"}) == 1
        reported_at = REGISTRY.get_sample_value("fleetlake_coverage_reported_timestamp_seconds", {"vendor": "karcher"})
        assert reported_at is not None and first.reported_until < reported_at * SECOND
    last = (await reports(settings, key))[-1]
    assert last.reported_until > first.reported_until
    clock.ahead = timedelta(minutes=20)
    async with reporting(settings, process, clock) as reporter:
        await reporter.listening()
        again = (await reports(settings, key))[-1]
    (begin, end), (since, until) = again.spans
    assert (begin, end, until) == (first.spans[0][0], last.reported_until, None)
    assert since - last.reported_until > 1190 * SECOND


async def test_a_socket_is_known_to_be_down_before_more_is_reported_and_up_before_it_is_read(
    settings: KafkaSettings,
) -> None:
    process, clock, device = f"host-{next(_names)}", Clock(), f"{DEVICE}-{next(_names)}"
    async with reporting(settings, process, clock) as reporter:
        await reporter.listening()
        await reporter.listening(SOCKET, device)
        assert [report.spans[-1][1] for report in await reports(settings, device)] == [None]
        reporter.interrupted(SOCKET, device)
        reporter.interrupted(SOCKET, device)

        async def down() -> list[wire.Coverage]:
            return [report for report in await reports(settings, device) if report.spans[-1][1] is not None]

        (lost,) = await eventually(down, 90)
        vendor = await reports(settings, f"karcher:fleetlake#{CONNECTOR}#{process}")
        assert lost.spans[-1][1] is not None
        assert [each for each in vendor if each.reported_until > lost.reported_until + 2 * SECOND] == []
        await reporter.listening(SOCKET, device)
        assert len((await reports(settings, device))[-1].spans) == 2
    found = await read_all(settings.bootstrap_servers, COVERAGE, settings.partitions)
    (of_device,) = [n for n, records in found.items() if any(r.key == device.encode() for r in records)]
    assert of_device == partition_of(device.encode(), settings.partitions)
    (of_vendor,) = [
        n for n, records in found.items() if any((r.key or b"").endswith(process.encode()) for r in records)
    ]
    assert of_vendor == partition_of(b"karcher:fleetlake", settings.partitions)
    clock.ahead = timedelta(minutes=50)  # later than other tests report; Kafka refuses more than an hour
    async with reporting(settings, process, clock) as reporter:
        await reporter.resume(device, datetime.now(UTC))  # as its lease says
        await reporter.listening()
        await reporter.listening(SOCKET, device)
        spans = (await reports(settings, device))[-1].spans
        vendor = (await reports(settings, f"karcher:fleetlake#{CONNECTOR}#{process}"))[-1].spans
    assert len(spans) == 3
    (_, ended), (since, _) = spans[1:]
    assert ended is not None and since - ended < 30 * SECOND, "before, nobody listened to the vendor at all"
    assert vendor[-1][0] - (vendor[-2][1] or 0) > 2990 * SECOND and ended <= vendor[-1][0]


async def test_a_process_that_was_frozen_did_not_listen(settings: KafkaSettings) -> None:
    process, clock = f"host-{next(_names)}", Clock()
    async with reporting(settings, process, clock) as reporter:
        await reporter.listening()
        frozen_at = to_micros(clock())
        clock.ahead = timedelta(seconds=8)

        async def gap() -> list[wire.Coverage]:
            made = await reports(settings, f"karcher:fleetlake#{CONNECTOR}#{process}")
            return [report for report in made if len(report.spans) == 2]

        (_, ended), (since, _) = (await eventually(gap, 90))[0].spans
    assert ended is not None and ended <= frozen_at and since >= frozen_at + 8 * SECOND


async def test_a_connector_that_fails_listens_to_nothing(settings: KafkaSettings, tmp_path: Path) -> None:
    process, clock = f"host-{next(_names)}", Clock()
    async with reporting(settings, process, clock) as reporter:
        await reporter.listening()
        reporter.stopped()

        async def said() -> bool:
            made = (await reports(settings, f"karcher:fleetlake#{CONNECTOR}#{process}"))[-1]
            return made.spans[-1][1] is not None and made.reported_until <= to_micros(clock())

        await eventually(said, 90)
