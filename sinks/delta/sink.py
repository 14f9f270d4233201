"""The Delta sink: topics to the lake's tables, each record's rows exactly once (docs/adr/0010-lake-layout.md)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition

from runtime.health import Health
from runtime.kafka import KafkaSettings, client_options
from runtime.resources import BUFFER_BYTES
from runtime.topic_ids import topic_states
from runtime.topic_watch import TopicWatch, Watcher
from sinks.buffers import Bounds
from sinks.consumer import SinkConsumer, Subscription
from sinks.delta.lake_writer import STAGE, LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.schedule import MaintenanceSchedule
from sinks.delta.tables import TABLES, Table, raw_tables
from sinks.settings import DeltaSettings
from sinks.writer import SinkError

_WATCHER = Watcher(
    "the sink",
    SinkError,
    "Use another data folder, or set accept_new_topics = true in [sink.delta] to append the new topic's records from "
    "their start.",
    "starting again to read the new ones",
)


@dataclass(frozen=True, slots=True)
class DeltaSink:
    """Writes topics to the lake of a data folder, or of the URL in `settings`, and maintains its tables."""

    settings: DeltaSettings
    kafka: KafkaSettings
    data_dir: Path
    tables: tuple[Table, ...] = TABLES
    buffer_bytes: int = BUFFER_BYTES
    """Bytes of records that the process may hold: half of it, of what is read and what is being written each."""

    async def run(self, stop: asyncio.Event, health: Health) -> None:
        """Write until `stop` is set; what is buffered then is written too.

        The processes of one lake share the work as consumer group `<application_id>-delta-<lake's id>`. Each record's
        rows are in the lake exactly once, even if processes are killed, frozen or rebalanced. Raise SinkError if
        offsets and topics do not belong together, at the start or later, RuntimeError if a topic does not exist or
        gets more partitions. Any other error is one of Kafka's or the lake's, and starting again is safe.
        """
        tables = self._tables()
        topics = await topic_states(self.kafka, [table.topic for table in tables])
        writer = LakeWriter(self.data_dir, self.settings, {name: topic.id for name, topic in topics.items()}, tables)
        await asyncio.to_thread(writer.open)
        watch = TopicWatch(client_options(self.kafka), topics, _WATCHER)
        consumer = SinkConsumer(self._subscription(tables, writer.lake_id), self.kafka, writer, watch)
        health.live.append(consumer.problem)
        health.ready.append(lambda: None if consumer.joined else f"{STAGE}: waiting for partitions to be assigned")
        maintenance = asyncio.create_task(self._maintenance(consumer, tables).run())
        try:
            await consumer.run(stop)
        finally:
            await watch.close()
            maintenance.cancel()
            await asyncio.gather(maintenance, return_exceptions=True)

    def _tables(self) -> tuple[Table, ...]:
        return (*self.tables, *raw_tables()) if self.settings.raw else self.tables

    def _subscription(self, tables: tuple[Table, ...], lake_id: str) -> Subscription:
        """A lake has a group of its own: two lakes in one group would each get a part of the rows."""
        settings, total = self.settings, self.buffer_bytes // 4
        bounds = Bounds(settings.flush_seconds, settings.flush_records, settings.flush_bytes, total)
        topics = tuple(table.topic for table in tables)
        return Subscription(STAGE, topics, f"{self.kafka.application_id}-{STAGE}-{lake_id[:13]}", bounds)

    def _maintenance(self, consumer: SinkConsumer, tables: tuple[Table, ...]) -> MaintenanceSchedule:
        """Maintain each table in the process that reads the first partition of its topic."""

        def owned() -> set[str]:
            return {table.name for table in tables if TopicPartition(table.topic, 0) in consumer.assignment}

        return MaintenanceSchedule(LakeLocation.of(self.data_dir, self.settings), self.settings, owned)
