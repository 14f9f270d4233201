"""The Delta sink: topics to the lake's tables, each record's rows exactly once (docs/adr/0010-lake-layout.md)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition

from runtime.health import Health
from runtime.kafka import KafkaSettings
from sinks.buffers import Bounds
from sinks.consumer import SinkConsumer, Subscription
from sinks.delta.lake_writer import STAGE, LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.schedule import MaintenanceSchedule
from sinks.delta.tables import TABLES, Table, raw_tables
from sinks.delta.topic_ids import topic_ids
from sinks.settings import DeltaSettings


@dataclass(frozen=True, slots=True)
class DeltaSink:
    """Writes topics to the lake of a data folder, or of the URL in `settings`, and maintains its tables."""

    settings: DeltaSettings
    kafka: KafkaSettings
    data_dir: Path
    tables: tuple[Table, ...] = TABLES

    async def run(self, stop: asyncio.Event, health: Health) -> None:
        """Write until `stop` is set; what is buffered then is written too.

        Several processes share the work as consumer group `<application_id>-delta`. Each record's rows are in the lake
        exactly once, even if processes are killed, frozen or rebalanced. Raise SinkError if offsets and topics do not
        belong together, RuntimeError if a topic does not exist. Any other error is one of Kafka's or the lake's, and
        starting again is safe.
        """
        tables = self._tables()
        ids = await topic_ids(self.kafka, [table.topic for table in tables])
        writer = LakeWriter(self.data_dir, self.settings, ids, tables)
        await asyncio.to_thread(writer.open)
        consumer = SinkConsumer(self._subscription(tables), self.kafka, writer)
        health.live.append(consumer.problem)
        health.ready.append(lambda: None if consumer.joined else f"{STAGE}: waiting for partitions to be assigned")
        maintenance = asyncio.create_task(self._maintenance(consumer, tables).run())
        try:
            await consumer.run(stop)
        finally:
            maintenance.cancel()
            await asyncio.gather(maintenance, return_exceptions=True)

    def _tables(self) -> tuple[Table, ...]:
        return (*self.tables, *raw_tables()) if self.settings.raw else self.tables

    def _subscription(self, tables: tuple[Table, ...]) -> Subscription:
        bounds = Bounds(self.settings.flush_seconds, self.settings.flush_records, self.settings.flush_bytes)
        topics = tuple(table.topic for table in tables)
        return Subscription(STAGE, topics, f"{self.kafka.application_id}-{STAGE}", bounds)

    def _maintenance(self, consumer: SinkConsumer, tables: tuple[Table, ...]) -> MaintenanceSchedule:
        """Maintain each table in the process that reads the first partition of its topic."""

        def owned() -> set[str]:
            return {table.name for table in tables if TopicPartition(table.topic, 0) in consumer.assignment}

        return MaintenanceSchedule(LakeLocation.of(self.data_dir, self.settings), self.settings, owned)
