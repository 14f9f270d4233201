"""Whole topics and their ends, as `replay` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.kafka import KafkaSettings
from runtime.topic_reader import read_stretches, reading
from schemas.consumed import Headers, Record

FETCH_RECORDS = 20_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A record that was read before, or one made of such."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class Whole:
    """All that a topic holds, by partition."""

    begin: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    records: dict[int, list[Record]] = field(default_factory=dict)

    @property
    def lacks(self) -> bool:
        """Whether records have gone from it: expired, or compacted away (or there are transaction markers)."""
        return any(len(self.records[number]) < end for number, end in self.end.items())


async def read_whole(kafka: KafkaSettings, topic: str) -> Whole:
    """Read all of a small topic."""
    async with reading(kafka, topic) as (consumer, partitions):
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        found = Whole(
            {p.partition: offset for p, offset in begin.items()},
            {p.partition: offset for p, offset in end.items()},
            {p.partition: [] for p in partitions},
        )
        stretches = {p: (begin[p], end[p]) for p in partitions}
        async for p, records in read_stretches(consumer, stretches, FETCH_RECORDS):
            found.records[p.partition] += records
        return found


async def read_tail(kafka: KafkaSettings, topic: str, records: int) -> list[Record]:
    """The last so many records of each partition, or some less."""
    async with reading(kafka, topic) as (consumer, partitions):
        begin, end = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        stretches = {p: (max(begin[p], end[p] - records), end[p]) for p in partitions}
        return [record async for _, found in read_stretches(consumer, stretches, FETCH_RECORDS) for record in found]
