"""The stream stage: one worker that normalises the raw topics and detects alarms."""

from __future__ import annotations

import asyncio
import gc
import logging
import time

from runtime.health import Health
from runtime.kafka import KafkaSettings, client_options
from runtime.metrics import BATCH_RECORDS, BATCH_SECONDS, HOP_SECONDS, LAG
from runtime.resources import Resources
from runtime.topic_ids import topic_states
from runtime.topic_watch import PartitionsAddedError, TopicWatch, Watcher
from runtime.tracing import trace_batch
from schemas.topics import raw_topic, topic_specs, vendor_of_raw_topic
from schemas.vendors import vendor_names
from streams.detect.operators import OPERATORS
from streams.detect.rules_file_sync import sync_rules_file
from streams.detect.vendor_alerts import readers
from streams.engine.app import Streams, build_app, run_streams
from streams.engine.options import BatchStats, PipelineOptions, StreamsFailed, WorkerOptions
from streams.engine.step import StepFactory
from streams.normalise import handlers
from streams.normalise.operator import NormaliseOperator
from streams.normalise.watermark_source import WatermarkOptions, run_watermark_source
from streams.settings import StreamSettings

log = logging.getLogger(__name__)

_LAG_SECONDS = 1.0

WATCHER = Watcher(
    "the stream worker",
    StreamsFailed,
    "The worker starts again and reads the new topic from its beginning; what it remembers of the old one's offsets, "
    "such as actions that were carried out, no longer fits. Create topics only while the pipeline is stopped, and all.",
    "devices would move to other partitions than their state, and be stored twice or out of order. A pipeline keeps "
    "the number of partitions that it began with: begin another one, with its own application_id and topics",
)

_DETECT_INTERVAL = 0.1
"""Seconds between two transactions of detection: readings go first, and fewer transactions of alarms speed them up."""


async def run_worker(
    settings: StreamSettings, kafka: KafkaSettings, resources: Resources, stop: asyncio.Event, health: Health
) -> None:
    """Run one worker until `stop`; several of the same application id share the partitions.

    Exactly once from the raw topics to readings, events, alarms and dead letters, for readers with `read_committed`.
    Raises StreamsFailed when anything fails: the process has to end, whoever owns the partitions next goes on where
    the last transaction ended. ValueError or OSError where the rules file cannot be read.
    """
    handlers()  # a vendor whose normaliser cannot be loaded ends the worker here, not at its first message
    readers()  # nor at its first alarm
    _spare_the_collector()
    defined = {point.metric for point in settings.options().datapoints.values()}
    await sync_rules_file(settings.rules_file, kafka, defined)
    work = resources.data_dir / "work"
    work.mkdir(parents=True, exist_ok=True)
    streams = build_app(
        kafka,
        step_factories(settings),
        work,
        WorkerOptions(
            group_instance_id=settings.instance_id,
            buffer_bytes=resources.buffer_bytes // 2,
            pipelines=PipelineOptions(min_intervals=dict.fromkeys(OPERATORS, _DETECT_INTERVAL)),
            observer=BatchObserver(),
        ),
    )
    topics = await topic_states(kafka, [spec.name for spec in topic_specs()])
    watch = TopicWatch(client_options(kafka), topics, WATCHER)
    health.live.append(streams.healthy)
    health.ready.append(lambda: None if streams.ready.is_set() else "stream: waiting for Kafka")
    tasks = [asyncio.create_task(_report_lag(streams)), asyncio.create_task(watch_topics(streams, watch))]
    if settings.tick_seconds:
        watermarks = WatermarkOptions(settings.tick_seconds, settings.clock_allowance_seconds)
        tasks.append(asyncio.create_task(run_watermark_source(streams.pipelines, client_options(kafka), watermarks)))
    try:
        await run_streams(streams, stop)
    finally:
        for task in tasks:
            task.cancel()


async def watch_topics(streams: Streams, watch: TopicWatch) -> None:
    """End the worker where a topic is another one now, or has more partitions."""
    try:
        await watch.run()
    except (StreamsFailed, PartitionsAddedError) as error:
        streams.pipelines.fail(StreamsFailed(str(error)))


def step_factories(settings: StreamSettings) -> dict[str, StepFactory]:
    """The step of each input topic."""
    options, detect_options = settings.options(), settings.detect_options()

    def normalising(topic: str, _: int) -> NormaliseOperator:
        return NormaliseOperator(topic, options, settings.dedupe_bytes())

    return {
        **{raw_topic(vendor): normalising for vendor in vendor_names()},
        **dict.fromkeys(OPERATORS, lambda topic, partition: OPERATORS[topic](partition, detect_options)),
    }


def _spare_the_collector() -> None:
    """Let the cycle collector look seldom: a batch makes many objects and no cycles (a quarter of the throughput).

    Not too seldom: what asyncio and aiokafka leave in cycles may hold a batch (some 20 MB at half a million objects).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _stage(topic: str) -> str:
    return "detect" if topic in OPERATORS else "normalise"


class BatchObserver:
    """Measures what was committed."""

    def batch_committed(self, stats: BatchStats) -> None:
        """See `streams.engine.options.Observer`."""
        stage = _stage(stats.topic)
        BATCH_SECONDS.labels(stage).observe(stats.total_seconds)
        BATCH_RECORDS.labels(stage).observe(stats.records_in)
        attributes = {"messaging.destination.name": stats.topic, "messaging.batch.message_count": stats.records_in}
        trace_batch(f"{stage} {stats.topic}", stats.traced, stats.total_seconds, attributes)
        if stage == "normalise":  # the raw record's time is that of the receipt
            now, vendor = time.time(), vendor_of_raw_topic(stats.topic)
            HOP_SECONDS.observe_all(("receipt_readings", vendor), [now - time_ms / 1000 for time_ms in stats.times_ms])


async def _report_lag(streams: Streams) -> None:
    while True:
        waiting: dict[str, int] = {}
        for progress in streams.progress():
            waiting[progress.topic] = waiting.get(progress.topic, 0) + (progress.lag or 0)
        for topic, records in waiting.items():
            LAG.labels(_stage(topic), topic).set(records)
        await asyncio.sleep(_LAG_SECONDS)
