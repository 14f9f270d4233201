"""How far a sink is behind its topics, and whether it has stalled."""

from __future__ import annotations

import time
from collections.abc import Iterable

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.metrics import LAG

MEASURE_SECONDS = 1.0
STALL_SECONDS = 60.0


class LagMeter:
    """Measures at most once per second how many records wait in Kafka."""

    def __init__(self, stage: str, topics: Iterable[str], consumer: AIOKafkaConsumer) -> None:
        self._stage = stage
        self._topics = sorted(topics)
        self._consumer = consumer
        self._read_at = self._measured_at = time.monotonic()
        self._lag = 0

    def problem(self) -> str | None:
        """Return what is wrong if records wait but none has been read for a minute; None otherwise."""
        if self._lag and time.monotonic() - self._read_at > STALL_SECONDS:
            return f"{self._stage}: {self._lag} records wait in Kafka, and none has been read for {STALL_SECONDS:.0f} s"
        return None

    async def measure(self, partitions: Iterable[TopicPartition], records_read: bool) -> None:
        """Update the lag of these partitions; `records_read` says whether the last fetch had any."""
        now = time.monotonic()
        self._read_at = now if records_read else self._read_at
        if now - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = now
        waiting = dict.fromkeys(self._topics, 0)
        for partition in partitions:
            end = self._consumer.last_stable_offset(partition) or 0
            waiting[partition.topic] += max(0, end - await self._consumer.position(partition))
        for topic, count in waiting.items():
            LAG.labels(self._stage, topic).set(count)
        self._lag = sum(waiting.values())
