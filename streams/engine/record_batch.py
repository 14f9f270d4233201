"""What the transport delivers: all records of one partition's fetch, and what they cost in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from faust.types import TP

from runtime.aiokafka_internals.fetch_buffers import FetchedRecord
from schemas.consumed import Headers
from streams.engine.step import SkipMark

_RECORD_OVERHEAD_BYTES = 500  # what a record and its parts cost in memory beside their payload
_HEADER_OVERHEAD_BYTES = 150


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


def memory_bytes(records: Sequence[FetchedRecord]) -> int:
    """Estimated bytes of memory the records take: headers, which are much alike, by the first and the last of them."""
    payload = sum([len(r.value or b"") + len(r.key or b"") for r in records])
    headers = max(_header_bytes(records[0].headers), _header_bytes(records[-1].headers))
    return payload + len(records) * (_RECORD_OVERHEAD_BYTES + headers)


def _header_bytes(headers: Headers) -> int:
    return sum(_HEADER_OVERHEAD_BYTES + len(name) + len(value or b"") for name, value in headers)
