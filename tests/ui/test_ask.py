"""Viewers' SQL reads the tables, and nothing else of this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import duckdb
import pytest

import fleetlake
from schemas.topics import READINGS
from sinks.duckdb.confinement import NotAQuery, QueryLimits, only_query
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing
from tests.support.samples import observation
from ui.ask.worker import QueryAnswer, answer, plain

LIMITS = QueryLimits(10, 100, 256)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ask") / "data"
    (folder / "work").mkdir(parents=True)
    (folder / "effective.toml").write_text("client_secret = 's3cret'")
    Writing(folder).write(READINGS, *(observation(number) for number in range(20)))
    published = PublishedDatabase(folder, DuckdbSettings())
    published.publish()
    published.close()
    return folder


def asked(data: Path, sql: str) -> QueryAnswer:
    return answer(sql, partial(fleetlake.connect, data), data, LIMITS)


def test_the_full_history_is_read_from_the_lake(data: Path) -> None:
    got = asked(data, "SELECT count(*) FROM readings WHERE metric = 'battery.level'")
    assert (got.error, got.rows) == ("", [[20]])


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_text('/etc/passwd')",
        "FROM read_text('{data}/effective.toml')",
        "FROM read_text('{data}/lake/../effective.toml')",
        "FROM read_csv('{data}/lake/..//effective.toml')",
        "FROM glob('{data}/*')",
        "FROM '/etc/passwd'",
        "FROM read_csv('http://127.0.0.1:1/x')",
        "FROM read_parquet('s3://bucket/x.parquet')",
        "FROM duckdb_secrets()",
        "FROM sqlite_scan('{data}/state/alarms.db', 'api_keys')",
    ],
)
def test_no_file_and_no_network(data: Path, sql: str) -> None:
    got = asked(data, sql.format(data=data.resolve()))
    assert got.error and not got.rows, sql
    assert "s3cret" not in got.error


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{data}/lake/x.csv'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/lake/x.csv'",
        "ATTACH '{data}/lake/x.db'",
        "SET memory_limit = '100GB'",
        "PRAGMA enable_external_access = true",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CREATE TABLE x AS SELECT 1",
        "EXPORT DATABASE '{data}/lake/x'",
        "SELECT 1; SELECT 2",
        "",
        "-- nothing",
    ],
)
def test_only_one_query_is_run(data: Path, sql: str) -> None:
    assert asked(data, sql.format(data=data.resolve())).error
    assert not list((data / "lake").glob("x*"))


def test_the_memory_of_a_query_is_limited(data: Path) -> None:
    got = asked(data, "SELECT list(repeat('x', 1000) || i) FROM range(3000000) t(i)")
    assert "memory" in got.error.lower()


def test_rows_beyond_the_limit_are_left_out(data: Path) -> None:
    got = asked(data, "FROM range(101)")
    assert len(got.rows) == 100 and got.truncated
    assert not asked(data, "FROM range(100)").truncated


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "FROM latest", "DESCRIBE latest", "SHOW TABLES", "SUMMARIZE devices", "VALUES (1)"],
)
def test_every_form_of_query_is_run(data: Path, sql: str) -> None:
    assert asked(data, sql).error == ""
    assert asked(data, sql).rows


def test_errors_of_sql_name_the_place() -> None:
    with pytest.raises(duckdb.Error):
        only_query("SELEC 1")
    with pytest.raises(NotAQuery):
        only_query("DELETE FROM latest")


def test_values_become_plain(data: Path) -> None:
    sql = (
        "SELECT 1.5::DECIMAL(4,2), 'nan'::DOUBLE, 9007199254740993, DATE '2026-01-02', "
        "TIMESTAMP '2026-01-02 03:04:05', [1], NULL"
    )
    assert asked(data, sql).rows == [
        ["1.50", "nan", "9007199254740993", "2026-01-02", "2026-01-02T03:04:05Z", "[1]", None]
    ]
    assert plain(True) is True and plain(b"\x01") == "01"
