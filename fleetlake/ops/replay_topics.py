"""Whole topics and their ends, as `replay` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import Span, read_spans, spans_of, topic_consumer
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
    async with topic_consumer(client_options(kafka), topic) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        whole = Whole(
            {tp.partition: span.start for tp, span in spans.items()},
            {tp.partition: span.end for tp, span in spans.items()},
            {tp.partition: [] for tp in partitions},
        )
        async for batch in read_spans(consumer, spans):
            whole.records[batch.partition.partition] += batch.records
        return whole


async def read_tail(kafka: KafkaSettings, topic: str, records: int) -> list[Record]:
    """The last so many records of each partition, or some less."""
    async with topic_consumer(client_options(kafka), topic) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        tails = {tp: Span(max(span.start, span.end - records), span.end) for tp, span in spans.items()}
        return [record async for batch in read_spans(consumer, tails) for record in batch.records]
