"""What a sink's consumer and its writer agree on: slices of partitions, stored offsets, two kinds of failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.consumed import Record


class StaleBatch(Exception):
    """Another process has written these offsets meanwhile: the batch is not ours to write."""


class SinkError(RuntimeError):
    """The sink cannot continue without its operator; the message says what to do."""


@dataclass(slots=True)
class Slice:
    """Consecutive records of one partition.

    `expected` is the next offset that is stored when this slice's turn comes, None if none is. `next` is the offset
    after the last record.
    """

    partition: int
    expected: int | None
    next: int
    records: list[Record]


class Writer(Protocol):
    """Store of rows and offsets. The consumer calls its methods from one thread, never two at a time."""

    def stored(self, topic: str, partitions: list[int]) -> dict[int, int | None]:
        """Return the next offset of each partition from a fresh snapshot.

        Raise SinkError if the topic is not the one that was written before.
        """

    def write(self, topic: str, slices: list[Slice]) -> None:
        """Write rows and offsets in one commit. Raise StaleBatch unless each slice's `expected` is what is stored."""
