"""The supervisor of a worker's pipelines: opens, watches and closes those of the partitions assigned now."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from faust.types import TP

from runtime.aiokafka_internals.consumers import FetchPosition
from runtime.aiokafka_internals.transactions import TransactionalProducer
from streams.engine.options import PartitionProgress, StreamsFailed, describe
from streams.engine.partition_pipeline import Pipeline, PipelineContext
from streams.engine.record_batch import RecordBatch
from streams.engine.restore import restore_state
from streams.engine.side_inputs import read_side_inputs
from streams.engine.step import SkipMark, StepFactory
from streams.engine.transaction import BUILDER_BYTES

log = logging.getLogger(__name__)

_OPEN_TIMEOUT = 30.0


def transactional_id(application_id: str, topic: str, partition: int) -> str:
    """The id under which one input partition is processed; the same whoever owns it, which is what fences."""
    return f"{application_id}-{topic}-{partition}"


class PipelineSupervisor:
    """The pipelines of all assigned partitions of one worker: the transport's `PartitionOwner`."""

    def __init__(
        self, client: Mapping[str, Any], factories: Mapping[str, StepFactory], context: PipelineContext
    ) -> None:
        self.error: BaseException | None = None
        """What made the worker fail, once `failed` is set."""
        self.failed = asyncio.Event()
        self._client = dict(client)
        self._factories = dict(factories)
        self._context = context
        self._pipelines: dict[TP, Pipeline] = {}
        self._tasks: dict[TP, asyncio.Task[None]] = {}
        self._readers: set[asyncio.Task[None]] = set()  # of states and side inputs
        self._opened_at: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = asyncio.Lock()
        self._stopped = False

    # -- PartitionOwner

    async def open_partitions(self, assigned: set[TP]) -> None:
        """Fence other owners of the partitions, then let their state be restored in the background.

        In the background because aiokafka's group protocol waits for this call.
        """
        async with self._lock:
            await self._close_all()
            if self.error is not None or self._stopped:
                return
            self._opened_at = time.monotonic()
            pipelines = await self._open(sorted(assigned))
            for pipeline in pipelines:
                self._pipelines[pipeline.tp] = pipeline
                self._tasks[pipeline.tp] = self._watched(pipeline.run(), f"pipeline {pipeline.tp}")
            inputs = [pipeline.inputs for pipeline in pipelines]
            restoring = restore_state(self._client, inputs, time.time_ns() // 1_000_000)
            self._readers.add(self._watched(restoring, "restore state"))
            if with_side_inputs := [each for each in inputs if each.step.side_inputs]:
                reading = read_side_inputs(self._client, with_side_inputs)
                self._readers.add(self._watched(reading, "read side inputs"))

    def positioned(self, tp: TP, start: int, epoch: int) -> None:
        """See `PartitionOwner.positioned`."""
        if tp in self._pipelines:
            self._pipelines[tp].positioned(start, epoch)

    def skip_mark(self, tp: TP) -> SkipMark | None:
        """See `PartitionOwner.skip_mark`."""
        return self._pipelines[tp].skip_mark() if tp in self._pipelines else None

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

        Errors of the transport do not count once the worker is stopping.
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
        pipeline = self._pipelines.get(batch.tp)
        if pipeline is None or self.error is not None:
            return
        try:
            pipeline.accept(batch)
        except RuntimeError as exc:
            self.fail(exc)

    @property
    def running(self) -> list[Pipeline]:
        """The pipelines of the partitions assigned now."""
        return list(self._pipelines.values())

    def progress(self, fetched: Mapping[TP, FetchPosition]) -> list[PartitionProgress]:
        """Where every assigned partition stands; `fetched` says how far each was fetched, as far as that is known."""
        return [progress_of(pipeline, fetched.get(tp)) for tp, pipeline in sorted(self._pipelines.items())]

    def unhealthy(self) -> str | None:
        """Why the pipelines are stuck, or None."""
        now, limit = time.monotonic(), self._context.options.stall_timeout
        if self.error is not None:
            return f"failed: {describe(self.error)}"
        for tp, pipeline in self._pipelines.items():
            name = f"{tp.topic}[{tp.partition}]"
            if pipeline.busy_since is not None and now - pipeline.busy_since > limit:
                return f"{name}: a transaction has run for {now - pipeline.busy_since:.0f} s"
            if self._opened_at is not None and not pipeline.is_restored and now - self._opened_at > limit:
                return f"{name}: restoring the state has taken {now - self._opened_at:.0f} s"
        return None

    # -- internals

    async def _open(self, tps: Sequence[TP]) -> list[Pipeline]:
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
        application_id, options = self._context.application_id, self._context.options
        producer = TransactionalProducer(
            **self._client,
            group_id=application_id,
            client_id=f"{application_id}-{tp.topic}-{tp.partition}",
            transactional_id=transactional_id(application_id, tp.topic, tp.partition),
            transaction_timeout_ms=int(options.transaction_timeout * 1000),
            request_timeout_ms=int(options.request_timeout * 1000),
            linger_ms=0,
            max_batch_size=BUILDER_BYTES,
            max_request_size=options.max_record_bytes + BUILDER_BYTES,
            compression_type=options.compression,
        )
        return Pipeline(tp, self._factories[tp.topic](tp.topic, tp.partition), producer, self._context)

    async def _close_all(self) -> None:
        readers, self._readers = self._readers, set()
        await _cancel(readers)
        pipelines, self._pipelines = self._pipelines, {}
        tasks, self._tasks = self._tasks, {}
        await asyncio.gather(*(pipeline.close(tasks[tp]) for tp, pipeline in pipelines.items()))

    def _watched(self, work: Any, name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            if (error := task.exception()) is not None:
                self._fail(error)
        elif task in self._readers or task in self._tasks.values():
            # Not by us: aiokafka's `stop` can raise CancelledError in place of what really happened.
            self._fail(StreamsFailed(f"{task.get_name()} was cancelled"))

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
            self.failed.set()


def progress_of(pipeline: Pipeline, fetched: FetchPosition | None) -> PartitionProgress:
    """Where a pipeline stands, of whose partition so much was fetched."""
    position, lag = pipeline.position, None
    if position is not None and fetched is not None and fetched.last_stable_offset is not None:
        # Only markers lie between an idle pipeline's position and what was read.
        lag = max(0, fetched.last_stable_offset - (fetched.position if pipeline.is_idle else position))
    return PartitionProgress(pipeline.tp.topic, pipeline.tp.partition, position, lag, pipeline.waiting_records)


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait for their end."""
    cancelled = set(tasks)
    for task in cancelled:
        task.cancel()
    if cancelled:
        await asyncio.wait(cancelled)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
