"""Records that wait to be sent: a queue for each partition, bounded together by their bytes."""

from __future__ import annotations

import asyncio
from collections import deque

from connectors.common.publishing.outgoing_record import OutgoingRecord

BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 2000

TopicPartition = tuple[str, int]
"""Topic and number of the partition."""

UNKNOWN = -1
"""The partition of records of a topic whose number of partitions is not known yet."""


class SendQueues:
    """Queues in the order of `put`. What was put counts against `max_bytes` until it is released."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._queues: dict[TopicPartition, deque[OutgoingRecord]] = {}
        self._room = asyncio.Event()
        self._room.set()
        self.buffered_bytes = 0
        self._generation = 0
        self._counts: dict[int, int] = {}
        self._counted_down = asyncio.Event()

    @property
    def is_empty(self) -> bool:
        """Whether no queue exists; a queue ends when `take_batch` finds nothing in it."""
        return not self._queues

    async def reserve(self, record: OutgoingRecord) -> None:
        """Count a record; waits while the buffer is full. A record larger than the limit waits for an empty buffer."""
        record.generation = self._generation
        self._counts[self._generation] = self._counts.get(self._generation, 0) + 1
        try:
            while self.buffered_bytes > 0 and self.buffered_bytes + record.size > self._max_bytes:
                self._room.clear()
                await self._room.wait()
        except asyncio.CancelledError:
            self._count_down(record)
            raise
        self.buffered_bytes += record.size

    def put(self, partition: TopicPartition, record: OutgoingRecord) -> bool:
        """Append a reserved record; True where this begins a queue, which somebody has to drain then."""
        queue = self._queues.get(partition)
        if queue is not None:
            queue.append(record)
            return False
        self._queues[partition] = deque([record])
        return True

    def take_batch(self, partition: TopicPartition) -> list[OutgoingRecord]:
        """The next records that fit in one batch; empty at the end of the queue, which then exists no more."""
        queue = self._queues[partition]
        if not queue:
            del self._queues[partition]
            return []
        batch = [queue.popleft()]
        size = batch[0].size
        while queue and size + queue[0].size <= BATCH_BYTES and len(batch) < BATCH_RECORDS:
            batch.append(queue.popleft())
            size += batch[-1].size
        return batch

    def take_all(self, partition: TopicPartition) -> list[OutgoingRecord]:
        """All records of a queue, which then exists no more."""
        return list(self._queues.pop(partition))

    def uncount(self, record: OutgoingRecord) -> None:
        """Free a record's bytes without waking those who wait for room."""
        self.buffered_bytes -= record.size
        self._count_down(record)

    def _count_down(self, record: OutgoingRecord) -> None:
        self._counts[record.generation] -= 1
        if not self._counts[record.generation]:
            del self._counts[record.generation]
            self._counted_down.set()

    async def flushed(self) -> None:
        """Wait until every record is done with that was to be reserved before the call."""
        before, self._generation = self._generation, self._generation + 1
        while any(generation <= before for generation in self._counts):
            self._counted_down.clear()
            await self._counted_down.wait()

    def release(self, record: OutgoingRecord) -> None:
        """Free the bytes of a record that is done with, for those who wait for room."""
        self.uncount(record)
        self._room.set()
