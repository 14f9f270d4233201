"""Reading the topics that steps follow beside their input (see `streams.engine.step.Step.side_inputs`)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.consumed import Record
from streams.engine.step import Step

_POLL_MS = 1000
_FIRST_MS = 50
_CHUNK_RECORDS = 2000


class Follower(Protocol):
    """Who is given the records: a pipeline."""

    @property
    def step(self) -> Step:
        """Its step, which names the topics."""
        ...

    @property
    def partitions(self) -> Mapping[str, set[int]]:
        """Partitions of the topics."""
        ...

    @property
    def tp(self) -> Any:
        """Its input partition."""
        ...

    def follow(self, record: Record) -> None:
        """Take one record."""
        ...

    def read_back(self, what: str) -> None:
        """Be told that all there is has come."""
        ...


async def follow_topics(client: Mapping[str, Any], followers: Sequence[Follower]) -> None:
    """Give each follower its topics' committed records, all there are and then new ones, until cancelled.

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
        wanted = _wanted(followers)
        consumer.assign(list(wanted))
        ends = await consumer.end_offsets([tp for tp, (_, from_end) in wanted.items() if not from_end])
        for tp, (_, from_end) in wanted.items():
            await (consumer.seek_to_end(tp) if from_end else consumer.seek_to_beginning(tp))
        await _read(consumer, wanted, ends, followers)
    finally:
        await consumer.stop()


_Wanted = dict[TopicPartition, tuple[list[Follower], bool]]


def _wanted(followers: Sequence[Follower]) -> _Wanted:
    wanted: _Wanted = {}
    for follower in followers:
        for topic in follower.step.side_inputs:
            numbers = follower.partitions[topic.topic] if topic.all_partitions else {follower.tp.partition}
            for number in sorted(numbers):
                wanted.setdefault(TopicPartition(topic.topic, number), ([], topic.from_end))[0].append(follower)
    return wanted


async def _read(
    consumer: AIOKafkaConsumer, wanted: _Wanted, ends: Mapping[TopicPartition, int], followers: Sequence[Follower]
) -> None:
    behind = dict(ends)
    told = False
    while True:
        if not told:
            behind = {tp: end for tp, end in behind.items() if await consumer.position(tp) < end}
            if not behind:
                told = True
                for follower in followers:
                    follower.read_back("followed")
        fetched = await consumer.getmany(timeout_ms=_POLL_MS if told else _FIRST_MS, max_records=_CHUNK_RECORDS)
        for tp, records in fetched.items():
            for record in records:
                for follower in wanted[tp][0]:
                    follower.follow(record)
        await asyncio.sleep(0)
