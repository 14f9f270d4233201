"""Bounds of a stream worker's pipelines, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.consumed import Headers
from streams.engine.step import MAX_RECORD_BYTES


class StreamsFailed(RuntimeError):
    """A stream worker cannot go on. The process has to end with a non-zero exit code; nothing is half committed."""


def describe(error: BaseException) -> str:
    """One line for the log: type and message."""
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")


@dataclass(frozen=True)
class PipelineOptions:
    """Bounds of the pipelines. Times in seconds."""

    max_batch_records: int = 5000
    """A transaction takes waiting fetches until it has so many records (a fetch is not split) …"""
    max_batch_bytes: int = 8 << 20
    """… or so many estimated bytes."""
    min_interval: float = 0.04
    """Least time between the starts of two transactions of a partition, so that light load takes no whole core, and no
    disk with some ten flushes per transaction. The first record after a pause does not wait."""
    min_intervals: Mapping[str, float] = field(default_factory=dict)
    """`min_interval` of those input topics that are to have another."""
    transaction_timeout: float = 10.0
    """After this, Kafka aborts the transaction of a process that hangs in the middle of one."""
    request_timeout: float = 15.0
    close_timeout: float = 5.0
    """How long a running transaction may take to finish at a rebalance or a stop."""
    stall_timeout: float = 60.0
    """A transaction, a restoration or a fetch loop that takes longer makes the worker unhealthy."""
    max_record_bytes: int = MAX_RECORD_BYTES
    compression: str | None = None

    def interval_of(self, topic: str) -> float:
        """The least time between two transactions of a partition of this input topic."""
        return self.min_intervals.get(topic, self.min_interval)


@dataclass(frozen=True, slots=True)
class BatchStats:
    """What one committed transaction did."""

    topic: str
    partition: int
    records_in: int
    records_out: int
    bytes_in: int
    """Estimated bytes of memory of the input."""
    step_seconds: float
    """Time in the step, which blocks the event loop."""
    total_seconds: float
    """From the start of the step to the commit's acknowledgement."""
    next_offset: int
    """The committed position."""
    lag: int
    """Records (and transaction markers) still to read, as of the fetch."""
    times_ms: Sequence[int]
    """When each record of the input was written, in milliseconds since the epoch."""
    traced: Sequence[Headers]
    """Headers of the input's records, as far as some may name a trace."""


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """Where one assigned partition stands."""

    topic: str
    partition: int
    position: int | None
    """Next offset to process, as committed; None until it is known."""
    lag: int | None
    """Records (and transaction markers among them) still to process; None until it is known."""
    waiting_records: int
    """Of these, in memory."""


class Observer(Protocol):
    """Is called after every committed transaction, on the event loop; must be quick and must not raise."""

    def batch_committed(self, stats: BatchStats) -> None:
        """One transaction was committed."""
        ...


@dataclass(frozen=True)
class WorkerOptions:
    """How a worker takes part in its group, and its bounds."""

    application_id: str | None = None
    """Names the consumer group and begins the transactional ids (default: that of the settings).

    Workers of the same id share the partitions.
    """
    group_instance_id: str | None = None
    """Unique among the group's workers and the same after a restart.

    With it, a restarted worker takes its partitions back at once, instead of after the dead one's session timeout.
    """
    buffer_bytes: int = 32 << 20
    """Bound of the input that the worker holds in memory."""
    pipelines: PipelineOptions = field(default_factory=PipelineOptions)
    observer: Observer | None = None
