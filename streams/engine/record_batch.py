"""What the transport delivers: all records of one partition's fetch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faust.types import TP

from runtime.kafka_records.fetched import FetchedRecord
from streams.engine.step import SkipMark


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """All records of one partition's fetch, metadata kept."""

    tp: TP
    epoch: int
    """Grows with every rebalance; batches of an older epoch are void."""
    start: int
    """The `next_offset` of the batch before it in the same epoch, or the position the partition began at."""
    next_offset: int
    """Where reading goes on: past the records, and past markers, aborted and compacted records after them."""
    end_offset: int | None
    """The partition's last stable offset when fetched, for the lag."""
    records: Sequence[FetchedRecord]
    """Empty where the partition is skipped to its end."""
    size: int
    """Estimated bytes of memory."""
    skipped: SkipMark | None = None
    """Where the partition is skipped: what the step knew when it declared so (`streams.engine.step.Step.skip_mark`)."""
