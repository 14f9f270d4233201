"""One pipeline an input partition: take what waits, run the step, commit outputs, state and offset as one transaction.

The invariant everything rests on: a pipeline's transactional id is initialised *before* the input position and the
state are read, and all commits happen under that initialisation. Kafka lets one initialisation of an id live at a time,
so whoever commits has read everything committed before, and a zombie can commit nothing. Group membership only decides
who tries; it is not needed for correctness.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Protocol, cast

from aiokafka import TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder
from faust.types import TP

from schemas.consumed import Record
from streams.engine.restore import Restoration, restore_state
from streams.engine.side_inputs import follow_topics
from streams.engine.step import (
    MAX_RECORD_BYTES,
    Output,
    RecordTooLarge,
    SkipMark,
    Step,
    StepFactory,
    record_bytes,
)
from streams.engine.transactions import TransactionalProducer
from streams.engine.transport import RecordBatch

log = logging.getLogger(__name__)

_SLICE_RECORDS = 1000  # the step lets the event loop go between slices: requests of other transactions go out meanwhile
_BUILDER_BYTES = 960 << 10  # one produce request a builder; below the broker's default limit of 1 MiB for a batch
_OPEN_TIMEOUT = 30.0
_METADATA_TIMEOUT = 5.0
_STOP_TIMEOUT = 3.0


class StreamsFailed(RuntimeError):
    """A stream worker cannot go on. The process has to end with a non-zero exit code; nothing is half committed."""


@dataclass(frozen=True)
class PipelineOptions:
    """Bounds of the pipelines. Times in seconds."""

    max_batch_records: int = 5000
    """A transaction takes waiting fetches until it has so many records (a fetch is not split) …"""
    max_batch_bytes: int = 8 << 20
    """… or so many estimated bytes."""
    min_interval: float = 0.04
    """Least time between the starts of two transactions of a partition, so that light load does not burn a core, and a
    disk with some ten flushes a transaction. The first record after a pause does not wait."""
    min_intervals: Mapping[str, float] = field(default_factory=dict)
    """`min_interval` of those input topics that are to have another."""
    transaction_timeout: float = 10.0
    """After this Kafka aborts the transaction of a process that hangs in the middle of one."""
    request_timeout: float = 15.0
    close_timeout: float = 5.0
    """How long a running transaction may take to finish at a rebalance or a stop."""
    stall_timeout: float = 60.0
    """A transaction, a restoration or a fetch loop that takes longer makes the worker unhealthy."""
    max_record_bytes: int = MAX_RECORD_BYTES
    compression: str | None = None


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one committed transaction did."""

    topic: str
    partition: int
    records_in: int
    records_out: int
    bytes_in: int
    """Estimated bytes of memory of the input."""
    step_seconds: float
    """Time in the step, which blocks the event loop."""
    total_seconds: float
    """From the start of the step to the commit's acknowledgement."""
    next_offset: int
    """The committed position."""
    lag: int
    """Records (and transaction markers) still to read, as of the fetch."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Where one assigned partition stands."""

    topic: str
    partition: int
    position: int | None
    """Next offset to process, as committed; None until it is known."""
    lag: int | None
    """Records (and transaction markers among them) still to process; None until it is known."""
    waiting_records: int
    """Of these, in memory."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What a transaction will write and commit."""

    batches: Sequence[RecordBatch]
    built: Mapping[str, list[BatchBuilder]]
    started: float
    step_seconds: float
    records_in: int
    records_out: int


class Observer(Protocol):
    """Told of every committed transaction, on the event loop; must be quick and must not raise."""

    def batch_committed(self, stats: BatchStats) -> None:
        """One transaction was committed."""
        ...


def transactional_id(application_id: str, topic: str, partition: int) -> str:
    """The id under which one input partition is processed; the same whoever owns it, which is what fences."""
    return f"{application_id}-{topic}-{partition}"


class Pipeline:
    """Processes one input partition while it is assigned."""

    def __init__(
        self,
        tp: TP,
        step: Step,
        producer: TransactionalProducer,
        group_id: str,
        options: PipelineOptions,
        release: Callable[[RecordBatch], None],
        observer: Observer | None,
    ) -> None:
        self.tp = tp
        self.step = step
        self.busy_since: float | None = None
        self.position: int | None = None
        self.end_offset: int | None = None
        self.restored = asyncio.Event()
        self.partitions: dict[str, set[int]] = {}
        """Partitions of the followed topics, once it is open."""
        self._early: list[Record] = []  # of followed topics, before the state was there
        self._awaited = {"state", "followed"} if step.side_inputs else {"state"}
        self._producer = producer
        self._group_id = group_id
        self._options = options
        self._release = release
        self._observer = observer
        self._min_interval = options.min_intervals.get(tp.topic, options.min_interval)
        self._input = TopicPartition(tp.topic, tp.partition)
        self._epoch: int | None = None
        self._due = 0  # offset at which the next batch must start
        self._queue: deque[RecordBatch] = deque()
        self._changed = asyncio.Event()
        self._closing = False
        self._in_transaction = False
        self._not_before = 0.0
        self._written: set[str] = set()  # topics of the last transaction, which those of the next will probably be

    async def open(self) -> None:
        """Initialise the transactional id, which fences its other users and decides what they left open.

        Raises StreamsFailed if the state topic, or one that is followed, has no partition for this input.
        """
        await self._producer.start()
        if (topic := self.step.state_topic) is not None:
            await self._partitions_of(topic)
        for side_input in self.step.side_inputs:
            self.partitions[side_input.topic] = await self._partitions_of(side_input.topic)
        self.step.assign_side_inputs(self.partitions)

    async def _partitions_of(self, topic: str) -> set[int]:
        try:
            async with asyncio.timeout(_METADATA_TIMEOUT):
                partitions: set[int] = await self._producer.partitions_for(topic)
        except (TimeoutError, UnknownTopicOrPartitionError):
            partitions = set()
        if self.tp.partition not in partitions:
            what = "state topic" if topic == self.step.state_topic else "topic"
            raise StreamsFailed(
                f"{what} {topic} has no partition {self.tp.partition}: "
                f"it must exist, and have as many as {self.tp.topic}"
            )
        return partitions

    def read_back(self, what: str) -> None:
        """The step has its `state`, or all there is of the topics it has `followed`; with both it can begin."""
        self._awaited.discard(what)
        if what == "state":
            early, self._early = self._early, []
            for record in early:
                self.follow(record)
        if not self._awaited:
            self.restored.set()

    def follow(self, record: Record) -> None:
        """Hand the step a record of a topic it follows; not before it has its state, which the record may change."""
        if "state" in self._awaited:
            self._early.append(record)
        else:
            self.step.process_side_input(record)
            self._changed.set()

    def positioned(self, start: int, epoch: int) -> None:
        """Batches of `epoch` will follow, the first of them starting at offset `start`."""
        self._epoch, self._due, self.position = epoch, start, start
        self._queue.clear()

    def accept(self, batch: RecordBatch) -> None:
        """Queue a batch. Raises RuntimeError if it does not start where the one before it ended."""
        if batch.epoch != self._epoch:
            return  # fetched before a rebalance; will be fetched again
        if batch.start != self._due:
            raise RuntimeError(f"{batch.tp.topic}[{batch.tp.partition}] continues at {batch.start}, not {self._due}")
        self._due = batch.next_offset
        self.end_offset = batch.end_offset
        self._queue.append(batch)
        self._changed.set()

    def skip_mark(self) -> SkipMark | None:
        """See `Step.skip_mark`."""
        return self.step.skip_mark() if self.restored.is_set() else None

    @property
    def waiting_records(self) -> int:
        """Records queued and not being processed."""
        return sum(len(batch.records) for batch in self._queue)

    @property
    def idle(self) -> bool:
        """Nothing is queued and nothing is being processed."""
        return not self._queue and self.busy_since is None

    async def run(self) -> None:
        """Process until closed. Any exception is final: the process has to end."""
        await self.restored.wait()
        prepared: _Prepared | None = None
        while not self._closing:
            if prepared is None:
                if not self._queue and not self.step.pending:
                    self._changed.clear()
                    await self._changed.wait()
                    continue
                await self._pace()
                if self._closing:
                    break
                if not self._queue:
                    await self._process_pending()
                    continue
                prepared = await self._prepare()
            prepared = await self._finish(prepared)

    async def _process_pending(self) -> None:
        """A transaction of what the step makes of the topics it follows; the input's position stays."""
        self.busy_since = time.monotonic()
        now_us = time.time_ns() // 1000
        outputs = self.step.process((), now_us) if self.step.pending else ()
        if outputs or self._in_transaction:  # one may be open for records that a rebalance took back: none stays open
            await self._commit(self._build(outputs, now_us // 1000, {}), None)
        self.busy_since = None

    async def _pace(self) -> None:
        """Wait until the next transaction may begin, and open it meanwhile; what arrives until then is in it."""
        if self._queue:
            await self._begin()
        now = time.monotonic()
        if now < self._not_before and not self._is_full():
            await asyncio.sleep(self._not_before - now)
        if self._in_transaction and not self._is_full():
            await self._producer.opened()
        self._not_before = time.monotonic() + self._min_interval

    async def _begin(self) -> None:
        """Begin a transaction, unless one is open."""
        if not self._in_transaction:
            expected = [TopicPartition(topic, self.tp.partition) for topic in self._written]
            await self._producer.open_transaction(expected)
            self._in_transaction = True

    def _is_full(self) -> bool:
        """Waiting for more would not make the next transaction larger."""
        return self.waiting_records >= self._options.max_batch_records or (
            sum(batch.size for batch in self._queue) >= self._options.max_batch_bytes
        )

    def _take(self) -> list[RecordBatch]:
        """Everything that waits, within bounds: fetches are tiny under light load and would queue up singly."""
        taken: list[RecordBatch] = []
        records = size = 0
        while self._queue and (not taken or self._fits(records, size)):
            batch = self._queue.popleft()
            taken.append(batch)
            records += len(batch.records)
            size += batch.size
        return taken

    def _fits(self, records: int, size: int) -> bool:
        queued = self._queue[0]
        return (
            records + len(queued.records) <= self._options.max_batch_records
            and size + queued.size <= self._options.max_batch_bytes
        )

    async def _prepare(self) -> _Prepared:
        """Run the step on what waits. Only in memory: whether it happened is decided by the commit."""
        started = time.monotonic()
        self.busy_since = self.busy_since or started
        batches = self._take()
        records = batches[0].records if len(batches) == 1 else list(chain.from_iterable(b.records for b in batches))
        for batch in batches:
            if batch.skipped is not None:
                self.step.skipped(batch.skipped)
        now_us = time.time_ns() // 1000
        built: dict[str, list[BatchBuilder]] = {}
        step_seconds, records_out = 0.0, 0
        for first in range(0, max(1, len(records)), _SLICE_RECORDS):
            if first:
                await asyncio.sleep(0)
            before = time.monotonic()
            outputs = self.step.process(records[first : first + _SLICE_RECORDS], now_us)
            step_seconds += time.monotonic() - before
            records_out += len(outputs)
            self._build(outputs, now_us // 1000, built)
        return _Prepared(batches, built, started, step_seconds, len(records), records_out)

    async def _finish(self, prepared: _Prepared) -> _Prepared | None:
        """Commit a transaction; where a full one waits, the step of it is run meanwhile, which is the result."""
        next_offset = prepared.batches[-1].next_offset
        committing = asyncio.ensure_future(self._commit(prepared.built, next_offset))
        try:
            following = await self._prepare_meanwhile(committing)
            await committing
        finally:
            if committing.cancel():
                await asyncio.wait({committing})
        self.position = next_offset
        self.busy_since = following.started if following else None
        for batch in prepared.batches:
            self._release(batch)
        if self._observer is not None:
            self._observer.batch_committed(self._stats(prepared))
        return following

    async def _prepare_meanwhile(self, committing: asyncio.Task[None]) -> _Prepared | None:
        """The next transaction, as soon as more waiting would not make it larger; None if that is not so in time."""
        while not committing.done():
            if self._is_full() and not self._closing:
                await asyncio.sleep(0)  # the requests go out first: the broker works while the step does
                self._not_before = time.monotonic() + self._min_interval
                return await self._prepare()
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({committing, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        return None

    def _stats(self, done: _Prepared) -> BatchStats:
        next_offset = done.batches[-1].next_offset
        return BatchStats(
            self.tp.topic,
            self.tp.partition,
            done.records_in,
            done.records_out,
            sum(batch.size for batch in done.batches),
            done.step_seconds,
            time.monotonic() - done.started,
            next_offset,
            max(0, (self.end_offset or 0) - next_offset),
        )

    def _build(
        self, outputs: Sequence[Output], now_ms: int, built: dict[str, list[BatchBuilder]]
    ) -> dict[str, list[BatchBuilder]]:
        """Add the outputs to what is built by topic, which is the result."""
        for output in outputs:
            topic, key, value, headers = output
            builders = built.get(topic)
            if builders is None:
                builders = built[topic] = [self._builder_for(output)]
            if builders[-1].append(key=key, value=value, timestamp=now_ms, headers=list(headers)) is None:
                builders.append(self._builder_for(output))
                builders[-1].append(key=key, value=value, timestamp=now_ms, headers=list(headers))
        return built

    def _builder_for(self, first: Output) -> BatchBuilder:
        """A builder whose first record will be `first`: only as such does it take what is larger than a builder."""
        if record_bytes(first) > (limit := self._options.max_record_bytes):
            raise RecordTooLarge(first, limit)
        return self._producer.create_batch()

    async def _commit(self, built: Mapping[str, list[BatchBuilder]], next_offset: int | None) -> None:
        await self._begin()
        self._producer.check()  # else aiokafka says «not in a transaction» in place of why
        try:
            async with asyncio.TaskGroup() as group:
                for topic, builders in built.items():
                    group.create_task(self._send(topic, builders))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        # Not together with the records: the broker asks its coordinator whether each is in the transaction, and of two
        # questions at once about the same id it refuses one, which costs the client 100 ms.
        if next_offset is not None:
            await self._producer.send_offsets_to_transaction({self._input: next_offset}, self._group_id)
        await self._producer.commit_transaction()
        self._in_transaction = False
        self._written = set(built)

    async def _send(self, topic: str, builders: list[BatchBuilder]) -> None:
        deliveries = []
        for builder in builders:  # closed, so that the producer neither adds to it nor waits for more
            builder.close()
            deliveries.append(await self._producer.send_batch(builder, topic, partition=self.tp.partition))
        for delivery in deliveries:
            await delivery

    async def close(self, task: asyncio.Task[None]) -> None:
        """Finish the running transaction, if it does in time, and drop what waits."""
        self._closing = True
        self._changed.set()
        if self.busy_since is None:
            task.cancel()
        await asyncio.wait({task}, timeout=self._options.close_timeout)
        if not task.done():
            log.warning("%s[%s]: transaction abandoned", self.tp.topic, self.tp.partition)
            task.cancel()
            await asyncio.wait({task})
        await self.stop_producer()

    async def stop_producer(self) -> None:
        """Close the producer and abort what it has open, as far as the broker answers."""
        # Best effort: whatever is left open, the next owner's initialisation aborts.
        if self._in_transaction:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._producer.abort_transaction(), _STOP_TIMEOUT)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._producer.stop(), _STOP_TIMEOUT)


class Pipelines:
    """The pipelines of all assigned partitions of one worker: the transport's `PartitionOwner`."""

    def __init__(
        self,
        application_id: str,
        client: Mapping[str, Any],
        factories: Mapping[str, StepFactory],
        options: PipelineOptions,
        observer: Observer | None = None,
    ) -> None:
        self.error: BaseException | None = None
        self.failed = asyncio.Event()
        # Both are the consumer's, which is made after the pipelines.
        self.release: Callable[[RecordBatch], None] = lambda batch: None
        self.read_to: Callable[[TP], tuple[int, int] | None] = lambda tp: None
        self._application_id = application_id
        self._client = dict(client)
        self._factories = dict(factories)
        self._options = options
        self._observer = observer
        self._running: dict[TP, tuple[Pipeline, asyncio.Task[None]]] = {}
        self._restoring: asyncio.Task[None] | None = None
        self._following: asyncio.Task[None] | None = None
        self._opened_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._stopped = False

    # -- PartitionOwner

    async def open_partitions(self, assigned: set[TP]) -> None:
        """Fence other owners of the partitions, then let their state be read back in the background.

        In the background because aiokafka's group protocol waits for this call.
        """
        async with self._lock:
            await self._close_all()
            if self.error is not None or self._stopped:
                return
            self._opened_at = time.monotonic()
            pipelines = await self._start(sorted(assigned))
            for pipeline in pipelines:
                task = asyncio.create_task(pipeline.run(), name=f"pipeline {pipeline.tp}")
                task.add_done_callback(self._on_done)
                self._running[pipeline.tp] = (pipeline, task)
            self._restoring = asyncio.create_task(self._restore(pipelines), name="restore state")
            self._restoring.add_done_callback(self._on_done)
            if following := [pipeline for pipeline in pipelines if pipeline.step.side_inputs]:
                self._following = asyncio.create_task(follow_topics(self._client, following), name="follow topics")
                self._following.add_done_callback(self._on_done)

    def positioned(self, tp: TP, start: int, epoch: int) -> None:
        """See `PartitionOwner.positioned`."""
        if tp in self._running:
            self._running[tp][0].positioned(start, epoch)

    def skip_mark(self, tp: TP) -> SkipMark | None:
        """See `PartitionOwner.skip_mark`."""
        return self._running[tp][0].skip_mark() if tp in self._running else None

    async def close_partitions(self) -> None:
        """Finish running transactions within `close_timeout`, stop all producers, drop what waits."""
        async with self._lock:
            await self._close_all()

    async def stop(self) -> None:
        """Close all partitions and open none any more."""
        self._stopped = True
        await self.close_partitions()

    def fail(self, error: BaseException) -> None:
        """End the worker with this error; the first one counts. Callable from any thread.

        Once the worker is stopping, what the transport trips over is not a failure any more.
        """
        if self._stopped:
            log.debug("while stopping: %s", describe(error))
        elif self._loop is None or self._loop is _running_loop():
            self._fail(error)
        else:
            self._loop.call_soon_threadsafe(self._fail, error)

    # -- what the application calls

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop everything runs on, before anything can fail."""
        self._loop = loop

    def accept(self, batch: RecordBatch) -> None:
        """Hand a batch to its pipeline; void ones are dropped."""
        running = self._running.get(batch.tp)
        if running is None or self.error is not None:
            return
        try:
            running[0].accept(batch)
        except RuntimeError as exc:
            self.fail(exc)

    @property
    def running(self) -> list[Pipeline]:
        """The pipelines of the partitions assigned now."""
        return [pipeline for pipeline, _ in self._running.values()]

    def progress(self) -> list[PartitionProgress]:
        """Where every assigned partition stands."""
        return [self._progress(pipeline) for _, (pipeline, _) in sorted(self._running.items())]

    def _progress(self, pipeline: Pipeline) -> PartitionProgress:
        tp, position, read = pipeline.tp, pipeline.position, self.read_to(pipeline.tp)
        lag = None
        if position is not None and read is not None:
            # Only markers lie between an idle pipeline's position and what was read.
            lag = max(0, read[1] - (read[0] if pipeline.idle else position))
        return PartitionProgress(tp.topic, tp.partition, position, lag, pipeline.waiting_records)

    def unhealthy(self) -> str | None:
        """Why the pipelines are stuck, or None."""
        now, limit = time.monotonic(), self._options.stall_timeout
        if self.error is not None:
            return f"failed: {describe(self.error)}"
        for tp, (pipeline, _) in self._running.items():
            name = f"{tp.topic}[{tp.partition}]"
            if pipeline.busy_since is not None and now - pipeline.busy_since > limit:
                return f"{name}: a transaction has run for {now - pipeline.busy_since:.0f} s"
            if self._opened_at is not None and not pipeline.restored.is_set() and now - self._opened_at > limit:
                return f"{name}: reading the state back has taken {now - self._opened_at:.0f} s"
        return None

    # -- internals

    async def _start(self, tps: Sequence[TP]) -> list[Pipeline]:
        pipelines = [self._pipeline(tp) for tp in tps]
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT), asyncio.TaskGroup() as group:
                for pipeline in pipelines:
                    group.create_task(pipeline.open())
        except BaseException as exc:
            await asyncio.gather(*(pipeline.stop_producer() for pipeline in pipelines))
            if isinstance(exc, ExceptionGroup):
                raise exc.exceptions[0] from None
            raise
        return pipelines

    def _pipeline(self, tp: TP) -> Pipeline:
        step = self._factories[tp.topic](tp.topic, tp.partition)
        producer = TransactionalProducer(
            **self._client,
            group_id=self._application_id,
            client_id=f"{self._application_id}-{tp.topic}-{tp.partition}",
            transactional_id=transactional_id(self._application_id, tp.topic, tp.partition),
            transaction_timeout_ms=int(self._options.transaction_timeout * 1000),
            request_timeout_ms=int(self._options.request_timeout * 1000),
            linger_ms=0,
            max_batch_size=_BUILDER_BYTES,
            max_request_size=self._options.max_record_bytes + _BUILDER_BYTES,
            compression_type=self._options.compression,
        )
        return Pipeline(
            tp, step, producer, self._application_id, self._options, lambda b: self.release(b), self._observer
        )

    async def _restore(self, pipelines: Sequence[Pipeline]) -> None:
        restorations = [Restoration(p.step, p.tp.partition, partial(p.read_back, "state")) for p in pipelines]
        await restore_state(self._client, restorations, time.time_ns() // 1_000_000)

    async def _close_all(self) -> None:
        reading, self._restoring, self._following = {self._restoring, self._following} - {None}, None, None
        for task in reading:
            cast(asyncio.Task[None], task).cancel()
        if reading:
            await asyncio.wait(cast(set[asyncio.Task[None]], reading))
        running, self._running = self._running, {}
        await asyncio.gather(*(pipeline.close(task) for pipeline, task in running.values()))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self._fail(error)
        elif task in (self._restoring, self._following) or any(
            task is running for _, running in self._running.values()
        ):
            # Not by us: aiokafka's `stop` can raise CancelledError in place of what really happened.
            self._fail(StreamsFailed(f"{task.get_name()} was cancelled"))

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            self.failed.set()


def describe(error: BaseException) -> str:
    """One line for the log: type and message."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
