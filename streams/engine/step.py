"""What a stream step is: records in, records out, and nothing else (pure).

A step is a plain object that one pipeline drives. It does no I/O, reads no clock, and never sees a transaction; that
its outputs, its state and the input offset become visible together is the pipeline's business
(`streams/engine/partition_pipeline.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from schemas.consumed import Headers, Record
from schemas.topics import MAX_MESSAGE_BYTES

_RECORD_OVERHEAD_BYTES = 64  # lengths, deltas, and the header of the record batch the record may fill alone

MAX_RECORD_BYTES = MAX_MESSAGE_BYTES - 1024
"""Largest `record_bytes` of an output. A step must not emit more: it dead-letters what is too large, by this limit."""


class Output(NamedTuple):
    """One record to write, to the partition with the number of the input partition.

    A change of state is an output to the step's `state_topic` like any other.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Followed(NamedTuple):
    """A topic that a step follows beside its input: read anew at each assignment, and then as it grows."""

    topic: str
    all_partitions: bool = False
    """Every partition, not only the one with the number of the input."""
    from_end: bool = False
    """Only what comes from now on; else all there is, before the first record of the input."""


class RecordTooLarge(ValueError):
    """A step emitted a record that no topic takes. It ends the process: the step has to dead-letter by size instead."""

    def __init__(self, output: Output, limit: int) -> None:
        super().__init__(
            f"a record of {record_bytes(output)} bytes for {output.topic} (key {output.key!r:.80}) "
            f"exceeds the limit of {limit} bytes"
        )


class Step(Protocol):
    """The work done for one input partition. One instance an assigned partition; a new one at each assignment.

    Any exception a method raises ends the process with nothing of the batch committed, so bad input must come out as a
    dead letter and not as an exception.
    """

    @property
    def state_topic(self) -> str | None:
        """Topic that keeps this step's state, or None. Its partition with the same number is read at assignment.

        Steps of several input topics may share a state topic if they can tell their keys apart (begin them with the
        input topic's name).
        """
        ...

    @property
    def state_window_seconds(self) -> int | None:
        """None: the state topic is compacted and read from its beginning. Else only this much of it, by record time."""
        ...

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of the state partition, in order, before the first `process`. A value of None deletes."""
        ...

    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output]:
        """Process consecutive records of the input partition; `now_us` is the time in microseconds since the epoch."""
        ...


class FollowingStep(Step, Protocol):
    """A step that follows other topics, too."""

    @property
    def follows(self) -> Sequence[Followed]:
        """The topics."""
        ...

    @property
    def pending(self) -> bool:
        """Whether `process` is to be called even without records."""
        ...

    def pass_over(self) -> Callable[[], None] | None:
        """None while records are wanted; else `process` would make nothing of any, and the input need not be read.

        The result is called when all that was written before this call has been left unread.
        """
        ...

    def expect(self, partitions: Mapping[str, set[int]]) -> None:
        """Be told the partitions of the followed topics, before anything else."""
        ...

    def follow(self, record: Record) -> None:
        """Take one record of a followed topic, in order per partition; after the state, between calls of `process`.

        It may come again after the next assignment: its effect must be known from the step's state.
        """
        ...


StepFactory = Callable[[str, int], Step]
"""Makes the step of an input partition, given its topic and partition number."""


def record_bytes(output: Output) -> int:
    """Upper bound of the bytes one output takes in Kafka before compression."""
    size = _RECORD_OVERHEAD_BYTES + len(output.key or b"") + len(output.value or b"")
    for name, value in output.headers:
        size += len(name) * 4 + len(value or b"") + 10
    return size
