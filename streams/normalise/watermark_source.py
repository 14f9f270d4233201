"""Telling how far the raw topics have been read: the clock of the alarm engine.

A tick says «all raw records of this vendor and partition received before T are on the readings and events topics».
It is claimed only of what has been committed, so it stays true whoever processes the partition later, and a repeated
or an old one does no harm. T lags the clock by an allowance for records on their way from a connector to Kafka.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas import wire
from schemas.timestamps import from_micros
from schemas.topics import CLOCK
from streams.engine.partition_pipeline import Pipeline, Pipelines
from streams.normalise.operator import NormaliseStep

log = logging.getLogger(__name__)

_RETRY_SECONDS = 2.0


async def run_ticker(
    pipelines: Pipelines, client: Mapping[str, Any], tick_seconds: float, allowance_seconds: float
) -> None:
    """Write a tick for each raw partition that is caught up, every `tick_seconds`, until cancelled.

    Ticks are written at least once. Where Kafka cannot be reached, ticks stay away, and alarms that the passing of
    time brings come later.
    """
    while True:
        try:
            await _tick(pipelines, client, tick_seconds, allowance_seconds)
        except (KafkaError, OSError) as error:
            log.debug("no clock ticks: %s", error)
            await asyncio.sleep(_RETRY_SECONDS)


async def _tick(pipelines: Pipelines, client: Mapping[str, Any], every: float, allowance: float) -> None:
    async with (
        AIOKafkaConsumer(**client, enable_auto_commit=False) as consumer,
        AIOKafkaProducer(**client, acks="all", linger_ms=0) as producer,
    ):
        waiting: dict[TopicPartition, tuple[int, int]] = {}
        while True:
            await asyncio.sleep(every)
            # Restored: before that a step does not know what it told, and would claim that it told nothing.
            normalising = {
                TopicPartition(*p.tp): p
                for p in pipelines.running
                if isinstance(p.step, NormaliseStep) and p.restored.is_set()
            }
            waiting = {tp: claim for tp, claim in waiting.items() if tp in normalising}
            now = time.time_ns() // 1000 - round(allowance * 1_000_000)
            asked = [tp for tp in normalising if tp not in waiting]
            ends = await consumer.end_offsets(asked) if asked else {}
            waiting |= {tp: (now, end) for tp, end in ends.items()}
            sent = []
            for tp, (at, end) in list(waiting.items()):
                pipeline = normalising[tp]
                if pipeline.position is not None and pipeline.position >= end:
                    sent.append(await producer.send(CLOCK, _encoded(pipeline, at), partition=tp.partition))
                    del waiting[tp]
            for delivery in sent:
                await delivery


def _encoded(pipeline: Pipeline, at: int) -> bytes:
    step = pipeline.step
    assert isinstance(step, NormaliseStep)
    readings_to, events_to = step.told
    return wire.encode(wire.ClockTick(step.vendor, from_micros(at), readings_to, events_to))
