"""The record-batch transport and its pipelines against a real Kafka: failures, gaps, rebalances, state, bounds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from faust.types import TP

from runtime.kafka import KafkaSettings
from runtime.kafka_records.fetched import FetchedRecord, LooseRecords
from schemas.consumed import Record
from streams.engine.app import Streams, build_app, run_streams
from streams.engine.batch_queue import BatchQueue
from streams.engine.consumer_thread import start_offset
from streams.engine.options import BatchStats, PipelineOptions, StreamsFailed, WorkerOptions
from streams.engine.record_batch import RecordBatch
from streams.engine.step import MAX_RECORD_BYTES, Output, record_bytes
from tests.streams.worker import Numbered
from tests.support.aiokafka_faults import kill_fetcher
from tests.support.kafka import MakeTopics, Pair, committed, numbers, produce, producer, read_all
from tests.support.stream_workers import Workers, until_processed
from tests.support.waiting import eventually, passing


@contextmanager
def workers(kafka: str, folder: Path, step: str, inputs: str, out: str, state: str = "none") -> Iterator[Workers]:
    group = Workers(kafka, folder, step, inputs, out, state)
    try:
        yield group
    finally:
        group.kill_all()


def records(count: int, value: bytes = b"x") -> list[Pair]:
    return [(b"device-%d" % (number % 10), value) for number in range(count)]


HOUR_MS = 3_600_000


async def test_a_step_that_raises_ends_the_process_and_commits_nothing_of_the_batch(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out = await make_topics(["in", "out"])
    with workers(kafka, tmp_path, "raising", source, out) as group:
        worker = group.start()
        async with producer(kafka) as client:
            await produce(client, source, 0, records(100))
            await until_processed(group, source, 1)
            await produce(client, source, 0, [*records(10), (b"device-1", b"poison"), *records(10)])
            assert await group.exit_code(worker) == 1
            assert group.log().count("CRITICAL") == 1
            assert "stream worker failed: ZeroDivisionError: the step met poison" in group.log()
            done = (await committed(kafka, group.application))[source, 0]
            assert 100 <= done <= 110
            assert len((await read_all(kafka, out, 1))[0]) == done

            group.step = "numbered"
            group.start()
            await until_processed(group, source, 1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, offset] for offset in range(121)]


@asynccontextmanager
async def transactional(kafka: str, name: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    async with producer(kafka, transactional_id=name, **options) as client:
        yield client


async def test_markers_aborted_and_deleted_records_in_the_input_are_gaps_not_stalls(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    (source, out) = await make_topics(["in", "out"])

    async def transaction(client: AIOKafkaProducer, count: int, end: str) -> None:
        await client.begin_transaction()
        await produce(client, source, 0, records(count))
        await (client.commit_transaction() if end == "commit" else client.abort_transaction())

    async with transactional(kafka, f"writer-{source}") as writer, producer(kafka) as plain:
        await produce(plain, source, 0, records(20))
        await _delete_before(kafka, source, 15)
        for count, end in ((10, "commit"), (7, "abort"), (1, "commit"), (3, "abort"), (3, "abort")):
            await transaction(writer, count, end)
        with workers(kafka, tmp_path, "numbered", source, out) as group:
            first = group.start()
            await eventually(lambda: _count_is(kafka, out, 16), 30, group.log)
            assert await group.stop(first) == 0
            await transaction(writer, 5, "commit")
            await transaction(writer, 5, "abort")
            group.start()  # starts at a marker, and ends at one
            await eventually(lambda: _count_is(kafka, out, 21), 30, group.log)
            await produce(plain, source, 0, records(4))
            await until_processed(group, source, 1)
    expected = [[0, record.offset] for record in (await read_all(kafka, source, 1))[0]]
    assert len(expected) == 25
    assert numbers((await read_all(kafka, out, 1))[0]) == expected


async def test_records_that_compaction_removed_are_gaps_not_stalls(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    """Real compaction, of which the broker takes some fifteen seconds."""
    (out,) = await make_topics(["out"])
    compacted = {"cleanup.policy": "compact", "segment.ms": "500", "min.cleanable.dirty.ratio": "0.01"}
    (source,) = await make_topics(["in"], configs=compacted)
    with workers(kafka, tmp_path, "numbered", source, out) as group:
        async with producer(kafka) as client:
            await produce(client, source, 0, records(30))
            first = group.start()
            await until_processed(group, source, 1)
            assert await group.stop(first) == 0
            for _ in range(4):
                await produce(client, source, 0, records(30))
                await passing(0.6, "the next records begin a segment, and what is before it can be compacted")
            await produce(client, source, 0, [(b"last", b"")])
            await eventually(lambda: _count_is_at_most(kafka, source, 60), 60)
            group.start()  # begins where no record is any more
            await until_processed(group, source, 1)
    left = [record.offset for record in (await read_all(kafka, source, 1))[0]]
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, n] for n in [*range(30), *left]]
    assert left[0] > 30 and left[-1] == 150


async def _count_is_at_most(kafka: str, topic: str, count: int) -> bool:
    return len((await read_all(kafka, topic, 1))[0]) <= count


async def _count_is(kafka: str, topic: str, count: int) -> bool:
    found = len((await read_all(kafka, topic, 1))[0])
    assert found <= count
    return found == count


async def _delete_before(kafka: str, topic: str, offset: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()


async def test_workers_that_come_and_go_neither_lose_nor_repeat(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, state = await make_topics(["in", "out", "state"], partitions=3)
    sent = [0, 0, 0]

    async def feed_until_works(client: AIOKafkaProducer, worker: int) -> None:
        """Feed until the worker has committed something, and some seconds more."""
        end = time.monotonic() + 60
        works = False
        while time.monotonic() < end:
            for partition in range(3):
                sent[partition] += await produce(client, source, partition, records(50))
            if not works and '"first_batch_after"' in group.log(worker):
                works, end = True, time.monotonic() + 1.5
            await passing(0.05, "the pace of the writer")
        assert works, group.log(worker)

    with workers(kafka, tmp_path, "counter", source, out, state) as group:
        first = group.start()
        async with producer(kafka) as client:
            await feed_until_works(client, 0)
            second = group.start()
            await feed_until_works(client, 1)
            assert await group.stop(second) == 0, group.log(1)
            third = group.start()
            await feed_until_works(client, 2)
        await until_processed(group, source, 3)
        assert await group.stop(first) == 0, group.log(0)
        assert await group.stop(third) == 0, group.log(2)  # in the middle of a rebalance
    for partition, found in (await read_all(kafka, out, 3)).items():
        expected = [[partition, offset, offset // 10 + 1] for offset in range(sent[partition])]
        assert numbers(found) == expected


async def test_a_partition_revoked_in_the_middle_of_its_batch_is_neither_lost_nor_repeated(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out = await make_topics(["in", "out"])
    begun = tmp_path / "begun"
    with workers(kafka, tmp_path, "lingering", source, out) as group:
        first = group.start(LINGER_FILE=str(begun))
        async with producer(kafka) as client:
            await produce(client, source, 0, records(100))
            await eventually(lambda: _is(begun.exists), 30, group.log)
            second = group.start()  # joins while the first is in its step, which takes two seconds
            await produce(client, source, 0, records(100))
            await until_processed(group, source, 1)
        assert await group.stop(first) == 0, group.log(0)
        assert await group.stop(second) == 0, group.log(1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, offset] for offset in range(200)]


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("oversized", f"exceeds the limit of {MAX_RECORD_BYTES} bytes"),
        ("refused", "MessageSizeTooLargeError"),
        ("counter", "has no partition 0"),  # of the state topic, which does not exist
    ],
)
async def test_what_cannot_be_written_ends_the_process_and_commits_nothing(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, step: str, said: str
) -> None:
    source, out = await make_topics(["in", "out"], configs={"max.message.bytes": "1000000"})
    async with producer(kafka) as client:
        await produce(client, source, 0, records(10))
    with workers(kafka, tmp_path, step, source, out, "no-such-topic") as group:
        assert await group.exit_code(group.start()) == 1
        assert group.log().count("CRITICAL") == 1
        assert said in group.log()
    assert await committed(kafka, group.application) == {}
    assert (await read_all(kafka, out, 1))[0] == []


async def test_state_is_read_back_by_the_next_owner(kafka: str, make_topics: MakeTopics, tmp_path: Path) -> None:
    source, out, state = await make_topics(["in", "out", "state"], configs={"cleanup.policy": "compact"})
    with workers(kafka, tmp_path, "counter", source, out, state) as group:
        async with producer(kafka) as client:
            for _ in range(3):
                await produce(client, source, 0, records(100))
                worker = group.start()
                await until_processed(group, source, 1)
                assert await group.stop(worker) == 0
    expected = [[0, offset, offset // 10 + 1] for offset in range(300)]
    assert numbers((await read_all(kafka, out, 1))[0]) == expected


async def test_only_the_window_of_a_windowed_state_is_read_back(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, state = await make_topics(["in", "out", "state"])
    now = int(time.time() * 1000)
    async with producer(kafka) as client:
        await client.send_and_wait(state, b"7", key=b"device-0", partition=0, timestamp_ms=now - 4 * HOUR_MS)
        await client.send_and_wait(state, b"8", key=b"device-1", partition=0, timestamp_ms=now)
        await produce(client, source, 0, records(2))
    with workers(kafka, tmp_path, "windowed", source, out, state) as group:
        group.start()
        await until_processed(group, source, 1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, 0, 1], [0, 1, 9]]


async def test_a_windowed_state_reaches_back_from_the_first_record_that_is_still_unread(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    """A day away; one record was written by a fast clock, and of another one the time was refused."""
    source, out, state = await make_topics(["in", "out", "state"])
    now = int(time.time() * 1000)
    away = now - 24 * HOUR_MS
    async with producer(kafka) as client:
        for number, at in enumerate((away - 4 * HOUR_MS, away - 30_000, away - 30_000)):
            key = b"device-%d" % number
            await client.send_and_wait(state, b"7", key=key, partition=0, timestamp_ms=at)
        for (key, value), at in zip(records(3), (now + HOUR_MS // 2, away, -1), strict=True):
            batch = client.create_batch()
            batch.append(key=key, value=value, timestamp=at)
            await (await client.send_batch(batch, source, partition=0))
    with workers(kafka, tmp_path, "windowed", source, out, state) as group:
        group.start()
        await until_processed(group, source, 1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, 0, 1], [0, 1, 8], [0, 2, 8]]


async def test_a_lasting_state_is_read_from_its_beginning_beside_a_windowed_one(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, state, lasting = await make_topics(["in", "out", "state", "lasting"])
    long_ago = int(time.time() * 1000) - 4 * HOUR_MS
    async with producer(kafka) as client:
        for number, topic in enumerate((state, lasting, lasting)):
            key = b"device-%d" % number
            await client.send_and_wait(topic, b"7", key=key, partition=0, timestamp_ms=long_ago)
        await produce(client, source, 0, records(3))
    with workers(kafka, tmp_path, "windowed", source, out, state) as group:
        group.start(LASTING_STATE=lasting)
        await until_processed(group, source, 1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, 0, 1], [0, 1, 8], [0, 2, 8]]


async def test_state_behind_the_open_transaction_of_another_is_waited_for(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    """Up to the last stable offset nothing is there: who takes that for the end starts with a stale state."""
    source, out, state = await make_topics(["in", "out", "state"])
    async with transactional(kafka, f"other-{state}", transaction_timeout_ms=6000) as other, producer(kafka) as client:
        await other.begin_transaction()
        await other.send_and_wait(state, b"1000", key=b"device-1", partition=0)
        await client.send_and_wait(state, b"41", key=b"device-0", partition=0)
        await produce(client, source, 0, records(2))
        with workers(kafka, tmp_path, "counter", source, out, state) as group:
            group.start()
            await until_processed(group, source, 1)
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, 0, 42], [0, 1, 1]]


async def test_records_that_nobody_wants_are_skipped_and_those_after_them_are_not(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, side = await make_topics(["in", "out", "side"])
    with workers(kafka, tmp_path, "idle", source, out) as group:
        group.env["SIDE_INPUT"] = side
        async with producer(kafka) as client, transactional(kafka, f"writer-{source}") as writer:
            await produce(client, source, 0, records(100))
            worker = group.start()
            await until_processed(group, source, 1)
            await writer.begin_transaction()
            await produce(writer, source, 0, records(10))
            await produce(client, side, 0, [(b"wish", b"wake")])
            await writer.commit_transaction()
            await produce(client, source, 0, records(200))
            await eventually(lambda: _count_is_at_least(kafka, out, 200), 30, group.log)
            await until_processed(group, source, 1)
            woken = [offset for _, offset in numbers((await read_all(kafka, out, 1))[0])]
            written = [record.offset for record in (await read_all(kafka, source, 1))[0]]
            assert len(written) == 310
            assert woken == written[-len(woken) :], "all that was written after the wish, which 200 records were"
            await produce(client, side, 0, [(b"wish", b"sleep")])
            assert await group.stop(worker) == 0
            await produce(client, source, 0, records(50))
            group.start()
            await until_processed(group, source, 1)
    offsets = [offset for _, offset in numbers((await read_all(kafka, out, 1))[0])]
    assert offsets == woken == sorted(set(woken))


async def _count_is_at_least(kafka: str, topic: str, count: int) -> bool:
    return len((await read_all(kafka, topic, 1))[0]) >= count


async def test_a_named_worker_takes_its_partitions_back_before_the_dead_ones_session_ends(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    """And when it stops in order it leaves at once, for another to go on."""
    source, out = await make_topics(["in", "out"])
    session = {"SESSION": "25"}
    with workers(kafka, tmp_path, "numbered", source, out) as group:
        async with producer(kafka) as client:
            dead = group.start(INSTANCE="one", **session)
            await produce(client, source, 0, records(10))
            await until_processed(group, source, 1)
            dead.kill()
            began = time.monotonic()
            named = group.start(INSTANCE="one", **session)
            await produce(client, source, 0, records(10))
            await until_processed(group, source, 1, seconds=20)
            assert await group.stop(named) == 0
            group.start(INSTANCE="two", **session)
            await produce(client, source, 0, records(10))
            await until_processed(group, source, 1, seconds=20)
            assert time.monotonic() - began < 25
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, offset] for offset in range(30)]


async def test_a_topic_larger_than_the_buffer_does_not_fill_the_memory(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out, state = await make_topics(["in", "out", "state"], partitions=2)
    async with producer(kafka, max_batch_size=500_000) as client:
        for partition in range(2):
            await produce(client, source, partition, records(8000, bytes(10_000)))
    with workers(kafka, tmp_path, "counter", source, out, state) as group:
        worker = group.start(BUFFER_BYTES=str(8 << 20), STEP_SLEEP="0.05")
        await until_processed(group, source, 2, seconds=90)
        peak = _peak_memory(worker.pid)
    assert peak < 140e6, f"{peak / 1e6:.0f} MB for a topic of 160 MB with a buffer of 8 MB"


def _peak_memory(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) * 1024


# -- embedded in this process


class Batches:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[BatchStats] = []

    def batch_committed(self, stats: BatchStats) -> None:
        self.seen.append(stats)


def embedded(kafka: str, folder: Path, source: str, out: str, observer: Batches | None = None) -> Streams:
    settings = KafkaSettings(bootstrap_servers=kafka, application_id=f"app-{source}", session_timeout_seconds=6)
    return build_app(
        settings, {source: lambda topic, partition: Numbered(out, "")}, folder, WorkerOptions(observer=observer)
    )


async def test_it_runs_in_a_loop_that_is_there_and_tells_how_it_is(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out = await make_topics(["in", "out"], partitions=2)
    observer, stop = Batches(), asyncio.Event()
    streams = embedded(kafka, tmp_path, source, out, observer)
    running = asyncio.create_task(run_streams(streams, stop))
    async with producer(kafka) as client:
        await produce(client, source, 1, records(30))
    await eventually(lambda: _is(lambda: sum(stats.records_in for stats in observer.seen) == 30), 30)
    assert streams.healthy() is None
    assert {(p.topic, p.partition): (p.position, p.lag) for p in streams.progress()}[source, 1] == (30, 0)
    assert observer.seen[-1].records_out == observer.seen[-1].records_in
    assert all(0 < stats.step_seconds < stats.total_seconds for stats in observer.seen)
    async with transactional(kafka, f"writer-{source}") as writer:
        await writer.begin_transaction()
        await produce(writer, source, 1, records(5))
        await writer.commit_transaction()
    await eventually(lambda: _is(lambda: sum(stats.records_in for stats in observer.seen) == 35), 30)
    await eventually(lambda: _is(lambda: [p.lag for p in streams.progress()] == [0, 0]), 10)  # a marker is no lag
    stop.set()
    began = time.monotonic()
    await running
    assert time.monotonic() - began < 10


async def test_the_step_of_a_large_transaction_lets_the_loop_go_now_and_then(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    source, out = await make_topics(["in", "out"])
    sizes: list[int] = []
    turns: list[int] = []

    class Sized(Numbered):
        def process(self, records: Sequence[Record], now_us: int) -> list[Output]:
            sizes.append(len(records))
            asyncio.get_running_loop().call_soon(lambda: turns.append(len(sizes)))
            return super().process(records, now_us)

    observer, stop = Batches(), asyncio.Event()
    settings = KafkaSettings(bootstrap_servers=kafka, application_id=f"app-{source}", session_timeout_seconds=6)
    async with producer(kafka, max_batch_size=500_000) as client:
        await produce(client, source, 0, records(3500))
    streams = build_app(
        settings, {source: lambda topic, partition: Sized(out, "")}, tmp_path, WorkerOptions(observer=observer)
    )
    running = asyncio.create_task(run_streams(streams, stop))
    await eventually(lambda: _is(lambda: sum(stats.records_in for stats in observer.seen) == 3500), 30)
    stop.set()
    await running
    assert [stats.records_in for stats in observer.seen] == [3500], "one transaction"
    assert sizes == [1000, 1000, 1000, 500]
    assert turns == [1, 2, 3, 4], "others had their turn between the slices"
    assert numbers((await read_all(kafka, out, 1))[0]) == [[0, offset] for offset in range(3500)]


async def test_a_dead_fetcher_ends_the_worker(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source, out = await make_topics(["in", "out"])
    streams = embedded(kafka, tmp_path, source, out)
    running = asyncio.create_task(run_streams(streams, asyncio.Event()))
    await eventually(lambda: _is(lambda: bool(streams.progress()) and streams.progress()[0].position is not None), 30)
    thread = cast(Any, streams.app.consumer)._thread
    thread.thread_loop.call_soon_threadsafe(kill_fetcher, thread._consumer)
    with pytest.raises(StreamsFailed, match="the Kafka fetcher has died"):
        await asyncio.wait_for(running, 30)
    assert streams.healthy() == "failed: RuntimeError: the Kafka fetcher has died"
    assert [r.levelname for r in caplog.records if r.name == "streams.engine.app"] == ["CRITICAL"]


async def test_without_a_broker_it_waits_and_says_so_once(
    unused_port: Callable[[], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    streams, stop = embedded(f"127.0.0.1:{unused_port()}", tmp_path, "in", "out"), asyncio.Event()
    running = asyncio.create_task(run_streams(streams, stop))
    await passing(2.5, "several attempts, of which it speaks once")
    assert not running.done()
    stop.set()
    await asyncio.wait_for(running, 10)
    said = [r.getMessage() for r in caplog.records if r.name == "runtime.kafka" and r.levelno >= logging.WARNING]
    assert len(said) == 1 and "no Kafka broker answers at 127.0.0.1" in said[0]


async def _is(condition: Callable[[], bool]) -> bool:
    return condition()


# -- pure


def test_the_start_is_the_committed_offset_or_the_first_record() -> None:
    warned: list[object] = []

    def warn(message: str, *arguments: object) -> None:
        warned.append(message % arguments)

    tp = TP("in", 3)
    assert start_offset(tp, None, 5, 9, warn) == 5
    assert start_offset(tp, 7, 5, 9, warn) == 7
    assert start_offset(tp, 9, 9, 9, warn) == 9
    assert warned == []
    assert start_offset(tp, 2, 5, 9, warn) == 5
    assert warned == ["in[3]: offsets 2 to 4 were removed by retention unread"]
    with pytest.raises(RuntimeError, match=r"in\[3\] ends at offset 9, but 10 is committed"):
        start_offset(tp, 10, 5, 9, warn)


def test_a_batch_that_skips_or_repeats_is_refused_and_one_of_an_old_epoch_dropped() -> None:
    tp = TP("in", 0)
    queue = BatchQueue(PipelineOptions())

    def batch(epoch: int, start: int, after: int) -> RecordBatch:
        return RecordBatch(tp, epoch, start, after, after, [], 0)

    queue.begin_epoch(2, 10)
    queue.add(batch(1, 90, 100))
    queue.add(batch(2, 10, 20))
    for wrong in (21, 19, 10):
        with pytest.raises(RuntimeError, match=f"continues at {wrong}, not 20"):
            queue.add(batch(2, wrong, 30))
    queue.add(batch(2, 20, 20))
    queue.begin_epoch(3, 5)
    with pytest.raises(RuntimeError, match="continues at 20, not 5"):
        queue.add(batch(3, 20, 30))


def test_the_memory_of_records_counts_keys_values_and_headers() -> None:
    def record(value: bytes | None, headers: list[tuple[str, bytes | None]]) -> FetchedRecord:
        return FetchedRecord("in", 0, 0, 0, b"key", value, headers)

    tombstone, large = record(None, [("ce_none", None)]), record(bytes(10_000), [("ce_long", bytes(5000))])
    assert LooseRecords([tombstone]).memory_bytes < 1000
    assert 15_000 < LooseRecords([large]).memory_bytes < 16_000
    assert LooseRecords([tombstone, large]).memory_bytes > 20_000


def test_the_size_of_an_output_is_an_upper_bound() -> None:
    output = Output("out", b"key", b"value", [("ce_id", b"1"), ("ce_none", None)])
    assert record_bytes(output) > 3 + 5 + 5 + 1 + 7
    assert record_bytes(Output("out", None, None)) < 100
