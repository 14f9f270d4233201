"""The pipeline of one input partition: takes what waits, runs the step, commits a transaction.

The invariant everything rests on: a pipeline's transactional id is initialised *before* the input position and the
state are read, and all commits happen under that initialisation. Kafka lets one initialisation of an id live at a time,
so whoever commits has read everything committed before, and a zombie can commit nothing. Group membership only decides
who tries; correctness does not need it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from enum import Enum

from aiokafka import TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError
from faust.types import TP

from runtime.aiokafka_internals.transactions import TransactionalProducer
from streams.engine.batch_processor import BatchProcessor, PreparedBatch
from streams.engine.batch_queue import BatchQueue
from streams.engine.buffer_budget import BufferBudget
from streams.engine.options import Observer, PipelineOptions, StreamsFailed
from streams.engine.record_batch import RecordBatch
from streams.engine.step import SkipMark, Step
from streams.engine.step_inputs import StepInputs
from streams.engine.transaction import TransactionScope

log = logging.getLogger(__name__)

_METADATA_TIMEOUT = 5.0
_STOP_TIMEOUT = 3.0


@dataclass(frozen=True)
class PipelineContext:
    """What all pipelines of a worker share."""

    application_id: str
    """The consumer group, and the beginning of the transactional ids."""
    options: PipelineOptions
    budget: BufferBudget
    observer: Observer | None = None


class Phase(Enum):
    """What a pipeline is doing (`Pipeline`)."""

    RESTORING = "restoring"
    IDLE = "idle"
    COLLECTING = "collecting"
    PROCESSING = "processing"
    COMMITTING = "committing"
    CLOSED = "closed"


class Pipeline:
    """Processes one input partition while it is assigned.

    ```
    RESTORING ─── the step has its state and side inputs ───► IDLE ◄────────────┐
                                                               │                │
                       records wait, or the step has work to do│                │
                                                               ▼                │
                    (the transaction opens meanwhile)      COLLECTING           │
                                                               │                │
                         the least interval is over, or a batch│is full         │
                                                               ▼                │
                               (the step runs)             PROCESSING ──────────┤ nothing to write
                                                               │                │
                                                               ▼                │
                       ┌──────────────────────────────►    COMMITTING ──────────┘ acknowledged
                       │ acknowledged, and the step of a full  │
                       └─ batch that waited has run meanwhile ─┘
    ```

    `close` leads from every phase to CLOSED. An exception in any phase is final: the process has to end.
    """

    def __init__(self, tp: TP, step: Step, producer: TransactionalProducer, context: PipelineContext) -> None:
        self.tp = tp
        self.step = step
        self.inputs = StepInputs(tp, step)
        self.phase = Phase.RESTORING
        self.busy_since: float | None = None
        """Monotonic time at which the running transaction's step began; None while none runs."""
        self.position: int | None = None
        """Next offset to process, as committed; None until it is known."""
        self._producer = producer
        self._context = context
        self._options = context.options
        scope = TransactionScope(
            TopicPartition(tp.topic, tp.partition), context.application_id, context.options.max_record_bytes
        )
        self._processor = BatchProcessor(self.inputs, producer, scope)
        self._min_interval = context.options.interval_of(tp.topic)
        self._queue = BatchQueue(context.options)
        self._changed = self.inputs.changed
        self._closing = False
        self._prepared: PreparedBatch | None = None
        self._not_before = 0.0  # monotonic time before which no transaction begins unless a batch is full

    # -- what the supervisor calls

    async def open(self) -> None:
        """Initialise the transactional id, which fences its other users and decides what they left open.

        Raises StreamsFailed if the state topic, or that of a side input, has no partition for this input.
        """
        await self._producer.start()
        for topic in self.step.state_topics:
            await _partitions_of(self._producer, topic, self.tp, "state topic")
        topics = [side_input.topic for side_input in self.step.side_inputs]
        self.inputs.assign({topic: await _partitions_of(self._producer, topic, self.tp, "topic") for topic in topics})

    def positioned(self, start: int, epoch: int) -> None:
        """Batches of `epoch` will follow, the first of them starting at offset `start`."""
        self.position = start
        self.inputs.position(start)
        self._queue.begin_epoch(epoch, start)

    def accept(self, batch: RecordBatch) -> None:
        """Queue a batch. Raises RuntimeError if it does not start where the one before it ended."""
        self._queue.add(batch)
        self._changed.set()

    def skip_mark(self) -> SkipMark | None:
        """See `Step.skip_mark`."""
        return self.step.skip_mark() if self.is_restored else None

    @property
    def is_restored(self) -> bool:
        """Whether the step has its state and side inputs."""
        return self.inputs.restored.is_set()

    @property
    def waiting_records(self) -> int:
        """Records queued and not being processed."""
        return self._queue.records

    @property
    def is_idle(self) -> bool:
        """Nothing is queued and nothing is being processed."""
        return not self._queue and self.busy_since is None

    async def close(self, task: asyncio.Task[None]) -> None:
        """Finish the running transaction, if it does in time, and drop what waits. `task` is the one of `run`."""
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
        """Abort what is open and close the producer, as far as the broker answers."""
        self.phase = Phase.CLOSED
        await self._processor.abort(self._prepared)
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self._producer.stop(), _STOP_TIMEOUT)

    # -- the state machine

    async def run(self) -> None:
        """Process until closed. Any exception is final: the process has to end."""
        actions = {
            Phase.RESTORING: self._wait_for_inputs,
            Phase.IDLE: self._wait_for_work,
            Phase.COLLECTING: self._collect,
            Phase.PROCESSING: self._process,
            Phase.COMMITTING: self._commit,
        }
        while self.phase is not Phase.CLOSED:
            following = await actions[self.phase]()
            self.phase = Phase.CLOSED if self._closing else following

    async def _wait_for_inputs(self) -> Phase:
        await self.inputs.restored.wait()
        return Phase.IDLE

    async def _wait_for_work(self) -> Phase:
        if not self._queue and not self.step.pending:
            self._changed.clear()
            await self._changed.wait()
            return Phase.IDLE
        return Phase.COLLECTING

    async def _collect(self) -> Phase:
        """Wait until the next transaction may begin, and open it meanwhile; what arrives until then is in it."""
        if self._queue:
            await self._processor.begin()
        now = time.monotonic()
        if now < self._not_before and not self._queue.is_full:
            await asyncio.sleep(self._not_before - now)
        if not self._queue.is_full:
            await self._processor.opened()
        self._not_before = time.monotonic() + self._min_interval
        return Phase.PROCESSING

    async def _process(self) -> Phase:
        prepared = await self._prepare()
        if prepared.is_empty:
            self.busy_since = None
            return Phase.IDLE
        self._prepared = prepared
        return Phase.COMMITTING

    async def _commit(self) -> Phase:
        """Commit the prepared batch; where a full one waits, its step runs meanwhile."""
        prepared = self._prepared
        assert prepared is not None  # what leads here sets it
        committing = asyncio.ensure_future(self._processor.write(prepared))
        try:
            following = await self._prepare_meanwhile(committing) if prepared.batches else None
            await committing
        finally:
            if committing.cancel():
                await asyncio.wait({committing})
        self._prepared = following
        self.busy_since = following.started if following else None
        self._settle(prepared)
        return Phase.COMMITTING if following else Phase.IDLE

    # -- parts of these

    async def _prepare(self) -> PreparedBatch:
        self.busy_since = self.busy_since or time.monotonic()
        return await self._processor.prepare(self._queue.take())

    async def _prepare_meanwhile(self, committing: asyncio.Task[None]) -> PreparedBatch | None:
        """The next batch, as soon as more waiting would not make it larger; None if that is not so in time."""
        while not committing.done():
            if self._queue.is_full and not self._closing:
                await asyncio.sleep(0)  # the requests go out first: the broker works while the step does
                self._not_before = time.monotonic() + self._min_interval
                return await self._prepare()
            self._changed.clear()
            changed = asyncio.ensure_future(self._changed.wait())
            await asyncio.wait({committing, changed}, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        return None

    def _settle(self, committed: PreparedBatch) -> None:
        """Take note of a commit."""
        if committed.next_offset is None:
            return
        self.position = committed.next_offset
        for batch in committed.batches:
            self._context.budget.release(batch)
        if self._context.observer is not None:
            self._context.observer.batch_committed(committed.stats(self._queue.end_offset))


async def _partitions_of(producer: TransactionalProducer, topic: str, tp: TP, what: str) -> set[int]:
    """The partitions of a topic that must have one with the number of the input partition `tp`."""
    try:
        async with asyncio.timeout(_METADATA_TIMEOUT):
            partitions: set[int] = await producer.partitions_for(topic)
    except (TimeoutError, UnknownTopicOrPartitionError):
        partitions = set()
    if tp.partition not in partitions:
        raise StreamsFailed(
            f"{what} {topic} has no partition {tp.partition}: it must exist, and have as many as {tp.topic}"
        )
    return partitions
