"""A consumed Kafka record, as operators and sinks see it, independent of the client that read it (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Headers = Sequence[tuple[str, bytes | None]]


class Record(Protocol):
    """One consumed record; aiokafka's `ConsumerRecord` is one."""

    @property
    def topic(self) -> str:
        """The topic."""
        ...

    @property
    def partition(self) -> int:
        """The partition."""
        ...

    @property
    def offset(self) -> int:
        """The offset."""
        ...

    @property
    def timestamp(self) -> int:
        """When it was produced, in milliseconds since the epoch; -1 where Kafka had refused that time."""
        ...

    @property
    def key(self) -> bytes | None:
        """The device id."""
        ...

    @property
    def value(self) -> bytes | None:
        """The content; None is a tombstone."""
        ...

    @property
    def headers(self) -> Headers:
        """The headers, in order."""
        ...
