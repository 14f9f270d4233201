"""Roll-ups of readings by minute and by hour, updated with the rows that each version of the lake adds. Pure.

A roll-up holds its aggregates in a form that can be merged. Late data, in any order, therefore change the buckets that
they belong to, and give the same result as aggregating all readings at once. A roll-up reaches back to its `floor`,
which only rises: a bucket in the table has all its readings, whenever they were received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rollup:
    """A roll-up: the published table and the length of its buckets."""

    name: str
    unit: str


ROLLUPS = (Rollup("readings_1m", "minute"), Rollup("readings_1h", "hour"))

KEYS = "device_id, metric, bucket"
SHOWN = "device_id, vendor, metric, unit, bucket, count, min, max, mean, first, last"
_HELD = "device_id, vendor, metric, unit, bucket, count, min, max, total, earliest, newest"

# The value goes last: it only settles which of two values of the very same moment comes first.
_MOMENT = "{'observed_at': observed_at, 'received_at': received_at, 'offset': origin_offset, 'value': value_number}"

_COUNTED = f"""any_value(vendor) AS vendor, max(unit) AS unit, count(*) AS count, min(value_number) AS min,
  max(value_number) AS max, fsum(value_number) AS total, min({_MOMENT}) AS earliest, max({_MOMENT}) AS newest"""

_MERGED = """any_value(vendor) AS vendor, max(unit) AS unit, sum(count)::BIGINT AS count, min(min) AS min,
  max(max) AS max, fsum(total) AS total, min(earliest) AS earliest, max(newest) AS newest"""

CREATE = "CREATE TABLE floors (rollup VARCHAR PRIMARY KEY, floor TIMESTAMP);\n" + "".join(
    f"""CREATE TABLE {rollup.name} (device_id VARCHAR, vendor VARCHAR, metric VARCHAR, unit VARCHAR, bucket TIMESTAMP,
  count BIGINT, min DOUBLE, max DOUBLE, total DOUBLE,
  earliest STRUCT(observed_at TIMESTAMP, received_at TIMESTAMP, "offset" BIGINT, "value" DOUBLE),
  newest STRUCT(observed_at TIMESTAMP, received_at TIMESTAMP, "offset" BIGINT, "value" DOUBLE));
INSERT INTO floors VALUES ('{rollup.name}', '-infinity');
"""
    for rollup in ROLLUPS
)

COMMENTS = {
    "bucket": "Start of the minute or hour (see the table), UTC, by observed_at.",
    "count": "Number of readings with a number.",
    "min": "Smallest value.",
    "max": "Largest value.",
    "mean": "Mean of the values.",
    "first": "Value observed first.",
    "last": "Value observed last.",
}


def fold(rollup: Rollup, days: float, rows: int, newest: str) -> list[str]:
    """Return statements that fold the rows of the view `fresh` into a roll-up and then bound it.

    They drop what is older than `days` before `newest` (SQL), and the oldest buckets beyond `rows` rows.
    """
    name, unit = rollup.name, rollup.unit
    since = f"(SELECT floor FROM floors WHERE rollup = '{name}')"
    # DuckDB applies the floor to observed_at before reading, so that a rebuild opens only the files that matter.
    return [
        _raise(name, f"date_trunc('{unit}', {newest} - {interval(days)})"),
        f"""CREATE OR REPLACE TEMP TABLE added AS
SELECT device_id, metric, date_trunc('{unit}', observed_at) AS bucket, {_COUNTED}
FROM fresh WHERE value_number IS NOT NULL AND observed_at >= {since} GROUP BY ALL""",
        f"""CREATE OR REPLACE TEMP TABLE merged AS SELECT {KEYS}, {_MERGED} FROM (
  SELECT {_HELD} FROM added UNION ALL SELECT {_HELD} FROM {name} SEMI JOIN added USING ({KEYS})
) GROUP BY ALL""",
        f"DELETE FROM {name} USING added WHERE {_same(name)}",
        f"INSERT INTO {name} BY NAME FROM merged",
        _raise(name, _beyond(rollup, rows)),
        f"DELETE FROM {name} WHERE bucket < {since}",
    ]


def clear() -> list[str]:
    """Return statements that empty the roll-ups, before they are rebuilt from a snapshot."""
    return [f"DELETE FROM {rollup.name}" for rollup in ROLLUPS] + ["UPDATE floors SET floor = '-infinity'"]


def published(rollup: Rollup) -> str:
    """Return the query of the roll-up as users see it."""
    return (
        f"SELECT device_id, vendor, metric, unit, bucket, count, min, max, total / count AS mean, "
        f"earliest.value AS first, newest.value AS last FROM work.{rollup.name} ORDER BY {KEYS}"
    )


def over(source: str, bucket: str, where: Sequence[str]) -> str:
    """Return a query for the same columns, aggregated from readings: the full history."""
    conditions = " AND ".join(["value_number IS NOT NULL", *where])
    return f"""SELECT device_id, vendor, metric, unit, bucket, count, min, max, total / count AS mean,
  earliest.value AS first, newest.value AS last
FROM (
  SELECT device_id, metric, {bucket} AS bucket, {_COUNTED} FROM {source} WHERE {conditions} GROUP BY 1, 2, 3
)"""


def interval(days: float) -> str:
    """Return SQL for an interval of days."""
    return f"to_microseconds({round(days * 86_400_000_000)})"


def _same(name: str) -> str:
    return " AND ".join(f"{name}.{key} = added.{key}" for key in KEYS.split(", "))


def _raise(name: str, floor: str) -> str:
    return f"UPDATE floors SET floor = greatest(floor, coalesce({floor}, floor)) WHERE rollup = '{name}'"


def _beyond(rollup: Rollup, rows: int) -> str:
    """Return SQL for the end of the newest bucket beyond the newest `rows` rows; null if there is none."""
    return f"""(SELECT max(bucket) + INTERVAL 1 {rollup.unit} FROM (
  SELECT bucket, sum(count(*)) OVER (ORDER BY bucket DESC) AS upto FROM {rollup.name} GROUP BY bucket
) WHERE upto > {rows})"""
