"""Records that a sink has read and not yet written, by partition. Pure: the moment is an argument."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from runtime.resources import BUFFER_BYTES
from schemas.consumed import Record
from sinks.writer import SinkError, Slice

Partition = tuple[str, int]
"""Topic and number; aiokafka's TopicPartition is one."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a topic's buffered records are written: as soon as one bound is reached."""

    seconds: float
    records: int
    bytes: int
    total_bytes: int = BUFFER_BYTES
    """Of all topics together; then all of them are written."""


@dataclass(slots=True)
class _PartitionBuffer:
    expected: int | None
    """The next offset that the writer will have stored when the buffer is written."""
    next: int
    records: list[Record] = field(default_factory=list)
    bytes: int = 0

    def add(self, records: Sequence[Record]) -> bool:
        """Append the records that follow what is buffered; return whether there are any."""
        if records[-1].offset < self.next:
            return False
        if records[0].offset < self.next:
            records = [record for record in records if record.offset >= self.next]
        self.records.extend(records)
        self.bytes += sum(len(record.value or b"") for record in records)
        self.next = records[-1].offset + 1
        return True

    def cut(self, partition: int) -> Slice:
        """Take all records out; the next slice continues where this one ends."""
        taken = Slice(partition, self.expected, self.next, self.records)
        self.expected, self.records, self.bytes = self.next, [], 0
        return taken


class Buffers:
    """The buffers of all partitions whose position is known."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._by_partition: dict[Partition, _PartitionBuffer] = {}
        self._since: dict[str, float] = {}

    def __contains__(self, partition: Partition) -> bool:
        return partition in self._by_partition

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._by_partition)

    def __len__(self) -> int:
        return len(self._by_partition)

    def of_topic(self, topic: str) -> list[Partition]:
        """Return the topic's partitions that have a buffer."""
        return [partition for partition in self._by_partition if partition[0] == topic]

    def position(self, partition: Partition, stored: int | None, next_offset: int) -> None:
        """Give a partition an empty buffer that begins at `next_offset`; drop what it had."""
        self._by_partition[partition] = _PartitionBuffer(stored, next_offset)

    def next_offset(self, partition: Partition) -> int:
        """Return the offset to read next. Raise KeyError for a partition without a position."""
        return self._by_partition[partition].next

    def add(self, partition: Partition, records: Sequence[Record], now: float) -> None:
        """Buffer fetched records. Those below the partition's next offset, or of an unknown partition, are dropped."""
        buffer = self._by_partition.get(partition)
        if buffer is not None and buffer.add(records):
            self._since.setdefault(partition[0], now)

    def topics(self) -> list[str]:
        """Return the topics that have buffered records."""
        return list(self._since)

    def due(self, now: float) -> list[str]:
        """Return the topics that have reached a bound at the moment `now`, in the clock of `add`."""
        if sum(buffer.bytes for buffer in self._by_partition.values()) >= self._bounds.total_bytes:
            return self.topics()
        return [
            topic for topic, since in self._since.items() if now - since >= self._bounds.seconds or self._full(topic)
        ]

    def cut(self, topic: str) -> tuple[float, list[Slice]]:
        """Take a topic's records out; return since when the first one has waited, and one slice per partition."""
        since = self._since.pop(topic, 0.0)
        filled = [partition for partition in self.of_topic(topic) if self._by_partition[partition].records]
        return since, [self._by_partition[partition].cut(partition[1]) for partition in filled]

    def clear(self) -> None:
        """Drop all records and positions."""
        self._by_partition.clear()
        self._since.clear()

    def _full(self, topic: str) -> bool:
        buffers = [self._by_partition[partition] for partition in self.of_topic(topic)]
        return (
            sum(len(buffer.records) for buffer in buffers) >= self._bounds.records
            or sum(buffer.bytes for buffer in buffers) >= self._bounds.bytes
        )


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading a partition begins, and how many offsets before it are lost."""

    next: int
    lost: int


def start_of(partition: Partition, stored: int | None, begin: int, end: int) -> Start:
    """Return where to begin in a partition whose log reaches from `begin` to before `end`.

    Records that Kafka deleted before they were written count as lost. Raise SinkError if the stored offset is past the
    log's end.
    """
    if stored is None:
        return Start(begin, 0)
    if stored > end:
        raise SinkError(
            f"{partition[0]}[{partition[1]}] ends at offset {end}, but offset {stored} is stored as the next to write: "
            "the log was cut or replaced. Restore it, or use another folder."
        )
    return Start(max(stored, begin), max(0, begin - stored))
