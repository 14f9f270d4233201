"""The DuckDB sink's SQL as text: the rows of files, and what is emptied before a rebuild."""

from __future__ import annotations

import pytest

from sinks.delta.tables import PARTITION_DATE, RAW_TABLE, READINGS_TABLE, TABLES, raw_tables
from sinks.duckdb.rollups import ROLLUPS
from sinks.duckdb.sql import clear, rows_of

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
