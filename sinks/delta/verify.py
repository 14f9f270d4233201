"""`verify`: recounts the lake against the records that Kafka still holds, and against itself.

Each record below the stored offset has to have its rows in the table exactly once, or to be in `dead_letters` because
it could not be read. Where offsets are missing in Kafka (transaction markers, aborted records, compaction, retention)
nothing is expected. Rows whose records Kafka has let go are held against one another only.
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
from runtime.topic_reader import ReadLimits, Span, read_spans, spans_of, topic_consumer
from schemas.consumed import Record
from sinks.delta.audit import Problem, Recount, expected, identity_columns, identity_sql, runs
from sinks.delta.location import LakeLocation
from sinks.delta.log_repair import ADVICE, TornLog, torn
from sinks.delta.maintenance import device_digest, erased_devices, live_files
from sinks.delta.sink import app_id
from sinks.delta.tables import TABLES, Table
from sinks.delta.topic_ids import topic_ids

LIMITS = ReadLimits(batch_records=50_000)
SLACK_SECONDS = 3600
"""A record may have come to its topic so long after it was received, which is what `expire_days` counts from."""

WORST = 100_000
"""So many holes or doubles of a table are looked at one by one."""

_SCHEMA = pa.schema(
    [
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("identity", pa.string()),
        ("rows", pa.int64()),
        ("let_go", pa.bool_()),
    ]
)


async def verify(
    location: LakeLocation,
    kafka: KafkaSettings,
    tables: Sequence[Table] = TABLES,
    expire_days: Mapping[str, int] | None = None,
) -> tuple[list[Recount], list[Problem]]:
    """Recount the tables; what was counted of each partition, and what is wrong.

    Reads only, beside a running pipeline: each table is judged as of one version, with the offsets stored in that
    version. Rows of devices that were erased, or older than `expire_days` of their table, may be missing. Raises
    RuntimeError for a topic that is not there, aiokafka's errors where Kafka does not answer.
    """
    ids = await topic_ids(kafka, [table.topic for table in tables])
    counted: list[Recount] = []
    problems: list[Problem] = []
    unreadable = _unreadable(location)
    for table in tables:
        if broken := _torn(location, table.name):
            problems += broken
            continue
        try:
            delta = location.open(table.name)
        except TableNotFoundError:
            problems.append(Problem("hole", table.name, "the table is not there", table.topic))
            continue
        if damaged := _missing_files(delta, location, table):
            problems += damaged  # its rows cannot be read, and so not be counted
            continue
        async with _Comparison(delta, table, unreadable, (expire_days or {}).get(table.name)) as comparison:
            found = await comparison.with_kafka(kafka, ids[table.topic])
            counted += found
            problems += [problem for one in found for problem in one.problems] + comparison.problems(found)
    return counted, problems


def _torn(location: LakeLocation, table: str) -> list[Problem]:
    if location.local is None:
        return []
    try:
        return [Problem("log", table, f"{one}; {ADVICE}") for one in torn(location.local / table)]
    except TornLog as error:
        return [Problem("log", table, str(error))]


def _missing_files(delta: DeltaTable, location: LakeLocation, table: Table) -> list[Problem]:
    files = live_files(delta)
    found = location.files(table.name).get_file_info([file.path for file in files])
    problems = []
    for file, info in zip(files, found, strict=True):
        if info.size != file.bytes:
            there = "gone" if info.size is None else f"of {info.size} bytes"
            why = f"{file.path} ({file.rows} rows) is {there}; the log says {file.bytes} bytes"
            problems.append(Problem("file", table.name, why))
    return problems


def _unreadable(location: LakeLocation) -> Mapping[tuple[str, int, int], int]:
    """How often each record that the sink could not read is in the dead letters, by topic, partition and offset."""
    try:
        letters = location.open("dead_letters").to_pyarrow_dataset()
    except (TableNotFoundError, TornLog):
        return {}
    with duckdb.connect() as connection:
        connection.register("letters", letters)
        rows = connection.execute(
            "SELECT origin_topic, origin_partition, origin_offset, count(*) FROM letters WHERE stage = 'sink' "
            "GROUP BY ALL"
        ).fetchall()
    return {(topic, partition, offset): count for topic, partition, offset, count in rows}


class _Comparison:
    """One table beside its topic, in a DuckDB of its own that may spill to disk."""

    def __init__(
        self,
        delta: DeltaTable,
        table: Table,
        unreadable: Mapping[tuple[str, int, int], int],
        expire_days: int | None,
    ) -> None:
        self._delta = delta
        self._erased = erased_devices(delta)
        self._expired_ms = (time.time() - expire_days * 86_400 + SLACK_SECONDS) * 1000 if expire_days else 0
        self._table = table
        self._unreadable = unreadable
        self._spill = tempfile.TemporaryDirectory(prefix="fleetlake-verify-")
        self._sql = duckdb.connect(config={"temp_directory": self._spill.name})

    async def __aenter__(self) -> _Comparison:
        self._sql.execute(
            'CREATE TABLE expected (partition INT, "offset" BIGINT, identity VARCHAR, rows BIGINT, let_go BOOLEAN)'
        )
        lake = self._delta.to_pyarrow_dataset()
        self._sql.register("lake", lake.scanner(columns=identity_columns(self._table)).to_reader())
        only = "WHERE stage <> 'sink'" if self._table.name == "dead_letters" else ""
        self._sql.execute(
            f"CREATE TABLE actual AS SELECT {identity_sql(self._table)} AS identity, count(*) AS rows FROM lake {only} "
            "GROUP BY ALL"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._sql.close()
        self._spill.cleanup()

    async def with_kafka(self, kafka: KafkaSettings, topic_id: str) -> list[Recount]:
        """Read what the topic holds of what is stored."""
        async with topic_consumer(client_options(kafka), self._table.topic) as (consumer, partitions):
            spans = await spans_of(consumer, partitions)
            counted = {
                tp: Recount(self._table.name, tp.topic, tp.partition, span.start, span.end, self._stored(tp, topic_id))
                for tp, span in spans.items()
            }
            for one in counted.values():
                one.problems += _of_offsets(one)
            stored = {tp: Span(one.begin, min(one.stored or 0, one.end)) for tp, one in counted.items()}
            async for batch in read_spans(consumer, stored, LIMITS):
                self._expect(batch.records, counted[batch.partition])
            return list(counted.values())

    def _stored(self, partition: TopicPartition, topic_id: str) -> int | None:
        stored: int | None = self._delta.transaction_version(app_id(partition.topic, topic_id, partition.partition))
        return stored

    def _expect(self, records: Sequence[Record], one: Recount) -> None:
        found = [expected(self._table, record) for record in records]
        one.records += len(found)
        one.rows += sum(each.rows for each in found)
        columns = [list(column) for column in zip(*found, strict=True)] or [[], [], [], []]
        columns.append([self._let_go(record) for record in records])
        rows = pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA
        )
        self._sql.register("more", rows)
        self._sql.execute("INSERT INTO expected SELECT * FROM more")

    def _let_go(self, record: Any) -> bool:
        """Whether its rows may be missing."""
        if record.timestamp < self._expired_ms:
            return True
        return bool(self._erased) and device_digest(record.key or b"") in self._erased

    def problems(self, counted: list[Recount]) -> list[Problem]:
        """What does not agree."""
        return [*self._differences("hole"), *self._differences("double"), *self._unread(), *self._beyond(counted)]

    def _differences(self, kind: str) -> list[Problem]:
        sign = "<" if kind == "hole" else ">"
        rows = self._sql.execute(
            f"""
SELECT partition, "offset", e.rows, coalesce(a.rows, 0) FROM (
  SELECT identity, sum(rows) AS rows, min(partition) AS partition, min("offset") AS "offset", bool_or(let_go) AS let_go
  FROM expected WHERE identity IS NOT NULL GROUP BY identity
) e LEFT JOIN actual a USING (identity)
WHERE coalesce(a.rows, 0) {sign} e.rows AND (a.rows > e.rows OR NOT let_go) ORDER BY ALL LIMIT {WORST}"""
        ).fetchall()
        off = [
            (partition, offset, abs(want - found))
            for partition, offset, want, found in rows
            if not (kind == "hole" and not found and (self._table.topic, partition, offset) in self._unreadable)
        ]
        word = "missing" if kind == "hole" else "too many"
        return [
            self._problem(kind, p, first, last, f"{rows_off} rows of {records} records {word}", rows_off)
            for p, first, last, records, rows_off in runs(off)
        ]

    def _unread(self) -> list[Problem]:
        """Records that cannot be read have to be in the dead letters, once."""
        rows = self._sql.execute(
            'SELECT partition, "offset" FROM expected WHERE identity IS NULL AND NOT let_go ORDER BY ALL'
        ).fetchall()
        found = [(p, offset, self._unreadable.get((self._table.topic, p, offset), 0)) for p, offset in rows]
        said = "a record that cannot be read is in dead_letters {} times"
        return [
            self._problem("hole" if times == 0 else "double", p, offset, offset, said.format(times), 1)
            for p, offset, times in found
            if times != 1
        ]

    def _beyond(self, counted: list[Recount]) -> list[Problem]:
        """Rows of records that Kafka does not hold: none may be there if nothing has gone from Kafka yet."""
        if self._table.name == "devices":  # compacted: registry records go one by one
            return []
        rows = self._sql.execute(
            "SELECT identity, a.rows FROM actual a ANTI JOIN expected e USING (identity) ORDER BY ALL LIMIT 100"
        ).fetchall()
        if not rows or any(one.begin > 0 for one in counted):
            return []
        return [
            Problem("extra", self._table.name, f"{count} rows of {identity}, which is no record", count=count)
            for identity, count in rows
        ]

    def _problem(self, kind: str, partition: int, first: int, last: int, detail: str, count: int) -> Problem:
        return Problem(kind, self._table.name, detail, self._table.topic, partition, first, last, count)


def _of_offsets(one: Recount) -> list[Problem]:
    if one.stored is None:
        return []
    if one.stored > one.end:
        why = f"offset {one.stored} is stored as the next, and the log ends at {one.end}"
        return [
            Problem("offset", one.table, why, one.topic, one.partition, one.end, one.stored - 1, one.stored - one.end)
        ]
    if one.stored < one.begin:
        why = "Kafka let records go before they were written"
        return [
            Problem(
                "expired", one.table, why, one.topic, one.partition, one.stored, one.begin - 1, one.begin - one.stored
            )
        ]
    return []
