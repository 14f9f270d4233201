"""Kafka's default partitioner."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2


@lru_cache(maxsize=100_000)
def partition_of(key: bytes, count: int) -> int:
    """The partition of a key among `count`. A device has the same number on every topic of as many partitions."""
    number: int = (murmur2(key) & 0x7FFFFFFF) % count
    return number
