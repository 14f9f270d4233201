"""`verify`: audits the lake against the records that Kafka still holds, and against itself.

Each record below the stored offset must have its rows in the table exactly once, or must be in `dead_letters` because
it could not be read. Where offsets are missing in Kafka (transaction markers, aborted records, compaction, retention)
nothing is expected. Rows whose records Kafka no longer holds are only compared with one another.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from aiokafka import TopicPartition
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from runtime.kafka import KafkaSettings, client_options
from runtime.topic_ids import topic_ids
from runtime.topic_reader import ReadLimits, Span, read_spans, spans_of, topic_consumer
from schemas.consumed import Record
from sinks.delta.audit import (
    OffsetRun,
    PartitionAudit,
    Problem,
    expected_rows,
    identity_of,
    offset_problems,
    offset_runs,
)
from sinks.delta.erasure import device_digest, erased_devices
from sinks.delta.lake_writer import app_id
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import live_files
from sinks.delta.log_repair import ADVICE, DamagedLog, damaged_files
from sinks.delta.tables import TABLES, Table

LIMITS = ReadLimits(batch_records=50_000)
SLACK_SECONDS = 3600
"""How long after its receipt a record may have come to its topic; `expire_days` counts from the receipt."""

MAX_DIFFERENCES = 100_000
"""Largest number of holes, or of doubles, that are listed per table."""

_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("identity", pa.string()),
        ("rows", pa.int64()),
        ("may_lack", pa.bool_()),
    ]
)

Unreadable = Mapping[tuple[str, int, int], int]
"""How often a record that the sink could not read is in the dead letters, by topic, partition and offset."""


async def verify(
    location: LakeLocation,
    kafka: KafkaSettings,
    tables: Sequence[Table] = TABLES,
    expire_days: Mapping[str, int] | None = None,
) -> tuple[list[PartitionAudit], list[Problem]]:
    """Audit the tables; return what was counted per partition, and what is wrong.

    This only reads, beside a running pipeline. Each table is compared as of one version, with the offsets stored in
    that version. Rows of erased devices, and rows older than `expire_days` of their table, may be missing. Raise
    RuntimeError for a topic that does not exist, aiokafka's errors if Kafka does not answer.
    """
    ids = await topic_ids(kafka, [table.topic for table in tables])
    audits: list[PartitionAudit] = []
    problems: list[Problem] = []
    unreadable = _unreadable(location)
    for table in tables:
        if damaged := _damaged_log(location, table.name):
            problems += damaged
            continue
        try:
            delta = location.open(table.name)
        except TableNotFoundError:
            problems.append(Problem("hole", table.name, "the table does not exist", table.topic))
            continue
        if missing := _missing_files(delta, location, table):
            problems += missing  # rows of missing files can be neither read nor counted
            continue
        async with _TableAudit(delta, table, unreadable, (expire_days or {}).get(table.name)) as audit:
            partitions = await audit.read_topic(kafka, ids[table.topic])
            audits += partitions
            problems += [problem for one in partitions for problem in one.problems] + audit.problems(partitions)
    return audits, problems


def _damaged_log(location: LakeLocation, table: str) -> list[Problem]:
    if location.local is None:
        return []
    try:
        return [Problem("log", table, f"{one}; {ADVICE}") for one in damaged_files(location.local / table)]
    except DamagedLog as error:
        return [Problem("log", table, str(error))]


def _missing_files(delta: DeltaTable, location: LakeLocation, table: Table) -> list[Problem]:
    files = live_files(delta)
    actual = location.files(table.name).get_file_info([file.path for file in files])
    problems = []
    for file, info in zip(files, actual, strict=True):
        if info.size != file.bytes:
            state = "is missing" if info.size is None else f"has {info.size} bytes"
            why = f"{file.path} ({file.rows} rows) {state}; the log says {file.bytes} bytes"
            problems.append(Problem("file", table.name, why))
    return problems


def _unreadable(location: LakeLocation) -> Unreadable:
    try:
        letters = location.open("dead_letters").to_pyarrow_dataset()
    except (TableNotFoundError, DamagedLog):
        return {}
    with duckdb.connect() as connection:
        connection.register("letters", letters)
        rows = connection.execute(
            "SELECT origin_topic, origin_partition, origin_offset, count(*) FROM letters WHERE stage = 'sink' "
            "GROUP BY ALL"
        ).fetchall()
    return {(topic, partition, offset): count for topic, partition, offset, count in rows}


class _TableAudit:
    """Compares one table with its topic, in a DuckDB of its own that may spill to disk."""

    def __init__(self, delta: DeltaTable, table: Table, unreadable: Unreadable, expire_days: int | None) -> None:
        self._delta = delta
        self._erased = erased_devices(delta)
        self._expired_ms = (time.time() - expire_days * 86_400 + SLACK_SECONDS) * 1000 if expire_days else 0
        self._table = table
        self._unreadable = unreadable
        self._spill = tempfile.TemporaryDirectory(prefix="fleetlake-verify-")
        self._sql = duckdb.connect(config={"temp_directory": self._spill.name})

    async def __aenter__(self) -> _TableAudit:
        self._sql.execute(
            'CREATE TABLE expected (partition INT, "offset" BIGINT, identity VARCHAR, rows BIGINT, may_lack BOOLEAN)'
        )
        identity = identity_of(self._table)
        lake = self._delta.to_pyarrow_dataset()
        self._sql.register("lake", lake.scanner(columns=list(identity.columns)).to_reader())
        only = "WHERE stage <> 'sink'" if self._table.name == "dead_letters" else ""
        self._sql.execute(
            f"CREATE TABLE actual AS SELECT {identity.sql} AS identity, count(*) AS rows FROM lake {only} GROUP BY ALL"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sql.close()
        self._spill.cleanup()

    async def read_topic(self, kafka: KafkaSettings, topic_id: str) -> list[PartitionAudit]:
        """Read the records below the stored offsets that the topic still holds, and return the partitions' counts."""
        async with topic_consumer(client_options(kafka), self._table.topic) as (consumer, partitions):
            spans = await spans_of(consumer, partitions)
            audits = {tp: self._partition_audit(tp, span, topic_id) for tp, span in spans.items()}
            for one in audits.values():
                one.problems += offset_problems(one)
            stored = {tp: Span(one.begin, min(one.stored or 0, one.end)) for tp, one in audits.items()}
            async for batch in read_spans(consumer, stored, LIMITS):
                self._expect(batch.records, audits[batch.partition])
            return list(audits.values())

    def _partition_audit(self, partition: TopicPartition, span: Span, topic_id: str) -> PartitionAudit:
        stored = self._stored(partition, topic_id)
        return PartitionAudit(self._table.name, partition.topic, partition.partition, span.start, span.end, stored)

    def _stored(self, partition: TopicPartition, topic_id: str) -> int | None:
        stored: int | None = self._delta.transaction_version(app_id(partition.topic, topic_id, partition.partition))
        return stored

    def _expect(self, records: Sequence[Record], audit: PartitionAudit) -> None:
        expected = [expected_rows(self._table, record) for record in records]
        audit.records += len(expected)
        audit.rows += sum(one.rows for one in expected)
        columns = [list(column) for column in zip(*expected, strict=True)] or [[], [], [], []]
        columns.append([self._may_lack_rows(record) for record in records])
        rows = pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
        )
        self._sql.register("more", rows)
        self._sql.execute("INSERT INTO expected SELECT * FROM more")

    def _may_lack_rows(self, record: Any) -> bool:
        if record.timestamp < self._expired_ms:
            return True
        return bool(self._erased) and device_digest(record.key or b"") in self._erased

    def problems(self, audits: list[PartitionAudit]) -> list[Problem]:
        """Return where table and topic disagree."""
        return [
            *self._differences("hole"),
            *self._differences("double"),
            *self._unreadable_problems(),
            *self._extra_rows(audits),
        ]

    def _differences(self, kind: str) -> list[Problem]:
        sign = "<" if kind == "hole" else ">"
        rows = self._sql.execute(
            f"""
SELECT partition, "offset", e.rows, coalesce(a.rows, 0) FROM (
  SELECT identity, sum(rows) AS rows, min(partition) AS partition, min("offset") AS "offset",
    bool_or(may_lack) AS may_lack
  FROM expected WHERE identity IS NOT NULL GROUP BY identity
) e LEFT JOIN actual a USING (identity)
WHERE coalesce(a.rows, 0) {sign} e.rows AND (a.rows > e.rows OR NOT may_lack) ORDER BY ALL LIMIT {MAX_DIFFERENCES}"""
        ).fetchall()
        off = [
            (partition, offset, abs(expected - actual))
            for partition, offset, expected, actual in rows
            if not (kind == "hole" and not actual and (self._table.topic, partition, offset) in self._unreadable)
        ]
        word = "missing" if kind == "hole" else "too many"
        return [
            self._problem(kind, run, f"{run.rows} rows of {run.records} records {word}") for run in offset_runs(off)
        ]

    def _unreadable_problems(self) -> list[Problem]:
        """Return the records that cannot be read and are not exactly once in the dead letters."""
        rows = self._sql.execute(
            'SELECT partition, "offset" FROM expected WHERE identity IS NULL AND NOT may_lack ORDER BY ALL'
        ).fetchall()
        counts = [(p, offset, self._unreadable.get((self._table.topic, p, offset), 0)) for p, offset in rows]
        detail = "a record that cannot be read is in dead_letters {} times"
        return [
            self._problem("hole" if times == 0 else "double", OffsetRun(p, offset, offset), detail.format(times))
            for p, offset, times in counts
            if times != 1
        ]

    def _extra_rows(self, audits: list[PartitionAudit]) -> list[Problem]:
        """Return rows of records that Kafka does not hold, unless Kafka has deleted records already."""
        if self._table.name == "devices":  # a compacted topic: registry records vanish one by one
            return []
        rows = self._sql.execute(
            "SELECT identity, a.rows FROM actual a ANTI JOIN expected e USING (identity) ORDER BY ALL LIMIT 100"
        ).fetchall()
        if not rows or any(one.begin > 0 for one in audits):
            return []
        return [
            Problem("extra", self._table.name, f"{count} rows of {identity}, which is no record", count=count)
            for identity, count in rows
        ]

    def _problem(self, kind: str, run: OffsetRun, detail: str) -> Problem:
        table, topic = self._table.name, self._table.topic
        return Problem(kind, table, detail, topic, run.partition, run.first, run.last, run.rows)
