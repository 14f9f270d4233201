"""The watermark source: writes how far the raw topics have been processed, which is the clock of the alarm engine.

A watermark (`wire.Watermark`) says «all raw records of this vendor and partition received before T are on the readings
and events topics». It is claimed only of what has been committed, so it stays true whoever processes the partition
later, and a duplicate or an old one does no harm. T lags the clock by an allowance for records on their way from a
connector to Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import wire
from schemas.timestamps import from_micros
from schemas.topics import EVENTS, READINGS, WATERMARKS
from streams.engine.partition_pipeline import Pipeline
from streams.engine.pipelines import Pipelines
from streams.engine.step import SourceProgress

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Claim:
    """What may be written of a partition once its pipeline has processed it up to `end`."""

    at: int
    """Time of the watermark, in microseconds since the epoch."""
    end: int
    """The partition's end offset at that time."""


@dataclass(frozen=True, slots=True)
class WatermarkOptions:
    """How often watermarks are written, and by how much they lag. In seconds."""

    interval: float
    allowance: float


async def run_watermark_source(pipelines: Pipelines, client: Mapping[str, Any], options: WatermarkOptions) -> None:
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


async def _write_watermarks(pipelines: Pipelines, client: Mapping[str, Any], options: WatermarkOptions) -> None:
    async with (
        AIOKafkaConsumer(**client, enable_auto_commit=False) as consumer,
        AIOKafkaProducer(**client, acks="all", linger_ms=0) as producer,
    ):
        claims: dict[TopicPartition, Claim] = {}
        while True:
            await asyncio.sleep(options.interval)
            sources = sources_of(pipelines.running)
            claims = {tp: claim for tp, claim in claims.items() if tp in sources}
            at = time.time_ns() // 1000 - round(options.allowance * 1_000_000)
            unclaimed = [tp for tp in sources if tp not in claims]
            ends = await consumer.end_offsets(unclaimed) if unclaimed else {}
            claims |= {tp: Claim(at, end) for tp, end in ends.items()}
            deliveries = []
            for tp, watermark in due_watermarks(sources, claims).items():
                deliveries.append(await producer.send(WATERMARKS, watermark, partition=tp.partition))
                del claims[tp]
            for delivery in deliveries:
                await delivery


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
            due[tp] = _encoded(progress, claim.at)
    return due


def _encoded(progress: SourceProgress, at: int) -> bytes:
    emitted = progress.emitted
    return wire.encode(wire.Watermark(progress.source, from_micros(at), emitted[READINGS], emitted[EVENTS]))
