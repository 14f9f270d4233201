"""Reading the topics that steps read beside their input (`streams.engine.step.Step.side_inputs`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.step import SideInput
from streams.engine.step_inputs import StepInputs

_POLL_MS = 1000
_FIRST_MS = 50
_CHUNK_RECORDS = 2000


@dataclass(slots=True)
class Subscription:
    """Who reads one partition of a side input, and from where."""

    from_end: bool
    readers: list[StepInputs] = field(default_factory=list)


async def read_side_inputs(client: Mapping[str, Any], inputs: Sequence[StepInputs]) -> None:
    """Give each step the committed records of its side inputs, all there are and then new ones, until cancelled.

    Delivery: at least once in order per partition, from the beginning (or the end) at each call; nothing is committed.
    """
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=200,
    )
    await consumer.start()
    try:
        subscriptions = subscriptions_of(inputs)
        consumer.assign(list(subscriptions))
        ends = await consumer.end_offsets([tp for tp, each in subscriptions.items() if not each.from_end])
        for tp, each in subscriptions.items():
            await (consumer.seek_to_end(tp) if each.from_end else consumer.seek_to_beginning(tp))
        await _read_to(consumer, subscriptions, ends)
        for reader in inputs:
            reader.side_inputs_read()
        while True:
            await _read(consumer, subscriptions, _POLL_MS)
    finally:
        await consumer.stop()


def subscriptions_of(inputs: Sequence[StepInputs]) -> dict[TopicPartition, Subscription]:
    """The partitions of all side inputs, each once, with all steps that read it."""
    subscriptions: dict[TopicPartition, Subscription] = {}
    for reader in inputs:
        for side_input in reader.step.side_inputs:
            for number in sorted(_partitions(reader, side_input)):
                tp = TopicPartition(side_input.topic, number)
                subscriptions.setdefault(tp, Subscription(side_input.from_end)).readers.append(reader)
    return subscriptions


def _partitions(reader: StepInputs, side_input: SideInput) -> set[int]:
    return reader.partitions[side_input.topic] if side_input.all_partitions else {reader.tp.partition}


async def _read_to(
    consumer: AIOKafkaConsumer, subscriptions: Mapping[TopicPartition, Subscription], ends: Mapping[TopicPartition, int]
) -> None:
    behind = {tp: end for tp, end in ends.items() if await consumer.position(tp) < end}
    while behind:
        await _read(consumer, subscriptions, _FIRST_MS)
        behind = {tp: end for tp, end in behind.items() if await consumer.position(tp) < end}


async def _read(
    consumer: AIOKafkaConsumer, subscriptions: Mapping[TopicPartition, Subscription], timeout_ms: int
) -> None:
    fetched = await consumer.getmany(timeout_ms=timeout_ms, max_records=_CHUNK_RECORDS)
    for tp, records in fetched.items():
        for record in records:
            for reader in subscriptions[tp].readers:
                reader.process_side_input(record)
    await asyncio.sleep(0)
