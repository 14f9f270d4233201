"""The consumer's fetcher, coordinator, subscription and metadata. Written against aiokafka 0.14.0."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import OffsetAndMetadata


class FetchPosition(NamedTuple):
    """How far a partition was fetched."""

    position: int
    """Offset of the next record to take: past transaction markers, aborted and compacted records."""
    last_stable_offset: int | None
    """The partition's end for a `read_committed` reader, as of the last fetch; None before the first."""


async def load_metadata(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """Wait until the consumer knows the topic's partitions, and return their numbers.

    Reason: `partitions_for_topic` answers from what is known already, which is nothing of a topic that the consumer is
    not subscribed to. Raises UnknownTopicOrPartitionError if there is no such topic.
    """
    return cast(set[int], await consumer._client._wait_on_metadata(topic))


def check_fetcher(consumer: AIOKafkaConsumer) -> None:
    """Raise RuntimeError if the consumer's fetcher has ended.

    Reason: aiokafka fetches in a task of its own. Where that fails (a batch whose codec is not installed, for example),
    `getmany` returns nothing for ever.
    """
    task = cast("asyncio.Task[None]", consumer._fetcher._fetch_task)
    if task.done():
        raise RuntimeError("the Kafka fetcher has died") from (None if task.cancelled() else task.exception())


def check_group(consumer: AIOKafkaConsumer) -> None:
    """Raise what the group protocol failed with. Reason: `getmany` does this, and `fetch_buffers.take` replaces it."""
    consumer._coordinator.check_errors()


def polling(consumer: AIOKafkaConsumer) -> AbstractContextManager[None]:
    """Count the time within as polling. Reason: aiokafka measures `max_poll_interval_ms` by the calls of `getmany`."""
    return cast(AbstractContextManager[None], consumer._subscription.fetch_context())


async def wait_for_reassignment(consumer: AIOKafkaConsumer) -> None:
    """Wait while a rebalance is under way. Reason: `getmany` does this, and `fetch_buffers.take` replaces it."""
    if consumer._subscription.reassignment_in_progress:
        await consumer._subscription.wait_for_assignment()


async def wait_for_fetch(consumer: AIOKafkaConsumer, seconds: float) -> None:
    """Wait until a fetch has brought records, or so many seconds. Reason: as for `wait_for_reassignment`."""
    waiter = consumer._fetcher._create_fetch_waiter()
    try:
        await asyncio.wait([waiter], timeout=seconds)
    finally:
        waiter.cancel()


def fetch_position(consumer: AIOKafkaConsumer, partition: TopicPartition) -> FetchPosition | None:
    """How far an assigned partition was fetched; None while that is not known.

    Reason: `position` is a coroutine, between whose suspensions the position may move; this is read without any. And
    `last_stable_offset` gives no value of the same moment. Callable from any thread.
    """
    if not consumer._subscription.is_assigned(partition):
        return None
    state = consumer._subscription.subscription.assignment.state_value(partition)
    return FetchPosition(state.position, state.lso) if state.has_valid_position else None


def leave_group_at_stop(consumer: AIOKafkaConsumer) -> None:
    """Have `stop` leave the group even as a member with a `group_instance_id`.

    Reason: aiokafka lets a static member only time out, so that its partitions would wait for the session's end.
    """
    if consumer._coordinator is not None:
        consumer._coordinator._group_instance_id = None


async def committed_with_metadata(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, OffsetAndMetadata]:
    """The group's committed offsets and their metadata, which `committed` of the public interface leaves out."""
    return cast(dict[Any, Any], await consumer._coordinator.fetch_committed_offsets(list(partitions)))
