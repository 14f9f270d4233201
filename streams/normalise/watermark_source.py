"""The watermark source: writes how far the raw topics have been processed, which is the clock of the alarm engine.

A watermark (`wire.Watermark`) says «all raw records of this vendor and partition received before T are on the readings
and events topics». It is claimed only of what has been committed, so it stays true whoever processes the partition
later, and a duplicate or an old one does no harm. T lags the clock by an allowance for records on their way from a
connector to Kafka, and is not after what the vendor's connectors have reported of their listening: what they received
before is in Kafka then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from runtime.aiokafka_internals.consumers import load_metadata
from schemas import wire
from schemas.consumed import Record
from schemas.timestamps import from_micros
from schemas.topics import COVERAGE, EVENTS, READINGS, WATERMARKS, vendor_of_raw_topic
from streams.engine.partition_pipeline import Pipeline
from streams.engine.pipeline_supervisor import PipelineSupervisor
from streams.engine.step import SourceProgress
from streams.normalise.coverage import CoverageMap

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0
_POLL_MS = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """What may be written of a partition once its pipeline has processed it up to `end`."""

    at: int
    """Time of the watermark, in microseconds since the epoch."""
    end: int
    """The partition's end offset at that time."""
    clock: int
    """The time without regard to what the connectors have reported."""
    coverage_to: int = -1
    """Offset of the last report of coverage in this partition before `clock`."""


@dataclass(frozen=True, slots=True)
class WatermarkOptions:
    """How often watermarks are written, and by how much they lag. In seconds."""

    interval: float
    allowance: float


async def run_watermark_source(
    pipelines: PipelineSupervisor, client: Mapping[str, Any], options: WatermarkOptions
) -> None:
    """Write a watermark for each raw partition that is caught up, every `options.interval`, until cancelled.

    Watermarks are written at least once. While Kafka cannot be reached none are written, and alarms that become due by
    the passing of time are raised later.
    """
    while True:
        try:
            await _write_watermarks(pipelines, client, options)
        except (KafkaError, OSError) as error:
            log.debug("no watermarks: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)


async def _write_watermarks(
    pipelines: PipelineSupervisor, client: Mapping[str, Any], options: WatermarkOptions
) -> None:
    async with (
        AIOKafkaConsumer(**client, enable_auto_commit=False) as consumer,
        AIOKafkaProducer(**client, acks="all", linger_ms=0) as producer,
    ):
        claims: dict[TopicPartition, Claim] = {}
        coverage = CoverageReader(consumer)
        await coverage.start()
        while True:
            await asyncio.sleep(options.interval)
            sources = sources_of(pipelines.running)
            claims = {tp: claim for tp, claim in claims.items() if tp in sources}
            clock = time.time_ns() // 1000 - round(options.allowance * 1_000_000)
            await coverage.read()  # before the ends of the raw topics, which hold what was received before it
            unclaimed = [tp for tp in sources if tp not in claims]
            ends = await consumer.end_offsets(unclaimed) if unclaimed else {}
            claims |= {tp: coverage.claim(vendor_of_raw_topic(tp.topic), clock, tp, end) for tp, end in ends.items()}
            deliveries = []
            for tp, watermark in due_watermarks(sources, claims).items():
                deliveries.append(await producer.send(WATERMARKS, watermark, partition=tp.partition))
                del claims[tp]
            for delivery in deliveries:
                await delivery


class CoverageReader:
    """Reads what the connectors report of their listening."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._known = CoverageMap()
        self._partitions: list[TopicPartition] = []
        self._ends: dict[TopicPartition, int] = {}

    async def start(self) -> None:
        """Assign the whole topic, from its beginning. KafkaError where it does not exist."""
        self._partitions = [
            TopicPartition(COVERAGE, number) for number in await load_metadata(self._consumer, COVERAGE)
        ]
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_beginning(*self._partitions)

    async def read(self) -> None:
        """Read all that the topic holds now."""
        self._ends = await self._consumer.end_offsets(self._partitions)
        while any([await self._consumer.position(tp) < end for tp, end in self._ends.items()]):
            for records in (await self._consumer.getmany(timeout_ms=_POLL_MS)).values():
                for record in records:
                    self._take(record)

    def _take(self, record: Record) -> None:
        with contextlib.suppress(msgspec.MsgspecError, ValueError):
            if record.value is not None:
                self._known.take((record.key or b"").decode(), wire.decode_coverage(record.value))

    def claim(self, vendor: str, clock: int, tp: TopicPartition, end: int) -> Claim:
        """What may be claimed of a raw partition that ends at `end` now."""
        reported = self._known.reported_until(vendor)
        at = clock if reported is None else min(clock, reported)
        return Claim(at, end, clock, self._ends.get(TopicPartition(COVERAGE, tp.partition), 0) - 1)


def sources_of(running: Iterable[Pipeline]) -> dict[TopicPartition, Pipeline]:
    """The pipelines that read a source.

    Only restored ones: before that a step does not know what it emitted, and would claim that it emitted nothing.
    """
    return {
        TopicPartition(*pipeline.tp): pipeline
        for pipeline in running
        if pipeline.step.source_progress is not None and pipeline.is_restored
    }


def due_watermarks(
    sources: Mapping[TopicPartition, Pipeline], claims: Mapping[TopicPartition, Claim]
) -> dict[TopicPartition, bytes]:
    """The watermarks that hold now, by partition."""
    due: dict[TopicPartition, bytes] = {}
    for tp, claim in claims.items():
        position, progress = sources[tp].position, sources[tp].step.source_progress
        if position is not None and position >= claim.end and progress is not None:
            due[tp] = _encoded(progress, claim)
    return due


def _encoded(progress: SourceProgress, claim: Claim) -> bytes:
    emitted, clock = progress.emitted, None if claim.clock == claim.at else from_micros(claim.clock)
    return wire.encode(
        wire.Watermark(
            progress.source, from_micros(claim.at), emitted[READINGS], emitted[EVENTS], clock, claim.coverage_to
        )
    )
