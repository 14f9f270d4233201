"""The SQL of the working file: its tables, and how the lake's files are folded into them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sinks.delta.tables import ALARM_EVENTS_TABLE, DEVICES_TABLE, PARTITION_DATE, READINGS_TABLE, TABLES, Table
from sinks.duckdb import rollups
from sinks.duckdb.rollups import ROLLUPS, interval
from sinks.settings import DuckdbSettings

LAKE = "fleetlake_lake"
"""Variable of the sink's session: where the lake is, relative to `fleet.duckdb` or by URL."""

_TYPES = {
    pa.string(): "VARCHAR",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.timestamp("us"): "TIMESTAMP",
    pa.date32(): "DATE",
}


def text(value: str) -> str:
    """Return a string literal."""
    return "'" + value.replace("'", "''") + "'"


def name(value: str) -> str:
    """Return a quoted identifier."""
    return '"' + value.replace('"', '""') + '"'


def columns(table: Table, but: Sequence[str] = ()) -> str:
    """Return the columns of a table as a definition list."""
    return ", ".join(f"{name(f.name)} {_TYPES[f.type]}" for f in table.schema if f.name not in but)


def rows_of(table: Table, files: Sequence[tuple[str, Sequence[str]]], path: str) -> str:
    """Return a query for the rows of files, each given by its path and columns.

    The table's columns come first, in its order, then columns that this version does not know. `path` is SQL for a
    file's path in terms of `f`, its path relative to the table. A column that a file lacks is null there.
    """
    if not files:
        nulls = ", ".join(f"NULL::{_TYPES[f.type]} AS {name(f.name)}" for f in table.schema)
        return f"SELECT {nulls} WHERE false"
    every = {column for _, present in files for column in present} | set(table.partition_by)
    known = ", ".join(
        name(f.name) if f.name in every else f"NULL::{_TYPES[f.type]} AS {name(f.name)}" for f in table.schema
    )
    unknown = "".join(f", {name(column)}" for column in sorted(every - set(table.schema.names)))
    alike = len({frozenset(present) for _, present in files}) == 1
    hive = ", ".join(f"{text(c)}: {_TYPES[table.schema.field(c).type]}" for c in table.partition_by)
    listed = ",\n".join(text(file) for file, _ in files)
    return (
        f"SELECT {known}{unknown} FROM read_parquet(list_transform([{listed}], lambda f: {path}), "
        f"hive_partitioning = true, hive_types = {{{hive}}}, union_by_name = {str(not alike).lower()})"
    )


_NEWEST_READING = "(coalesce(time_quality, 'ok') <> 'future', observed_at, received_at, origin_offset)"
_DEVICE_FACTS = (
    "device_id, vendor, registered, deleted, name, model, serial_number, firmware_version, attributes, updated_at"
)
ALARM_COLUMNS = (
    "alarm_id, device_id, vendor, rule_id, rule_name, severity, title, message, status, metric, triggered_at, "
    "last_triggered_at, acknowledged_at, resolved_at, occurrence_count, snoozed_until, flapping"
)
_ALARM_ROW = f"{ALARM_COLUMNS}, sequence, created_at"
LATEST_COLUMNS = (
    "device_id, vendor, metric, value_number, value_text, value_boolean, value_json, unit, observed_at, received_at, "
    "time_source, time_quality, message_id, origin_topic, origin_partition, origin_offset"
)

HEARD_AT = "CASE WHEN polled THEN heard_at ELSE received_at END"
"""SQL for when the device of a reading spoke; rows from before there was `polled` count as sent by the device."""

_READING = ", ".join(name(column) for column in READINGS_TABLE.schema.names)

CREATE = f"""
CREATE TABLE progress (table_name VARCHAR PRIMARY KEY, version BIGINT, entry VARCHAR);
CREATE TABLE files (table_name VARCHAR, path VARCHAR, columns VARCHAR[], rows BIGINT, bytes BIGINT);
CREATE TABLE recent_readings ({columns(READINGS_TABLE)});
CREATE TABLE latest AS SELECT {LATEST_COLUMNS} FROM recent_readings;
CREATE TABLE seen (source VARCHAR, device_id VARCHAR, vendor VARCHAR, first_seen TIMESTAMP, last_seen TIMESTAMP,
  last_heard TIMESTAMP);
CREATE TABLE registry (received_at TIMESTAMP, origin_offset BIGINT, {
    columns(DEVICES_TABLE, ("received_at", "origin_offset"))
}); CREATE TABLE alarms AS SELECT {_ALARM_ROW} FROM (SELECT NULL) LEFT JOIN (FROM ({
    rows_of(ALARM_EVENTS_TABLE, (), "")
})) ON false LIMIT 0;
{rollups.CREATE}"""


def clear(table: str) -> list[str]:
    """Return statements that empty the working tables of a lake table, before they are rebuilt from a snapshot."""
    made = {
        "readings": ("recent_readings", "latest"),
        "devices": ("registry",),
        "alarm_events": ("alarms",),
    }
    emptied = [f"DELETE FROM {name(one)}" for one in made.get(table, ())]
    return [
        *emptied,
        f"DELETE FROM seen WHERE source = {text(table)}",
        *(rollups.clear() if table == "readings" else []),
    ]


def _newest(kept: str, of: str, keys: str, order: str) -> str:
    """Return SQL that folds new rows into a table of the newest row per key. It rewrites the table, which is small."""
    return f"""
CREATE OR REPLACE TABLE {kept} AS SELECT unnest(max_by(row, rank)) FROM (
  SELECT {keys}, struct_pack({_packed(of)}) AS row, {order} AS rank FROM (
    SELECT {of} FROM {kept} UNION ALL SELECT {of} FROM fresh
  )
) GROUP BY {keys}"""


def _packed(of: str) -> str:
    return ", ".join(f"{column} := {column}" for column in of.split(", "))


def fold(table: str, settings: DuckdbSettings) -> list[str]:
    """Return statements that fold the rows of the temporary view `fresh` into the working tables."""
    match table:
        case "readings":
            return [
                _newest("latest", LATEST_COLUMNS, "device_id, metric", _NEWEST_READING),
                _seen(table),
                f"INSERT INTO recent_readings BY NAME SELECT {_READING} FROM fresh WHERE received_at > "
                f"(SELECT max(last_seen) FROM seen WHERE source = 'readings') - {interval(settings.recent_days)}",
                f"DELETE FROM recent_readings WHERE received_at <= "
                f"(SELECT max(received_at) FROM recent_readings) - {interval(settings.recent_days)}",
                # Not LIMIT 1 OFFSET n: after deletions in the same transaction it may find nothing (DuckDB 2.0.0).
                f"DELETE FROM recent_readings WHERE received_at <= (SELECT max(received_at) FROM (SELECT received_at, "
                "row_number() OVER (ORDER BY received_at DESC) AS place FROM recent_readings) "
                f"WHERE place > {settings.recent_rows})",
                *_rolled_up(settings),
            ]
        case "events":
            return [_seen(table)]
        case "devices":
            every = f"{_DEVICE_FACTS}, received_at, origin_offset"
            return [_newest("registry", every, "device_id", "(received_at, origin_offset)")]
        case "alarm_events":
            return [
                _newest("alarms", _ALARM_ROW, "alarm_id", "sequence"),
                f"DELETE FROM alarms WHERE status = 'resolved' AND resolved_at <= "
                f"(SELECT max(created_at) FROM alarms) - {interval(settings.alarm_days)}",
            ]
        case _:
            return []


def _seen(table: str) -> str:
    """Return SQL for when something of each device was received, and when it was heard itself.

    It is kept per lake table, so that each can be rebuilt without the other.
    """
    heard = f"max({HEARD_AT})" if table == "readings" else "NULL"
    return f"""
CREATE OR REPLACE TABLE seen AS
SELECT source, device_id, any_value(vendor) AS vendor, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
  max(last_heard) AS last_heard FROM (
  FROM seen UNION ALL
  SELECT {text(table)}, device_id, any_value(vendor), min(received_at), max(received_at), {heard}
  FROM fresh GROUP BY device_id
) GROUP BY source, device_id"""


def _rolled_up(settings: DuckdbSettings) -> list[str]:
    days = {"minute": settings.minute_days, "hour": settings.hour_days}
    newest = "(SELECT max(last_seen) FROM seen WHERE source = 'readings')"
    folds = (rollups.fold(one, days[one.unit], settings.rollup_rows, newest) for one in ROLLUPS)
    return [statement for statements in folds for statement in statements]


def schema_fingerprint() -> str:
    """Return a text that changes whenever the working tables would, so that they are then rebuilt."""
    return CREATE + "".join(str(table.schema) for table in TABLES) + PARTITION_DATE
