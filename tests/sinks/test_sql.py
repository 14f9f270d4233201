"""The DuckDB sink's SQL as text: the rows of files, and what is emptied before a rebuild."""

from __future__ import annotations

import re
from itertools import permutations
from typing import Any

import duckdb
import pytest

from sinks.delta.tables import BY_NAME, PARTITION_DATE, RAW_TABLE, READINGS_TABLE, TABLES, raw_tables
from sinks.duckdb.rollups import ROLLUPS
from sinks.duckdb.sql import CREATE, clear, fold, rows_of
from sinks.duckdb.views import MACROS, VIEWS
from sinks.settings import DuckdbSettings

KNOWN = READINGS_TABLE.schema.names


def test_columns_that_the_table_does_not_know_come_last() -> None:
    query = rows_of(READINGS_TABLE, [("x.parquet", [*KNOWN, "zone", "area"])], "f")
    assert '"received_date", "area", "zone" FROM read_parquet' in query
    assert "union_by_name = false" in query


def test_a_column_that_no_file_has_is_null_and_files_that_differ_are_read_by_name() -> None:
    without = [name for name in KNOWN if name != "unit"]
    query = rows_of(READINGS_TABLE, [("x.parquet", without), ("y.parquet", [*without, "zone"])], "'lake/' || f")
    assert 'NULL::VARCHAR AS "unit"' in query
    assert "union_by_name = true" in query
    assert "list_transform(['x.parquet',\n'y.parquet'], lambda f: 'lake/' || f)" in query


def test_no_files_are_no_rows_of_the_same_columns() -> None:
    query = rows_of(READINGS_TABLE, [], "f")
    assert query.endswith("WHERE false") and query.count("NULL::") == len(KNOWN)


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_roll_ups_are_emptied_with_the_readings_only(table: str) -> None:
    statements = clear(table)
    for rollup in ROLLUPS:
        assert (f"DELETE FROM {rollup.name}" in statements) == (table == "readings")
    assert f"DELETE FROM seen WHERE source = '{table}'" in statements


def test_the_raw_table_is_laid_out_like_the_readings_and_fed_per_vendor() -> None:
    assert RAW_TABLE.record is None
    assert RAW_TABLE.partition_by == READINGS_TABLE.partition_by == (PARTITION_DATE, "vendor")
    assert RAW_TABLE.order == ("device_id", "received_at")
    assert [table.topic for table in raw_tables(("karcher", "ogmen"))] == [
        "telemetry.raw.karcher.v1",
        "telemetry.raw.ogmen.v1",
    ]


FOLDED: dict[str, tuple[str, list[str], list[tuple[Any, ...]]]] = {
    "devices": (
        "SELECT device_id, name FROM registry ORDER BY ALL",
        [
            "'ogmen:a' AS device_id, 'old' AS name, TIMESTAMP '2026-11-28 10:00' AS received_at, 5 AS origin_offset",
            "'ogmen:a' AS device_id, 'newer' AS name, TIMESTAMP '2026-11-28 11:00' AS received_at, 3 AS origin_offset",
            "'ogmen:a' AS device_id, 'newest' AS name, TIMESTAMP '2026-11-28 11:00' AS received_at, 4 AS origin_offset",
            "'ogmen:b' AS device_id, 'other' AS name, TIMESTAMP '2026-11-28 09:00' AS received_at, 9 AS origin_offset",
        ],
        [("ogmen:a", "newest"), ("ogmen:b", "other")],
    ),
    "alarm_events": (
        "SELECT alarm_id, status FROM alarms ORDER BY ALL",
        [
            "'a' AS alarm_id, 'active' AS status, 1 AS sequence, TIMESTAMP '2026-11-28 11:00' AS created_at",
            "'a' AS alarm_id, 'acknowledged' AS status, 2 AS sequence, TIMESTAMP '2026-11-28 10:00' AS created_at",
            "'b' AS alarm_id, 'active' AS status, 10 AS sequence, TIMESTAMP '2026-11-28 09:00' AS created_at",
            "'b' AS alarm_id, 'active' AS status, 9 AS sequence, TIMESTAMP '2026-11-28 09:00' AS created_at",
        ],
        [("a", "acknowledged"), ("b", "active")],
    ),
    "events": (
        "SELECT source, device_id, epoch(last_seen - first_seen) FROM seen",
        [f"'ogmen:a' AS device_id, TIMESTAMP '2026-11-28 1{hour}:00' AS received_at" for hour in range(4)],
        [("events", "ogmen:a", 10_800.0)],
    ),
}


@pytest.mark.parametrize("table", FOLDED)
def test_working_tables_have_the_newest_in_whatever_order_and_portions_rows_come(table: str) -> None:
    shown, rows, expected = FOLDED[table]
    nothing = rows_of(BY_NAME[table], (), "")
    with duckdb.connect() as connection:
        connection.execute(CREATE)
        for order in permutations(rows):
            for portions in (order[:1], order[1:]), *([tuple([row] for row in order)] if order == (*rows,) else []):
                for portion in portions:
                    chosen = " UNION ALL BY NAME ".join(f"SELECT {row}" for row in portion)
                    connection.execute(f"CREATE OR REPLACE TEMP VIEW fresh AS {nothing} UNION ALL BY NAME {chosen}")
                    for statement in fold(table, DuckdbSettings()):
                        connection.execute(statement)
                assert connection.execute(shown).fetchall() == expected, portions
                for statement in clear(table):
                    connection.execute(statement)
                assert connection.execute(shown).fetchall() == []


@pytest.mark.parametrize("name", [*VIEWS, *MACROS])
def test_a_comment_is_in_sentences_and_names_what_there_is(name: str) -> None:
    comment = (VIEWS | MACROS)[name].comment
    assert re.fullmatch(r"[A-Z].*[.)]", comment), "people read it where they choose what to ask"
    there = f"{MACROS[name].parameters} {MACROS[name].body}" if name in MACROS else f"{VIEWS[name].query}"
    for named in re.findall(r"`(\w+)`", comment):
        assert re.search(rf"\b{named}\b", there), named
