"""The new lake: gives rebuilt records offsets of their own, and writes them in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fleetlake.ops.replay.topic_contents import RebuiltRecord
from schemas.consumed import Record
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import maintain
from sinks.delta.tables import Table
from sinks.settings import DeltaSettings
from sinks.writer import Slice

_BATCH_RECORDS = 100_000


class RebuiltLake:
    """Writes the tables of a lake in the data folder `into`. Each table is one partition of rebuilt records."""

    def __init__(self, into: Path, tables: Sequence[Table], batch_records: int = _BATCH_RECORDS) -> None:
        self._into = into
        self._tables = tuple(tables)
        self._batch_records = batch_records
        self._buffered: dict[str, list[Record]] = {table.topic: [] for table in tables}
        self._next: dict[str, int] = {table.topic: 0 for table in tables}
        ids = {table.topic: "replay" for table in tables}
        self._writer = LakeWriter(into, DeltaSettings(sync=False), ids, self._tables)
        self._writer.open()

    def has_table_of(self, topic: str) -> bool:
        """Whether records of this topic have a table in the new lake."""
        return topic in self._buffered

    def add(self, topic: str, timestamp_ms: int, key: bytes | None, value: bytes | None) -> None:
        """Buffer a record behind those added before, and write a full batch."""
        buffered = self._buffered[topic]
        offset = self._next[topic] + len(buffered)
        buffered.append(RebuiltRecord(topic, 0, offset, timestamp_ms, key, value))
        if len(buffered) >= self._batch_records:
            self._write(topic)

    def add_slice(self, topic: str, partition: int, records: list[Record]) -> None:
        """Write records at once, under the offsets that they have."""
        self._writer.write(topic, [Slice(partition, None, records[-1].offset + 1, records)])

    def flush(self) -> None:
        """Write all that is buffered."""
        for topic, buffered in self._buffered.items():
            if buffered:
                self._write(topic)

    def written(self, topic: str) -> int:
        """Number of records added to this topic's table and written."""
        return self._next[topic]

    def merge_files(self) -> None:
        """Merge the small files of all tables."""
        location = LakeLocation(str((self._into / "lake").resolve()))
        for table in self._tables:
            while maintain(location, table.name, DeltaSettings(compact_files=2), vacuum=False).merged:
                pass

    def _write(self, topic: str) -> None:
        records, first = self._buffered[topic], self._next[topic]
        self._next[topic] = first + len(records)
        self._writer.write(topic, [Slice(0, first or None, self._next[topic], records)])
        self._buffered[topic] = []
