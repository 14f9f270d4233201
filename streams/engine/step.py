"""The protocol of stream steps: records in, records out, and nothing else (pure).

A step is a plain object that one pipeline drives. It does no I/O, reads no clock, and never sees a transaction; the
pipeline makes its outputs, its state and the input offset visible together (`streams/engine/partition_pipeline.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from runtime.kafka_records.packed import OutputColumns
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


class SideInput(NamedTuple):
    """A topic that a step reads beside its input: from its beginning at each assignment, and then as it grows."""

    topic: str
    all_partitions: bool = False
    """Every partition, not only the one with the number of the input partition."""
    from_end: bool = False
    """Only records written after the assignment; else also all earlier ones, before the first record of the input."""
    is_ahead: bool = False
    """What was written there before a record of the input may matter to it (`Step.needs_side_inputs`)."""


SkipMark = Mapping[str, int]
"""What a step knew when it declared that its input may be skipped, in the step's own terms (`Step.skip_mark`)."""


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """How far a step that reads a source topic has come (`Step.source_progress`)."""

    source: str
    """Name of the source, e.g. the vendor."""
    emitted: Mapping[str, int]
    """By output topic, the offset of the last input record that gave a record there; −1 for none."""


class RecordTooLarge(ValueError):
    """A step emitted a record that no topic takes. It ends the process: the step has to dead-letter by size instead."""

    def __init__(self, output: Output, limit: int) -> None:
        super().__init__(
            f"a record of {record_bytes(output)} bytes for {output.topic} (key {output.key!r:.80}) "
            f"exceeds the limit of {limit} bytes"
        )


class Step(ABC):
    """The work done for one input partition. One instance per assigned partition; a new one at each assignment.

    Any exception that a method raises ends the process with nothing of the batch committed, so bad input must come out
    as a dead letter and not as an exception.

    A step has at least `restore` and `process`. What it says of state, side inputs, skipping and progress defaults to
    having none of them.
    """

    state_topic: str | None = None
    """Topic that keeps this step's state, or None. Its partition with the same number is read at assignment.

    Steps of several input topics may share a state topic if they can distinguish their keys (begin them with the input
    topic's name).
    """
    state_window_seconds: int | None = None
    """None: the state topic is compacted and read from its beginning. Else only this much of it, by record time."""
    lasting_state_topic: str | None = None
    """A second state topic or None: compacted and read from its beginning, for what must outlast the window."""
    side_inputs: Sequence[SideInput] = ()
    """Topics read beside the input."""

    @property
    def state_topics(self) -> Mapping[str, int | None]:
        """The topics that keep this step's state, each with the window that is read of it in seconds; None: all."""
        topics = {self.state_topic: self.state_window_seconds, self.lasting_state_topic: None}
        return {topic: window for topic, window in topics.items() if topic is not None}

    @abstractmethod
    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take one record of a state partition, in the partition's order, before the first `process`.

        A value of None deletes. Two state topics are read side by side: their keys must differ.
        """

    @abstractmethod
    def process(self, records: Sequence[Record], now_us: int) -> Sequence[Output | OutputColumns]:
        """Process consecutive records of the input partition; `now_us` is the time in microseconds since the epoch."""

    @property
    def pending(self) -> bool:
        """Whether `process` is to be called even without records."""
        return False

    @property
    def source_progress(self) -> SourceProgress | None:
        """What a watermark may claim of this step's input; None for a step that reads no source."""
        return None

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:  # noqa: B027  # most have none
        """Take the partitions of each side input's topic, before any other call."""

    def needs_side_inputs(self, records: Sequence[Record]) -> bool:
        """Whether these records must wait for all that side inputs which are ahead hold by now."""
        return False

    def process_side_input(self, record: Record) -> None:
        """Take one record of a side input, in order per partition; after the state, between calls of `process`.

        The record may be delivered once more after the next assignment: its effect must be known from the step's state.
        """
        raise NotImplementedError(f"{type(self).__name__} declares no side inputs")

    def skip_mark(self) -> SkipMark | None:
        """None while records of the input are wanted; else `process` would make nothing of any of them.

        Then the input need not be read, and `skipped` is called with the result once all that was written before this
        call has been left unread.
        """
        return None

    def skipped(self, mark: SkipMark) -> None:  # noqa: B027  # most have nothing to remember
        """Take note that all input records written before `skip_mark` returned `mark` have been left unread."""


def single_outputs(outputs: Iterable[Output | OutputColumns]) -> list[Output]:
    """All outputs as single ones, in order."""
    single: list[Output] = []
    for output in outputs:
        if isinstance(output, OutputColumns):
            rows = zip(output.keys, output.values, output.header_rows(), strict=True)
            single += [Output(output.topic, key, value, headers) for key, value, headers in rows]
        else:
            single.append(output)
    return single


StepFactory = Callable[[str, int], Step]
"""Makes the step of an input partition, given its topic and partition number."""


def record_bytes(output: Output) -> int:
    """Upper bound of the bytes one output takes in Kafka before compression."""
    size = _RECORD_OVERHEAD_BYTES + len(output.key or b"") + len(output.value or b"")
    for name, value in output.headers:
        size += len(name) * 4 + len(value or b"") + 10
    return size
