"""The Delta sink: topics to the lake's tables, each record's rows exactly once (design decisions 3 and 5).

In the same Delta commit as the rows, application transactions hold the next offset of every input partition, under
the topic's id: a replay finds itself already written, a zombie is refused. A record that cannot be read goes to the
table `dead_letters` under offsets of its own, written first, so that it too is there once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
from aiokafka import TopicPartition
from deltalake import (
    ColumnProperties,
    CommitProperties,
    DeltaTable,
    Field,
    Schema,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.metrics import DEAD_LETTERS, PUBLISHED_AT, READINGS_OUT, RECORDS_IN, RECORDS_OUT
from schemas.consumed import Record
from sinks.consumer import Bounds, SinkConsumer, SinkError, Slice, StaleWriter
from sinks.delta.location import LakeLocation, sync_commits
from sinks.delta.maintenance import LOG_CLEANUP, ROW_GROUP_ROWS, Contended, tidy
from sinks.delta.rows import Rows, dead_letters, to_rows
from sinks.delta.tables import TABLES, Table, raw_tables
from sinks.delta.topic_ids import topic_ids
from sinks.settings import DeltaSettings

log = logging.getLogger(__name__)

STAGE = "delta"
TOPIC_ID = "fleetlake.topic_id"


async def run_delta_sink(
    settings: DeltaSettings,
    kafka: KafkaSettings,
    data_dir: Path,
    stop: asyncio.Event,
    health: Health,
    tables: Sequence[Table] = TABLES,
) -> None:
    """Write the normalised topics to the lake until `stop` is set; what is buffered then is written too.

    Several processes share the work as consumer group `<application_id>-delta`. Each record's rows are in the lake
    exactly once, whatever is killed, frozen or rebalanced. SinkError where offsets and topics do not belong
    together; any other error is one of Kafka's or the lake's, and starting again is safe.
    """
    if settings.raw:
        tables = [*tables, *raw_tables()]
    ids = await topic_ids(kafka, [table.topic for table in tables])
    lake = Lake(data_dir, settings, ids, tables)
    await asyncio.to_thread(lake.open)
    consumer = SinkConsumer(
        STAGE,
        ids,
        f"{kafka.application_id}-{STAGE}",
        kafka,
        lake,
        Bounds(settings.flush_seconds, settings.flush_records, settings.flush_bytes),
    )
    health.live.append(consumer.problem)
    health.ready.append(lambda: None if consumer.joined else f"{STAGE}: waiting for its share of the partitions")
    tidy = asyncio.create_task(_keep_tidy(settings, data_dir, consumer, tables))
    try:
        await consumer.run(stop)
    finally:
        tidy.cancel()
        await asyncio.gather(tidy, return_exceptions=True)


class Lake:
    """The tables of the lake as one writer sees them. Used from one thread at a time."""

    def __init__(
        self, data_dir: Path, settings: DeltaSettings, ids: dict[str, str], tables: Sequence[Table] = TABLES
    ) -> None:
        self._location = LakeLocation.of(data_dir, settings)
        self._settings = settings
        self._ids = ids
        self._by_topic = {table.topic: table for table in tables}
        self._dead_letters = next(table for table in tables if table.name == "dead_letters")
        self._tables: dict[str, DeltaTable] = {}

    def open(self) -> None:
        """Create the tables that are missing, add columns that are new. SinkError if a topic is not the one written
        so far.
        """
        for table in self._by_topic.values():
            self._tables[table.name] = self._open(table)

    def stored(self, topic: str, partitions: list[int]) -> dict[int, int | None]:
        """The next offset of each partition, from a fresh snapshot."""
        delta = self._fresh(self._by_topic[topic])
        return {partition: delta.transaction_version(self._app_id(topic, partition)) for partition in partitions}

    def write(self, topic: str, slices: list[Slice]) -> None:
        """Rows and offsets in one commit; StaleWriter if somebody else has written there meanwhile."""
        table = self._by_topic[topic]
        stored = self.stored(topic, [one.partition for one in slices])
        for one in slices:
            if stored[one.partition] != one.stored:
                raise StaleWriter(f"partition {one.partition} stands at {stored[one.partition]}, expected {one.stored}")
        records = [record for one in slices for record in one.records]
        rows = to_rows(table, records)
        if rows.poison:
            self._write_poison(topic, rows.poison)
        self._commit(table, rows.table, [Transaction(self._app_id(topic, one.partition), one.next) for one in slices])
        _count(table, records, rows)

    def _write_poison(self, topic: str, poison: list[tuple[Record, str]]) -> None:
        """Before the offsets move on; what an earlier attempt has written is left out by offsets of its own."""
        delta = self._fresh(self._dead_letters)
        done = {
            p: delta.transaction_version(self._app_id(topic, p, "/unreadable")) or 0 for p, _ in _partitions(poison)
        }
        new = [(record, why) for record, why in poison if record.offset >= done[record.partition]]
        if not new:
            return
        moved = [Transaction(self._app_id(topic, p, "/unreadable"), offset + 1) for p, offset in _partitions(new)]
        self._commit(self._dead_letters, dead_letters(new), moved)
        log.warning("%s: %d records of %s cannot be read: see dead_letters", STAGE, len(new), topic)

    def _commit(self, table: Table, rows: pa.Table, moved: list[Transaction]) -> None:
        delta = self._tables[table.name]
        known = {field.name for field in delta.schema().fields}
        before = delta.version()
        try:
            write_deltalake(
                delta,
                rows,
                mode="append",
                schema_mode="merge" if known != set(rows.column_names) else None,  # a newer sink has added a column
                writer_properties=writer_properties(self._settings, table),
                commit_properties=CommitProperties(app_transactions=moved),
            )
        except CommitFailedError as error:
            raise StaleWriter(f"the commit was refused: {error}") from error
        if self._settings.sync:
            sync_commits(delta, before)

    def _fresh(self, table: Table) -> DeltaTable:
        delta = self._tables[table.name]
        delta.update_incremental()
        self._check_topic(table, delta)
        return delta

    def _open(self, table: Table) -> DeltaTable:
        delta = self._create(table)
        before = delta.version() if delta.version() else -1  # what made the table is synced like a commit
        known = {field.name for field in delta.schema().fields}
        missing = [field for field in Schema.from_arrow(table.schema).fields if field.name not in known]
        if missing:
            delta.alter.add_columns([Field(field.name, field.type, nullable=True) for field in missing])
            delta.update_incremental()
        if delta.metadata().configuration.get(LOG_CLEANUP) != "false":
            delta.alter.set_table_properties({LOG_CLEANUP: "false"}, raise_if_not_exists=False)
            delta.update_incremental()
        written = self._topic_of(table, delta)
        if (self._settings.accept_new_topics or not written) and written != self._ids[table.topic]:
            if written:
                log.warning("%s: table %s goes on with the new topic %s", STAGE, table.name, table.topic)
            delta.alter.set_table_properties({_property(table): self._ids[table.topic]}, raise_if_not_exists=False)
            delta.update_incremental()
        if self._settings.sync:
            sync_commits(delta, before)
        self._check_topic(table, delta)
        return delta

    def _create(self, table: Table) -> DeltaTable:
        try:
            return self._location.open(table.name)
        except TableNotFoundError:
            pass
        try:
            return DeltaTable.create(
                self._location.uri(table.name),
                table.schema,
                storage_options=dict(self._location.options) or None,
                partition_by=list(table.partition_by),
                name=table.name,
                description=table.comment,
                configuration={
                    _property(table): self._ids[table.topic],
                    "delta.logRetentionDuration": f"interval {self._settings.log_retention_hours} hours",
                    LOG_CLEANUP: "false",
                    "delta.deletedFileRetentionDuration": f"interval {self._settings.retention_hours} hours",
                },
                raise_if_key_not_exists=False,
            )
        except DeltaError:  # another process was quicker
            return self._location.open(table.name)

    def _topic_of(self, table: Table, delta: DeltaTable) -> str:
        unknown = "" if _property(table) != TOPIC_ID else str(UUID(int=0))
        return str(delta.metadata().configuration.get(_property(table), unknown))

    def _check_topic(self, table: Table, delta: DeltaTable) -> None:
        written, found = self._topic_of(table, delta), self._ids[table.topic]
        if written != found:
            path = self._location.uri(table.name)
            raise SinkError(
                f"topic {table.topic} (id {found}) is not the one that {path} was written from (id {written}): "
                "it was deleted and created again, or this is another cluster. Use another data folder, or set "
                "accept_new_topics = true in [sink.delta] to append the new topic's records from their start."
            )

    def _app_id(self, topic: str, partition: int, purpose: str = "") -> str:
        return app_id(topic, self._ids[topic], partition, purpose)


def app_id(topic: str, topic_id: str, partition: int, purpose: str = "") -> str:
    """The Delta application transaction that holds the next offset of a partition."""
    return f"fleetlake/{topic}/{topic_id}/{partition}{purpose}"


def _property(table: Table) -> str:
    """The table property that says which topic it was written from; `raw` has one a topic."""
    return TOPIC_ID if table.record is not None else f"{TOPIC_ID}.{table.topic}"


def writer_properties(settings: DeltaSettings, table: Table) -> WriterProperties:
    """How Parquet files are written; row groups small enough that a sorted file can be read in part."""
    packed = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    return WriterProperties(
        compression="ZSTD",
        compression_level=settings.compression_level,
        max_row_group_size=ROW_GROUP_ROWS,
        column_properties=dict.fromkeys(table.packed, packed),
    )


def _partitions(poison: Iterable[tuple[Record, str]]) -> list[tuple[int, int]]:
    """Each partition with the last offset in it."""
    last: dict[int, int] = {}
    for record, _ in poison:
        last[record.partition] = max(record.offset, last.get(record.partition, -1))
    return list(last.items())


def _vendor(record: Record) -> str:
    """From the key, which is a device id; empty where it is none."""
    vendor, colon, _ = (record.key or b"").partition(b":")
    return vendor.decode(errors="replace") if colon else ""


def _count(table: Table, records: list[Record], rows: Rows) -> None:
    for vendor, count in Counter(map(_vendor, records)).items():
        RECORDS_IN.labels(STAGE, vendor).inc(count)
        RECORDS_OUT.labels(STAGE, vendor).inc(count)
    if table.name == "readings":
        for entry in pc.value_counts(rows.table["vendor"]).to_pylist():
            READINGS_OUT.labels(STAGE, entry["values"]).inc(entry["counts"])
    for record, _ in rows.poison:
        DEAD_LETTERS.labels(STAGE, _vendor(record)).inc()
    PUBLISHED_AT.labels(STAGE).set_to_current_time()


async def _keep_tidy(settings: DeltaSettings, data_dir: Path, consumer: SinkConsumer, tables: Sequence[Table]) -> None:
    """Upkeep on a schedule. The owner of a topic's first partition does it: one process at a time, bar a moment after
    a rebalance, when two may, which costs work but no row (see `sinks.delta.maintenance`).

    It runs in a thread of low priority, so that writing and committing offsets go on beside it.
    """
    location = LakeLocation.of(data_dir, settings)
    loop = asyncio.get_running_loop()
    vacuumed_at = time.monotonic()
    thread = ThreadPoolExecutor(1, thread_name_prefix=f"{STAGE}-upkeep", initializer=_yield_to_others)
    try:
        while True:
            await asyncio.sleep(settings.maintenance_seconds)
            vacuum = time.monotonic() - vacuumed_at >= settings.vacuum_seconds
            vacuumed_at = time.monotonic() if vacuum else vacuumed_at
            for name in {table.name for table in tables if TopicPartition(table.topic, 0) in consumer.assignment}:
                try:
                    await loop.run_in_executor(thread, tidy, location, name, settings, vacuum)
                except (DeltaError, Contended, OSError) as error:
                    log.warning("%s: table %s was not tidied, it will be tried again: %s", STAGE, name, error)
    finally:
        thread.shutdown(wait=False, cancel_futures=True)  # a merge that is cut off leaves a file for the next vacuum


def _yield_to_others() -> None:
    with suppress(OSError, AttributeError):  # a thread's own priority is Linux's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
