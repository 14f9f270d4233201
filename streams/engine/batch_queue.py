"""The batches of one input partition that wait to be processed: an unbroken chain of offsets, taken within bounds."""

from __future__ import annotations

from collections import deque

from streams.engine.options import PipelineOptions
from streams.engine.record_batch import RecordBatch


class BatchQueue:
    """Batches in the order of their offsets, all of one epoch."""

    def __init__(self, options: PipelineOptions) -> None:
        self.end_offset: int | None = None
        """The partition's last stable offset, as of the newest batch."""
        self._max_records = options.max_batch_records
        self._max_bytes = options.max_batch_bytes
        self._epoch: int | None = None
        self._due = 0  # offset at which the next batch must start
        self._batches: deque[RecordBatch] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    @property
    def records(self) -> int:
        """Number of records that wait."""
        return sum(len(batch.records) for batch in self._batches)

    @property
    def is_full(self) -> bool:
        """Whether waiting for more would not make the next transaction larger."""
        return self.records >= self._max_records or sum(batch.size for batch in self._batches) >= self._max_bytes

    def begin_epoch(self, epoch: int, start: int) -> None:
        """Drop what waits; batches of `epoch` will follow, the first of them starting at offset `start`."""
        self._epoch, self._due = epoch, start
        self._batches.clear()

    def add(self, batch: RecordBatch) -> None:
        """Queue a batch; one of another epoch was fetched before a rebalance and is dropped.

        Raises RuntimeError if the batch does not start where the one before it ended.
        """
        if batch.epoch != self._epoch:
            return
        if batch.start != self._due:
            raise RuntimeError(f"{batch.tp.topic}[{batch.tp.partition}] continues at {batch.start}, not {self._due}")
        self._due = batch.next_offset
        self.end_offset = batch.end_offset
        self._batches.append(batch)

    def take(self) -> list[RecordBatch]:
        """Everything that waits, within bounds, but at least one batch of those that wait.

        Under light load fetches are tiny and would queue up singly.
        """
        taken: list[RecordBatch] = []
        records = size = 0
        while self._batches and (not taken or self._fits(records, size)):
            batch = self._batches.popleft()
            taken.append(batch)
            records += len(batch.records)
            size += batch.size
        return taken

    def _fits(self, records: int, size: int) -> bool:
        first = self._batches[0]
        return records + len(first.records) <= self._max_records and size + first.size <= self._max_bytes
