"""What a sink's consumer and its writer agree on: slices of partitions, stored offsets, two kinds of failure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from schemas.consumed import Record


class StaleWriter(Exception):
    """Another process has written these offsets meanwhile, so the buffered records must not be written here."""


class SinkError(RuntimeError):
    """The sink cannot continue without its operator; the message says what to do."""


@dataclass(slots=True)
class Slice:
    """Consecutive records of one partition.

    `stored` is the next offset that the writer has stored, None if it has stored none. `next` is the offset after the
    last record.
    """

    partition: int
    stored: int | None
    next: int
    records: list[Record]


class Writer(Protocol):
    """Store of rows and offsets. The consumer calls its methods from one thread, never two at a time."""

    def stored(self, topic: str, partitions: list[int]) -> dict[int, int | None]:
        """Return the next offset of each partition from a fresh snapshot.

        Raise SinkError if the topic is not the one that was written before.
        """

    def write(self, topic: str, slices: list[Slice]) -> None:
        """Write rows and offsets in one commit. Raise StaleWriter if a slice's `stored` is no longer what is stored."""
