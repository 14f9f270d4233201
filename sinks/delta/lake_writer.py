"""Writing rows to the lake's tables together with the offsets of their records.

In the same Delta commit as the rows, application transactions hold the next offset of every input partition under the
topic's id. A replayed batch is therefore recognised as written, and a zombie is refused. A record that cannot be read
goes to the table `dead_letters` under offsets of its own, written first, so that it too is there exactly once.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import ColumnProperties, CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from runtime.metrics import DEAD_LETTERS, HOP_SECONDS, PUBLISHED_AT, READINGS_OUT, RECORDS_IN, RECORDS_OUT
from schemas.consumed import Record
from sinks.delta.durability import sync_commits
from sinks.delta.location import LakeLocation
from sinks.delta.rows import Rows, dead_letter_rows, to_rows
from sinks.delta.table_setup import TableSetup
from sinks.delta.tables import ROW_GROUP_ROWS, TABLES, Table
from sinks.settings import DeltaSettings
from sinks.writer import Slice, StaleBatch

log = logging.getLogger(__name__)

STAGE = "delta"


class LakeWriter:
    """The tables of the lake as one process writes them; a `sinks.writer.Writer`. Used from one thread at a time."""

    def __init__(
        self, data_dir: Path, settings: DeltaSettings, ids: Mapping[str, str], tables: Sequence[Table] = TABLES
    ) -> None:
        """`ids` are the ids of the topics that feed `tables`."""
        self._settings = settings
        self._ids = ids
        self._setup = TableSetup(LakeLocation.of(data_dir, settings), settings, ids)
        self._by_topic = {table.topic: table for table in tables}
        self._dead_letters_table = next(table for table in tables if table.name == "dead_letters")
        self._tables: dict[str, DeltaTable] = {}

    def open(self) -> None:
        """Create missing tables and add new columns. Raise SinkError if a topic is not the one written before."""
        for table in self._by_topic.values():
            self._tables[table.name] = self._setup.open(table)

    @property
    def lake_id(self) -> str:
        """Return the id that the lake got when it was created; known once it is open."""
        first = next(iter(self._by_topic.values()))
        return str(self._tables[first.name].metadata().id)

    def stored(self, topic: str, partitions: list[int]) -> dict[int, int | None]:
        """Return the next offset of each partition from a fresh snapshot."""
        delta = self._fresh(self._by_topic[topic])
        return {partition: delta.transaction_version(self._app_id(topic, partition)) for partition in partitions}

    def write(self, topic: str, slices: list[Slice]) -> None:
        """Write rows and offsets in one commit. Raise StaleBatch if another process has written there meanwhile."""
        table = self._by_topic[topic]
        stored = self.stored(topic, [one.partition for one in slices])
        for one in slices:
            if (at := stored[one.partition]) != one.expected:
                raise StaleBatch(f"partition {one.partition} stands at {at}, expected {one.expected}")
        records = [record for one in slices for record in one.records]
        rows = to_rows(table, records)
        if rows.unreadable:
            self._write_unreadable(topic, rows.unreadable)
        self._commit(table, rows.table, [Transaction(self._app_id(topic, one.partition), one.next) for one in slices])
        _count(table, records, rows)

    def _write_unreadable(self, topic: str, unreadable: list[tuple[Record, str]]) -> None:
        """Write dead letters before the offsets advance, without those that an earlier attempt has written."""
        delta = self._fresh(self._dead_letters_table)
        written = {
            p: delta.transaction_version(self._app_id(topic, p, "/unreadable")) or 0
            for p, _ in _last_offsets(unreadable)
        }
        new = [(record, why) for record, why in unreadable if record.offset >= written[record.partition]]
        if not new:
            return
        offsets = [Transaction(self._app_id(topic, p, "/unreadable"), last + 1) for p, last in _last_offsets(new)]
        self._commit(self._dead_letters_table, dead_letter_rows(new), offsets)
        log.warning("%s: %d records of %s cannot be read: see dead_letters", STAGE, len(new), topic)

    def _commit(self, table: Table, rows: pa.Table, offsets: list[Transaction]) -> None:
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
                commit_properties=CommitProperties(app_transactions=offsets),
            )
        except CommitFailedError as error:
            raise StaleBatch(f"the commit was refused: {error}") from error
        if self._settings.sync:
            sync_commits(delta, before)

    def _fresh(self, table: Table) -> DeltaTable:
        delta = self._tables[table.name]
        delta.update_incremental()
        self._setup.check_topic(table, delta)
        return delta

    def _app_id(self, topic: str, partition: int, purpose: str = "") -> str:
        return app_id(topic, self._ids[topic], partition, purpose)


def app_id(topic: str, topic_id: str, partition: int, purpose: str = "") -> str:
    """Return the name of the Delta application transaction that holds the next offset of a partition."""
    return f"fleetlake/{topic}/{topic_id}/{partition}{purpose}"


def writer_properties(settings: DeltaSettings, table: Table) -> WriterProperties:
    """Return how a table's Parquet files are written."""
    packed = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    return WriterProperties(
        compression="ZSTD",
        compression_level=settings.compression_level,
        max_row_group_size=ROW_GROUP_ROWS,
        column_properties=dict.fromkeys(table.packed, packed),
    )


def _last_offsets(unreadable: Iterable[tuple[Record, str]]) -> list[tuple[int, int]]:
    """Return each partition with the last offset in it."""
    last: dict[int, int] = {}
    for record, _ in unreadable:
        last[record.partition] = max(record.offset, last.get(record.partition, -1))
    return list(last.items())


def _vendor(record: Record) -> str:
    """Return the vendor of the record's key, which is a device id; empty if it is none."""
    vendor, colon, _ = (record.key or b"").partition(b":")
    return vendor.decode(errors="replace") if colon else ""


def observe_ages(records: list[Record], rows: pa.Table, now: float) -> None:
    """Observe how old the messages are whose readings were written: since they were normalised, since their receipt."""
    normalised: dict[str, list[float]] = {}
    for record in records:
        normalised.setdefault(_vendor(record), []).append(now - record.timestamp / 1000)
    for vendor, ages in normalised.items():
        HOP_SECONDS.observe_all(("readings_table", vendor), ages)
    messages = rows.group_by(["vendor", "received_at", "origin_partition", "origin_offset"]).aggregate([])
    received: dict[str, list[float]] = {}
    times = pc.cast(messages["received_at"], pa.int64()).to_pylist()
    for vendor, at in zip(messages["vendor"].to_pylist(), times, strict=True):
        received.setdefault(vendor, []).append(now - at / 1_000_000)
    for vendor, ages in received.items():
        HOP_SECONDS.observe_all(("receipt_table", vendor), ages)


def _count(table: Table, records: list[Record], rows: Rows) -> None:
    for vendor, count in Counter(map(_vendor, records)).items():
        RECORDS_IN.labels(STAGE, vendor).inc(count)
        RECORDS_OUT.labels(STAGE, vendor).inc(count)
    if table.name == "readings":
        for entry in pc.value_counts(rows.table["vendor"]).to_pylist():
            READINGS_OUT.labels(STAGE, entry["values"]).inc(entry["counts"])
        observe_ages(records, rows.table, time.time())
    for record, _ in rows.unreadable:
        DEAD_LETTERS.labels(STAGE, _vendor(record)).inc()
    PUBLISHED_AT.labels(STAGE).set_to_current_time()
