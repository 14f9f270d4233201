"""What topics hold, and their last records, as `fleetlake replay` reads them."""

from __future__ import annotations

from dataclasses import dataclass, field

from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import Span, read_spans, spans_of, topic_consumer
from schemas.consumed import Headers, Record


@dataclass(frozen=True, slots=True)
class RebuiltRecord:
    """A record that was made anew, or read from a table instead of Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class TopicContents:
    """All records that a topic holds, with the first offset and the end of each partition."""

    begin: dict[int, int] = field(default_factory=dict)
    end: dict[int, int] = field(default_factory=dict)
    records: dict[int, list[Record]] = field(default_factory=dict)

    @property
    def is_incomplete(self) -> bool:
        """Whether records are gone: expired, or compacted away (or there are transaction markers)."""
        return any(len(self.records[number]) < end for number, end in self.end.items())


async def read_contents(kafka: KafkaSettings, topic: str) -> TopicContents:
    """Read all of a small topic."""
    async with topic_consumer(client_options(kafka), topic) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        contents = TopicContents(
            {tp.partition: span.start for tp, span in spans.items()},
            {tp.partition: span.end for tp, span in spans.items()},
            {tp.partition: [] for tp in partitions},
        )
        async for batch in read_spans(consumer, spans):
            contents.records[batch.partition.partition] += batch.records
        return contents


async def read_tail(kafka: KafkaSettings, topic: str, records: int) -> list[Record]:
    """The last records of each partition, at most this many of each."""
    async with topic_consumer(client_options(kafka), topic) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        tails = {tp: Span(max(span.start, span.end - records), span.end) for tp, span in spans.items()}
        return [record async for batch in read_spans(consumer, tails) for record in batch.records]
