"""Reading the topics that steps read beside their input (`streams.engine.step.Step.side_inputs`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.engine.step import SideInput
from streams.engine.step_inputs import StepInputs

_POLL_MS = 1000
_FIRST_MS = 50
_CHUNK_RECORDS = 2000
_CATCH_UP_SECONDS = 0.005
_RETRY_SECONDS = 0.5


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
        await _read_on(consumer, subscriptions, inputs)
    finally:
        await consumer.stop()


async def _read_on(
    consumer: AIOKafkaConsumer, subscriptions: Mapping[TopicPartition, Subscription], inputs: Sequence[StepInputs]
) -> None:
    """Read as the topics grow, and answer whoever waits for what they hold, until cancelled."""
    tasks = [asyncio.create_task(_answer(consumer, reader)) for reader in inputs if _ahead_of(reader)]
    try:
        while True:
            await _read(consumer, subscriptions, _POLL_MS)
            for task in tasks:
                if task.done():
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _ahead_of(reader: StepInputs) -> list[TopicPartition]:
    """The partitions of side inputs that are ahead of the step's input."""
    return [
        TopicPartition(side_input.topic, number)
        for side_input in reader.step.side_inputs
        if side_input.is_ahead
        for number in sorted(_partitions(reader, side_input))
    ]


async def _answer(consumer: AIOKafkaConsumer, reader: StepInputs) -> None:
    """Whenever the step asks, answer once all has been handed over that the topics held then."""
    partitions = _ahead_of(reader)
    while True:
        number = await reader.catch_up.asked()
        ends = await _ends_of(consumer, partitions)
        for tp, end in ends.items():
            # What the consumer has given out was handed over in the same turn of the event loop.
            while await consumer.position(tp) < end:
                await asyncio.sleep(_CATCH_UP_SECONDS)
        reader.catch_up.answer(number)


async def _ends_of(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
    while True:
        try:
            ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        except KafkaError:  # the input waits, too, until a broker answers
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return ends


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
