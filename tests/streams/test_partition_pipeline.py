"""The pipeline's parts without Kafka: the queue, the budget, a transaction, and the states of a pipeline.

`tests/streams/test_transport.py` has the same with a broker. Here a producer notes the calls it gets.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiokafka import TopicPartition
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP

from runtime.aiokafka_internals.consumers import FetchPosition
from runtime.aiokafka_internals.transactions import PackedBuilder
from runtime.kafka_records.fetched import FetchedRecord, FetchedRecords
from runtime.kafka_records.packed import OutputColumns
from schemas.consumed import Record
from streams.engine.batch_queue import BatchQueue
from streams.engine.buffer_budget import BufferBudget
from streams.engine.options import BatchStats, PipelineOptions
from streams.engine.partition_pipeline import Phase, Pipeline, PipelineContext
from streams.engine.pipeline_supervisor import progress_of
from streams.engine.record_batch import RecordBatch
from streams.engine.step import Output, RecordTooLarge, SkipMark, Step
from streams.engine.transaction import Transaction, TransactionScope
from tests.support.columns import batch_of
from tests.support.waiting import eventually, passing

IN = TP("in", 3)
SCOPE = TransactionScope(TopicPartition("in", 3), "group", 10_000)


def batch(start: int, count: int, size: int = 0, epoch: int = 1, skipped: SkipMark | None = None) -> RecordBatch:
    records = [FetchedRecord("in", 3, start + n, 0, b"key", b"%d" % (start + n), ()) for n in range(count)]
    end = start + max(count, 1)
    return RecordBatch(IN, epoch, start, end, end, records, size or 10 * count, skipped)


# -- queue and budget


def queue_of(*batches: RecordBatch, records: int = 10, size: int = 1000) -> BatchQueue:
    queue = BatchQueue(PipelineOptions(max_batch_records=records, max_batch_bytes=size))
    queue.begin_epoch(1, batches[0].start if batches else 0)
    for each in batches:
        queue.add(each)
    return queue


def test_waiting_batches_are_taken_together_up_to_the_number_of_records() -> None:
    queue = queue_of(batch(0, 4), batch(4, 6), batch(10, 1))
    assert queue.is_full and queue.records == 11
    assert [each.start for each in queue.take()] == [0, 4]
    assert not queue.is_full
    assert [each.start for each in queue.take()] == [10]
    assert not queue and queue.take() == []


def test_waiting_batches_are_taken_together_up_to_the_number_of_bytes() -> None:
    queue = queue_of(batch(0, 1, 600), batch(1, 1, 400), batch(2, 1, 1))
    assert queue.is_full
    assert [each.start for each in queue.take()] == [0, 1]


def test_a_batch_beyond_the_bounds_is_taken_by_itself() -> None:
    queue = queue_of(batch(0, 50), batch(50, 1))
    assert [each.start for each in queue.take()] == [0]


def test_a_new_epoch_drops_what_waits_and_takes_no_older_batch() -> None:
    queue = queue_of(batch(0, 4))
    queue.begin_epoch(2, 2)
    queue.add(batch(4, 1))
    assert not queue
    queue.add(batch(2, 1, epoch=2))
    assert queue.end_offset == 3


def test_half_of_the_budget_is_divided_and_the_busy_get_of_the_other_half() -> None:
    budget, other = BufferBudget(1000), TP("in", 4)
    budget.begin_epoch(1)
    assert budget.with_room([IN, other], 2) == {IN, other}
    first = batch(0, 1, 449)  # limit: 250 + (500 - 449) // 2
    budget.deliver(first)
    assert budget.with_room([IN, other], 2) == {other}
    budget.release(first)
    assert budget.wake.is_set()
    assert budget.with_room([IN, other], 2) == {IN, other}


def test_what_was_delivered_before_a_rebalance_is_not_counted() -> None:
    budget, void = BufferBudget(1000), batch(0, 1, 900)
    budget.begin_epoch(1)
    budget.deliver(void)
    budget.begin_epoch(2)
    budget.release(void)
    assert not budget.wake.is_set()
    assert budget.with_room([IN], 1) == {IN}


# -- transaction


class Builder:
    """A batch builder that takes so many records."""

    def __init__(self, room: int = 2) -> None:
        self.values: list[bytes | None] = []
        self.closed = False
        self._room = room

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: int, headers: list[Any]) -> object:
        if len(self.values) == self._room:
            return None
        self.values.append(value)
        return object()

    def close(self) -> None:
        self.closed = True


class Producer:
    """Notes the calls of a transactional producer, in order."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.commit_may_end = asyncio.Event()
        self.commit_may_end.set()
        self.error: Exception | None = None

    async def start(self) -> None:
        self.calls.append("start")

    async def stop(self) -> None:
        self.calls.append("stop")

    async def open_transaction(self, expected: Iterable[TopicPartition]) -> None:
        self.calls.append(("begin", [tuple(tp) for tp in expected]))

    async def opened(self) -> None:
        self.check()

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    def create_batch(self) -> Builder:
        return Builder()

    async def send_batch(self, builder: Builder, topic: str, partition: int) -> asyncio.Future[None]:
        assert builder.closed
        self.calls.append((topic, partition, builder.values))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def send_offsets_to_transaction(self, offsets: dict[TopicPartition, int], group_id: str) -> None:
        self.calls.append((group_id, {tuple(tp): offset for tp, offset in offsets.items()}))

    async def commit_transaction(self) -> None:
        await self.commit_may_end.wait()
        self.calls.append("commit")

    async def abort_transaction(self) -> None:
        self.calls.append("abort")

    async def partitions_for(self, topic: str) -> set[int]:
        return {3}


class PackingProducer(Producer):
    """Its packed batches are real ones, of a kilobyte."""

    def create_packed_batch(self) -> PackedBuilder:
        return PackedBuilder(1000, None)


def transaction(producer: Producer) -> Transaction:
    return Transaction(cast(Any, producer), SCOPE)


async def test_a_transaction_sends_records_then_the_offset_then_commits() -> None:
    producer = Producer()
    made = transaction(producer)
    made.add([Output("a", b"k", b"1"), Output("b", b"k", b"2"), Output("a", b"k", b"3")], 0)
    made.add([Output("a", b"k", b"4")], 0)
    assert (made.records, made.topics) == (4, {"a", "b"})
    await made.begin(["a", "state"])
    await made.begin(["not once more"])
    assert made.is_open
    await made.commit(17)
    assert not made.is_open
    begun, *sent, offsets, end = producer.calls
    assert begun == ("begin", [("a", 3), ("state", 3)])
    assert [each for each in sent if each[0] == "a"] == [("a", 3, [b"1", b"3"]), ("a", 3, [b"4"])]
    assert [each for each in sent if each[0] == "b"] == [("b", 3, [b"2"])]
    assert (offsets, end) == (("group", {("in", 3): 17}), "commit")


async def test_a_transaction_without_an_offset_leaves_the_input_where_it_is() -> None:
    producer = Producer()
    made = transaction(producer)
    await made.begin([])
    await made.commit(None)
    assert producer.calls == [("begin", []), "commit"]


async def test_a_transaction_that_failed_says_why_and_sends_nothing() -> None:
    producer = Producer()
    made = transaction(producer)
    made.add([Output("a", b"k", b"1")], 0)
    await made.begin([])
    producer.error = ZeroDivisionError("fenced")
    with pytest.raises(ZeroDivisionError, match="fenced"):
        await made.commit(1)
    await made.abort()
    await made.abort()
    assert producer.calls == [("begin", []), "abort"]


def test_a_record_that_no_topic_takes_is_refused() -> None:
    with pytest.raises(RecordTooLarge, match="for a "):
        Transaction(cast(Any, Producer()), SCOPE).add([Output("a", b"k", bytes(10_000))], 0)


# -- the states of a pipeline


class Copy(Step):
    """Writes each record's value; may have work of its own, and may want no records."""

    def __init__(self) -> None:
        self.own_work: list[Output] = []
        self.marks: list[SkipMark] = []
        self.sizes: list[int] = []

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        raise AssertionError("has no state")

    @property
    def pending(self) -> bool:
        return bool(self.own_work)

    def skipped(self, mark: SkipMark) -> None:
        self.marks.append(mark)

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        self.sizes.append(len(records))
        own, self.own_work = self.own_work, []
        return [*own, *(Output("out", record.key, record.value) for record in records)]


class Site:
    """One pipeline with a producer that notes its calls."""

    def __init__(self, **options: Any) -> None:
        self.step, self.producer, self.committed = Copy(), Producer(), cast(list[BatchStats], [])
        bounds = PipelineOptions(**{"min_interval": 0.0, "max_batch_records": 10, "close_timeout": 0.2} | options)
        self.budget = BufferBudget(1 << 20)
        self.pipeline = Pipeline(
            IN, self.step, cast(Any, self.producer), PipelineContext("app", bounds, self.budget, self)
        )

    def batch_committed(self, stats: BatchStats) -> None:
        self.committed.append(stats)

    def give(self, *batches: RecordBatch) -> None:
        for each in batches:
            self.budget.deliver(each)
            self.pipeline.accept(each)

    @property
    def ends(self) -> list[str]:
        return [call for call in self.producer.calls if isinstance(call, str)]


@asynccontextmanager
async def running(site: Site) -> AsyncIterator[asyncio.Task[None]]:
    """The pipeline restored, positioned at offset 0 of epoch 1, and running."""
    await site.pipeline.open()
    site.budget.begin_epoch(1)
    site.pipeline.positioned(0, 1)
    site.pipeline.inputs.state_restored()
    task = asyncio.create_task(site.pipeline.run())
    try:
        yield task
    finally:
        await site.pipeline.close(task)


def phase_is(site: Site, phase: Phase) -> Callable[[], bool]:
    return lambda: site.pipeline.phase is phase


async def test_a_pipeline_processes_nothing_before_its_inputs_are_restored() -> None:
    site = Site()
    await site.pipeline.open()
    site.pipeline.positioned(0, 1)
    task = asyncio.create_task(site.pipeline.run())
    site.give(batch(0, 2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert site.pipeline.phase is Phase.RESTORING
    assert site.pipeline.skip_mark() is None
    site.pipeline.inputs.state_restored()
    await eventually(lambda: site.pipeline.position == 2)
    await eventually(phase_is(site, Phase.IDLE))
    await site.pipeline.close(task)
    assert site.pipeline.phase is Phase.CLOSED


async def test_a_batch_is_committed_with_its_offset_and_released() -> None:
    site = Site()
    async with running(site):
        site.give(batch(0, 2), batch(2, 1))
        await eventually(lambda: site.pipeline.position == 3)
        assert site.pipeline.is_idle
        (stats,) = site.committed
        assert (stats.records_in, stats.records_out, stats.next_offset, stats.lag) == (3, 3, 3, 0)
        assert ("app", {("in", 3): 3}) in site.producer.calls
        assert site.budget.wake.is_set()
    assert site.ends == ["start", "commit", "stop"]


async def test_kafkas_batches_are_processed_and_let_go_of() -> None:
    """Times and possible traces of the records are known at the commit, and the records are not kept for it."""
    site = Site(max_batch_records=500)
    traced = (("ce_traceparent", b"00-1-1-01"),)
    records = [
        FetchedRecord("in", 3, n, 1000 + n, b"key", b"%d" % n, traced if 100 <= n < 300 else ()) for n in range(400)
    ]
    fetched = FetchedRecords([batch_of(records[:100]), batch_of(records[100:300]), batch_of(records[300:])])
    async with running(site):
        site.give(RecordBatch(IN, 1, 0, 400, 400, fetched, fetched.memory_bytes))
        await eventually(lambda: site.pipeline.position == 400)
    (stats,) = site.committed
    assert (stats.records_in, stats.records_out, stats.bytes_in) == (400, 400, fetched.memory_bytes)
    assert stats.times_ms == list(range(1000, 1400))
    assert [tuple(headers) for headers in stats.traced if headers] == [traced[0:1]] * 200
    assert site.step.sizes == [100, 200, 100]


def test_columns_and_single_outputs_of_a_topic_keep_their_order() -> None:
    producer = PackingProducer()
    made = Transaction(cast(Any, producer), SCOPE)
    made.add([Output("a", b"k", b"0")], 5)
    made.add([OutputColumns("a", [b"k"] * 3, [b"1", b"2", b"3"], (("ce_id", [b"x", b"y", b"z"]),))], 5)
    made.add([Output("a", b"k", b"4"), OutputColumns("a", [b"k"], [b"5"], ())], 5)
    assert (made.records, made.topics) == (6, {"a"})
    plain, packed = made._builders["a"]
    assert plain.values == [b"0"]
    (batch,) = [MemoryRecords(bytes(packed.build())).next_batch()]
    assert [(record.value, record.headers) for record in batch] == [
        (b"1", [("ce_id", b"x")]),
        (b"2", [("ce_id", b"y")]),
        (b"3", [("ce_id", b"z")]),
        (b"4", []),
        (b"5", []),
    ]


def test_columns_that_do_not_fit_into_one_batch_are_divided() -> None:
    producer = PackingProducer()
    made = Transaction(cast(Any, producer), SCOPE)
    made.add([OutputColumns("a", [b"k"] * 50, [bytes(100)] * 50, ())], 5)
    batches = [MemoryRecords(bytes(builder.build())).next_batch() for builder in made._builders["a"]]
    assert len(batches) > 3
    assert sum(len(list(batch)) for batch in batches) == made.records == 50


async def test_the_step_of_a_full_batch_runs_while_the_one_before_is_committed() -> None:
    site = Site()
    site.producer.commit_may_end.clear()
    async with running(site):
        site.give(batch(0, 10))
        await eventually(phase_is(site, Phase.COMMITTING))
        site.give(batch(10, 10), batch(20, 2))
        await eventually(lambda: site.step.sizes == [10, 10])
        assert site.pipeline.position == 0, "the first one is not acknowledged"
        site.producer.commit_may_end.set()
        await eventually(lambda: site.pipeline.position == 22)
    begun = [call for call in site.producer.calls if call[0] == "begin"]
    assert begun == [("begin", []), ("begin", [("out", 3)]), ("begin", [("out", 3)])]
    assert [stats.next_offset for stats in site.committed] == [10, 20, 22]


async def test_a_batch_that_is_not_full_waits_for_the_commit() -> None:
    site = Site()
    site.producer.commit_may_end.clear()
    async with running(site):
        site.give(batch(0, 1))
        await eventually(phase_is(site, Phase.COMMITTING))
        site.give(batch(1, 1))
        await passing(0.01, "in which it might begin the next batch before the commit has ended")
        assert site.step.sizes == [1]
        site.producer.commit_may_end.set()
        await eventually(lambda: site.pipeline.position == 2)


async def test_work_of_the_step_is_committed_without_an_offset() -> None:
    site = Site()
    async with running(site):
        await eventually(phase_is(site, Phase.IDLE))
        site.step.own_work = [Output("alarms", b"k", b"due")]
        site.pipeline.inputs.changed.set()
        await eventually(lambda: "commit" in site.ends)
        await eventually(phase_is(site, Phase.IDLE))
        assert site.pipeline.position == 0 and site.committed == []
    assert ("alarms", 3, [b"due"]) in site.producer.calls
    assert not any(call[0] == "app" for call in site.producer.calls)


async def test_a_skipped_partition_moves_and_the_step_gets_its_mark() -> None:
    site = Site()
    async with running(site):
        site.give(batch(0, 0, skipped={"karcher": 5}))
        await eventually(lambda: site.pipeline.position == 1)
    assert site.step.marks == [{"karcher": 5}]


async def test_a_step_that_raises_ends_the_pipeline_and_aborts() -> None:
    site = Site()

    def refuse(*_: object) -> Sequence[Output]:
        raise ZeroDivisionError("poison")

    cast(Any, site.step).process = refuse
    async with running(site) as task:
        site.give(batch(0, 1))
        with pytest.raises(ZeroDivisionError, match="poison"):
            await asyncio.shield(task)
    assert site.ends == ["start", "abort", "stop"]
    assert site.committed == []


async def test_a_commit_that_hangs_is_abandoned_when_the_pipeline_is_closed() -> None:
    site = Site()
    site.producer.commit_may_end.clear()
    async with running(site):
        site.give(batch(0, 1))
        await eventually(phase_is(site, Phase.COMMITTING))
    assert site.pipeline.phase is Phase.CLOSED
    assert site.pipeline.position == 0
    assert site.ends == ["start", "abort", "stop"]


async def test_a_commit_that_ends_in_time_is_waited_for_at_the_close() -> None:
    site = Site(close_timeout=30.0)
    site.producer.commit_may_end.clear()
    async with running(site):
        site.give(batch(0, 1))
        await eventually(phase_is(site, Phase.COMMITTING))
        asyncio.get_running_loop().call_later(0.01, site.producer.commit_may_end.set)
    assert site.pipeline.position == 1
    assert site.ends == ["start", "commit", "stop"]


async def test_transactions_are_so_far_apart_unless_a_batch_is_full() -> None:
    site = Site(min_interval=3600.0)
    async with running(site):
        site.give(batch(0, 1))
        await eventually(lambda: site.pipeline.position == 1)
        site.give(batch(1, 10))
        await eventually(lambda: site.pipeline.position == 11)
        site.give(batch(11, 1))
        await eventually(phase_is(site, Phase.COLLECTING))
        assert site.producer.calls[-1] == ("begin", [("out", 3)]), "it opens while records are collected"
    assert site.pipeline.position == 11
    assert site.ends == ["start", "commit", "commit", "abort", "stop"]


def test_the_lag_of_an_idle_pipeline_counts_no_markers() -> None:
    site = Site()
    assert progress_of(site.pipeline, FetchPosition(5, 9)).lag is None, "its position is not known"
    site.pipeline.positioned(4, 1)
    assert progress_of(site.pipeline, None).lag is None
    assert progress_of(site.pipeline, FetchPosition(5, None)).lag is None
    assert progress_of(site.pipeline, FetchPosition(5, 9)).lag == 4
    site.give(batch(4, 1))
    assert progress_of(site.pipeline, FetchPosition(5, 9)).lag == 5
