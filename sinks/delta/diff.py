"""Comparing two lakes: rows that only one of them has, and rows of the same key with different values."""

from __future__ import annotations

import functools
import operator
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from sinks.delta.location import LakeLocation

_ORIGIN = ("origin_topic", "origin_partition", "origin_offset")
KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "readings": (
        ("device_id", "metric", "observed_at", *_ORIGIN),
        ("value_number", "value_text", "value_boolean", "value_json", "unit", "time_source", "time_quality"),
    ),
    "events": (
        ("device_id", "event_id", *_ORIGIN),
        ("type", "severity", "title", "data", "occurred_at", "time_source"),
    ),
    "alarm_events": (
        ("event_id",),
        (
            *("alarm_id", "sequence", "event_type", "actor", "note", "metadata", "created_at", "device_id", "rule_id"),
            *("rule_name", "severity", "title", "message", "status", "metric", "triggered_at", "last_triggered_at"),
            *("acknowledged_at", "resolved_at", "occurrence_count"),
        ),
    ),
    "devices": (
        ("device_id", *_ORIGIN),
        ("registered", "deleted", "name", "model", "serial_number", "firmware_version", "attributes", "updated_at"),
    ),
    "dead_letters": (("device_id", "message_id", "stage", *_ORIGIN), ("problems", "payload", "message_type")),
}
"""For each table that can be compared, its key columns and its value columns."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Which rows to compare.

    `common` limits the comparison to the range that both lakes have: of origins per raw partition, of time for alarms.
    """

    since: datetime | None = None
    until: datetime | None = None
    vendor: str | None = None
    common: bool = False


@dataclass(slots=True)
class Difference:
    """The result for one table: rows in each lake, with counts and examples of those that are not alike."""

    table: str
    first_rows: int
    second_rows: int
    missing: int = 0
    extra: int = 0
    differing: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def alike(self) -> bool:
        """Return whether no row differs."""
        return not (self.missing or self.extra or self.differing)


def diff(first: LakeLocation, second: LakeLocation, table: str, scope: Scope, examples: int = 20) -> Difference:
    """Compare one table. A row that is twice in one lake and once in the other is one missing or extra row.

    Raise KeyError for a table that cannot be compared, TableNotFoundError if a lake lacks it.
    """
    keys, values = KEYS[table]
    with (
        tempfile.TemporaryDirectory(prefix="fleetlake-diff-") as spill,
        duckdb.connect(config={"temp_directory": spill}) as sql,
    ):
        for name, location in (("a", first), ("b", second)):
            sql.register("lake", _reader(location, table, scope))
            sql.execute(f"CREATE TABLE {name} AS FROM lake")
            sql.unregister("lake")
        if scope.common:
            _only_common(sql, table)
        sql.execute("CREATE TABLE only_a AS FROM a EXCEPT ALL FROM b")
        sql.execute("CREATE TABLE only_b AS FROM b EXCEPT ALL FROM a")
        same = " AND ".join(f"x.{key} IS NOT DISTINCT FROM y.{key}" for key in keys)
        sql.execute(
            f"CREATE TABLE pairs AS SELECT x.rowid AS xid, y.rowid AS yid FROM only_a x JOIN only_b y ON {same}"
        )
        result = Difference(table, _count(sql, "a"), _count(sql, "b"))
        result.differing = _count(sql, "(SELECT DISTINCT xid FROM pairs)")
        result.missing = _count(sql, "only_a") - result.differing
        result.extra = _count(sql, "only_b") - _count(sql, "(SELECT DISTINCT yid FROM pairs)")
        result.examples = _examples(sql, keys, values, examples)
        return result


def _reader(location: LakeLocation, table: str, scope: Scope) -> pa.RecordBatchReader:
    """Return a reader of the compared columns of the rows within the scope."""
    keys, values = KEYS[table]
    lake = location.open(table).to_pyarrow_dataset()
    bounds: list[ds.Expression] = []
    time = ds.field("created_at" if table == "alarm_events" else "received_at")
    if scope.since:
        bounds.append(time >= _naive(scope.since))
    if scope.until:
        bounds.append(time < _naive(scope.until))
    if scope.vendor:
        bounds.append(ds.field("vendor") == scope.vendor)
    within = functools.reduce(operator.and_, bounds) if bounds else None
    return lake.scanner(columns=[*keys, *values], filter=within).to_reader()


def _only_common(sql: duckdb.DuckDBPyConnection, table: str) -> None:
    if table == "alarm_events":
        sql.execute(
            "CREATE TABLE common AS SELECT greatest((SELECT min(created_at) FROM a), (SELECT min(created_at) FROM b)) "
            "AS low, least((SELECT max(created_at) FROM a), (SELECT max(created_at) FROM b)) AS high"
        )
        for name in ("a", "b"):
            sql.execute(
                f"DELETE FROM {name} WHERE NOT EXISTS (FROM common c WHERE {name}.created_at BETWEEN c.low AND c.high)"
            )
        return
    sql.execute(
        """
CREATE TABLE common AS
SELECT origin_topic, origin_partition, max(low) AS low, min(high) AS high, count(*) AS lakes FROM (
  SELECT origin_topic, origin_partition, min(origin_offset) AS low, max(origin_offset) AS high FROM a GROUP BY ALL
  UNION ALL
  SELECT origin_topic, origin_partition, min(origin_offset), max(origin_offset) FROM b GROUP BY ALL
) GROUP BY ALL HAVING lakes = 2"""
    )
    for name in ("a", "b"):
        sql.execute(
            f"DELETE FROM {name} WHERE NOT EXISTS (FROM common c WHERE c.origin_topic = {name}.origin_topic AND "
            f"c.origin_partition = {name}.origin_partition AND {name}.origin_offset BETWEEN c.low AND c.high)"
        )


def _examples(
    sql: duckdb.DuckDBPyConnection, keys: tuple[str, ...], values: tuple[str, ...], limit: int
) -> list[dict[str, Any]]:
    def packed(side: str) -> str:
        return f"to_json(struct_pack({', '.join(f'{value} := {side}.{value}' for value in values)}))::VARCHAR"

    key = ", ".join(f"{{0}}.{name}" for name in keys)
    rows = sql.execute(
        f"""
SELECT 'differs' AS what, {key.format("x")}, {packed("x")} AS first, {packed("y")} AS second
FROM pairs JOIN only_a x ON x.rowid = xid JOIN only_b y ON y.rowid = yid
UNION ALL SELECT 'missing', {key.format("x")}, {packed("x")}, NULL
FROM only_a x WHERE rowid NOT IN (SELECT xid FROM pairs)
UNION ALL SELECT 'extra', {key.format("y")}, NULL, {packed("y")}
FROM only_b y WHERE rowid NOT IN (SELECT yid FROM pairs)
ORDER BY ALL LIMIT {limit}"""
    )
    names = [column[0] for column in rows.description or ()]
    return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]


def _count(sql: duckdb.DuckDBPyConnection, of: str) -> int:
    row = sql.execute(f"SELECT count(*) FROM {of}").fetchone()
    return int(row[0]) if row else 0


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
