"""A Kafka record without Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.topics import READINGS

DEVICE = "karcher:1.454-500.0/002005"
WRITTEN_MS = 1795262400000


@dataclass(frozen=True)
class ConsumedRecord:
    """What a consumer gives, as far as the product reads it."""

    topic: str
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = 0
    partition: int = 0
    headers: Sequence[tuple[str, bytes | None]] = ()


def record_of(
    value: bytes | None,
    offset: int = 0,
    topic: str = READINGS,
    key: bytes | None = DEVICE.encode(),
    headers: Sequence[tuple[str, bytes | None]] = (),
) -> ConsumedRecord:
    """A record of the sample device, for tests to which only the value matters."""
    return ConsumedRecord(topic, offset, key, value, WRITTEN_MS, headers=headers)
