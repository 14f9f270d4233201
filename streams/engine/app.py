"""The Faust application of the stream workers, and running it inside an event loop that is there already."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faust
from faust.app.base import BootStrategy
from faust.tables.manager import TableManager
from faust.types import TP

from runtime.aiokafka_internals.consumers import FetchPosition
from runtime.kafka import KafkaSettings, client_options, wait_for_kafka
from streams.engine.buffer_budget import BufferBudget
from streams.engine.consumer_thread import ConsumerOptions
from streams.engine.options import PartitionProgress, PipelineOptions, StreamsFailed, WorkerOptions, describe
from streams.engine.partition_pipeline import PipelineContext
from streams.engine.pipeline_supervisor import PipelineSupervisor
from streams.engine.step import StepFactory
from streams.engine.transport import SCHEME, RecordBatchConsumer, RecordBatchSchema, TransportOptions

log = logging.getLogger(__name__)

_STOP_TIMEOUT = 10.0
_HEARTBEAT_SECONDS = 1.0


class _ConsumerOnly(BootStrategy):  # type: ignore[misc]  # Faust is untyped here
    """Boots no producer and no web server: each pipeline has its producer, and health has its server in runtime/."""

    enable_kafka_producer = False
    enable_web = False


class _NoTables(TableManager):  # type: ignore[misc]  # Faust is untyped here
    """Faust waits a second at start for tables to be registered; there are none."""

    mundane_level = "debug"

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class FaustApp(faust.App):  # type: ignore[misc]  # Faust is untyped here
    """Faust application whose consumer finds its options here and whose crash ends the worker."""

    BootStrategy = _ConsumerOnly
    mundane_level = "debug"
    transport_options: TransportOptions

    def _crash(self, reason: BaseException) -> None:
        self.transport_options.owner.fail(reason)
        super()._crash(reason)


@dataclass
class Streams:
    """A stream worker, ready to be run by `run_streams`. One use only."""

    app: FaustApp
    pipelines: PipelineSupervisor
    client: Mapping[str, Any]
    options: PipelineOptions
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while the worker is running; partitions may still be on their way."""

    def progress(self) -> list[PartitionProgress]:
        """Position and lag of every partition this worker has."""
        fetched: dict[TP, FetchPosition] = {}
        if (consumer := self._consumer()) is not None:
            for pipeline in self.pipelines.running:
                if (position := consumer.fetch_position(pipeline.tp)) is not None:
                    fetched[pipeline.tp] = position
        return self.pipelines.progress(fetched)

    def healthy(self) -> str | None:
        """None if all is well, else why the process should be restarted: for `/livez`."""
        if (reason := self.pipelines.unhealthy()) is not None:
            return reason
        consumer = self._consumer()
        if consumer is None or consumer.last_fetch_at is None:
            return None
        silent = asyncio.get_running_loop().time() - consumer.last_fetch_at
        if silent > self.options.stall_timeout:
            return f"nothing was fetched for {silent:.0f} s"
        return None

    def _consumer(self) -> RecordBatchConsumer | None:
        consumer = self.app._consumer
        return consumer if isinstance(consumer, RecordBatchConsumer) else None


def build_app(
    kafka: KafkaSettings, steps: Mapping[str, StepFactory], datadir: Path, options: WorkerOptions | None = None
) -> Streams:
    """Make a worker that runs `steps[topic](topic, partition)` for each partition of the input topics it is assigned.

    Input, output and state topics must exist and have the same number of partitions; none is created. `datadir` is
    where Faust may write; nothing is kept there.
    """
    options = options or WorkerOptions()
    application_id = options.application_id or kafka.application_id
    client = client_options(kafka)
    budget = BufferBudget(options.buffer_bytes)
    pipelines = PipelineSupervisor(
        client, steps, PipelineContext(application_id, options.pipelines, budget, options.observer)
    )
    app = FaustApp(
        application_id,
        broker=f"{SCHEME}://{kafka.bootstrap_servers.split(',')[0].strip()}",
        store="memory://",
        datadir=str(datadir),
        web_enabled=False,
        topic_disable_leader=True,
        stream_wait_empty=False,
        broker_commit_interval=3600.0,
        TableManager=_NoTables,
    )
    consumer = ConsumerOptions(
        client=client,
        session_timeout=kafka.session_timeout_seconds,
        heartbeat=min(_HEARTBEAT_SECONDS, kafka.session_timeout_seconds / 3),
        group_instance_id=options.group_instance_id,
    )
    app.transport_options = TransportOptions(consumer, pipelines, budget)
    _add_agent(app, pipelines, list(steps))
    _quieten()
    return Streams(app, pipelines, client, options.pipelines)


def _quieten() -> None:
    """What the libraries say about rebalances and retries is not for operators; failures reach us as exceptions."""
    levels = {"faust": logging.ERROR, "mode": logging.ERROR, "aiokafka": logging.ERROR}
    levels["aiokafka.consumer.group_coordinator"] = logging.CRITICAL  # calls each retry an error
    for name, level in levels.items():
        if (logger := logging.getLogger(name)).level == logging.NOTSET:
            logger.setLevel(level)


def _add_agent(app: FaustApp, pipelines: PipelineSupervisor, topics: Sequence[str]) -> None:
    async def record_batches(stream: Any) -> None:
        async for event in stream.noack().events():  # noack: offsets are committed by the transactions
            pipelines.accept(event.value)

    app.agent(app.topic(*topics, schema=RecordBatchSchema()), name="record_batches")(record_batches)


async def run_streams(streams: Streams, stop: asyncio.Event) -> None:
    """Run the worker until `stop` is set, then finish running transactions and leave the group at once.

    Delivery: exactly once, from the input topics to the output and state topics, for readers with `read_committed`.
    Raises StreamsFailed if anything failed: a step raised, a send was refused, a transaction was fenced, the fetcher
    died. The failed batch is not committed, and the caller must end the *process* with a non-zero exit code
    (`os._exit` if it has to be sure: Faust's threads are no daemons); the next owner of the partitions repeats
    the batch. While no broker answers at the start it waits, logging once.
    """
    pipelines = streams.pipelines
    pipelines.bind(asyncio.get_running_loop())
    if not await wait_for_kafka(streams.client, stop):
        return
    try:
        await _first(pipelines.failed.wait(), stop.wait(), _start(streams))
        if not stop.is_set() and pipelines.error is None:
            streams.ready.set()
            await _first(pipelines.failed.wait(), stop.wait())
    finally:
        streams.ready.clear()
        await _shut_down(streams)
    if (error := pipelines.error) is not None:
        log.critical("stream worker failed: %s", describe(error))
        raise StreamsFailed(describe(error)) from error


async def _start(streams: Streams) -> None:
    try:
        await streams.app.start()
    except Exception as exc:
        streams.pipelines.fail(exc)


async def _shut_down(streams: Streams) -> None:
    """PipelineSupervisor first, so that no partition is given away before its transaction is decided."""
    consumer = streams._consumer()
    if consumer is not None:
        consumer.stop_flow()
        consumer.leave_group_at_stop()
    await streams.pipelines.stop()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_STOP_TIMEOUT):
            await streams.app.stop()


async def _first(*awaitables: Any) -> None:
    """Wait for the first to finish and cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
