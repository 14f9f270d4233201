"""What clients ask: psql, SQLAlchemy (Superset), Grafana's PostgreSQL source, Metabase, and Go's and Java's drivers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from sql_server.catalog import SETTINGS
from tests.sql_server.serving import Served

Connection = psycopg.Connection[Any]
TABLES = {
    *("alarms", "devices", "latest", "published", "readings_1h", "readings_1m", "recent_readings"),
    *("alarm_events", "alarm_mttr", "cleaning_sessions", "dead_letters", "device_history", "events"),
    *("fleet_health", "readings"),
}


# Grafana


ON_SEARCH_PATH = """
          quote_ident(table_schema) IN (
          SELECT
            CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END
          FROM
            generate_series(
              array_lower(string_to_array(current_setting('search_path'),','),1),
              array_upper(string_to_array(current_setting('search_path'),','),1)
            ) as i,
            string_to_array(current_setting('search_path'),',') s
          )"""


def test_grafana_lists_tables(connection: Connection) -> None:
    query = f"""SELECT CASE WHEN {ON_SEARCH_PATH} THEN quote_ident(table_name)
        ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table"
        FROM information_schema.tables
        WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', '_timescaledb_cache')
        ORDER BY CASE WHEN {ON_SEARCH_PATH} THEN 0 ELSE 1 END, 1"""
    assert {row[0] for row in connection.execute(query)} == TABLES


def test_grafana_lists_columns(connection: Connection) -> None:
    query = f"""SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns WHERE
        CASE WHEN array_length(parse_ident('recent_readings'),1) = 2
        THEN quote_ident(table_schema) = (parse_ident('recent_readings'))[1]
          AND quote_ident(table_name) = (parse_ident('recent_readings'))[2]
        ELSE quote_ident(table_name) = 'recent_readings' AND {ON_SEARCH_PATH} END"""
    columns = dict(connection.execute(query).fetchall())
    assert columns["observed_at"] == "timestamp without time zone" and columns["value_number"] == "double precision"
    assert columns["device_id"] == "text" and columns["value_boolean"] == "boolean"


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("SELECT current_setting('server_version_num')::int/100 as version", [(1500,)]),
        ("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'", []),
        (
            'SELECT schema_name AS "name" FROM information_schema.schemata WHERE schema_name NOT IN '
            "('information_schema', 'pg_catalog', 'pg_toast') ORDER BY schema_name",
            [("main",)],
        ),
        # Its macros as it expands them: $__timeGroupAlias(observed_at, 1h), $__timeFilter(observed_at)
        (
            'SELECT floor(extract(epoch from observed_at)/3600)*3600 AS "time", avg(value_number) AS "value" '
            "FROM readings WHERE observed_at BETWEEN '2026-11-18T00:00:00Z' AND '2026-11-18T01:59:59.999Z' "
            "AND metric = 'environment.temperature' AND device_id = 'climasense:cs-000001' GROUP BY 1 ORDER BY 1",
            [(1795046400 - 24 * 3600, 18.75), (1795046400 - 23 * 3600, 18.55)],
        ),
        # $__unixEpochFilter
        ("SELECT count(*) FROM latest WHERE extract(epoch from observed_at) >= 1 LIMIT 50 OFFSET 0", None),
        ("SELECT DISTINCT metric FROM latest WHERE metric LIKE 'battery%'; ", [("battery.level",)]),
    ],
)
def test_queries_of_grafana(connection: Connection, query: str, rows: list[Any] | None) -> None:
    got = connection.execute(query).fetchall()
    assert (
        got
        if rows is None
        else [tuple(pytest.approx(v, abs=0.4) if isinstance(v, float) else v for v in r) for r in rows] == got
    )


def test_grafana_sees_a_time_column(connection: Connection) -> None:
    cursor = connection.execute('SELECT observed_at AS "time", value_number AS "value" FROM recent_readings LIMIT 1')
    assert cursor.description is not None
    assert [column.type_code for column in cursor.description] == [1114, 701]


# Metabase and JDBC


@pytest.mark.parametrize(
    "query",
    [
        "SELECT current_database(), current_schema(), pg_catalog.version()",
        "SHOW TRANSACTION ISOLATION LEVEL",
        'SELECT count(*) FROM "main"."latest"',
        'SELECT DATE_TRUNC(\'day\', CAST("main"."readings"."observed_at" AS timestamp)) AS d, COUNT(*) '
        'FROM "main"."readings" GROUP BY 1 ORDER BY 1',
        "SELECT EXTRACT(dow FROM observed_at), CAST(observed_at AS date) FROM latest LIMIT 1",
        "SELECT NULL AS role, t.schemaname AS schema, t.tablename AS table, pg_catalog.has_any_column_privilege("
        "current_user, '\"' || t.schemaname || '\".\"' || t.tablename || '\"', 'update') AS update "
        "FROM pg_catalog.pg_tables t WHERE t.schemaname !~ '^pg_' AND t.schemaname <> 'information_schema'",
        """SELECT result.TABLE_NAME, result.KEY_SEQ FROM (SELECT ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME,
        (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ,
        information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM
        FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid)
        JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE i.indisprimary) result
        WHERE result.A_ATTNUM = (result.KEYS).x""",
        """SELECT typinput='pg_catalog.array_in'::regproc AS is_array, typtype, typname, pg_type.oid
        FROM pg_catalog.pg_type LEFT JOIN (SELECT ns.oid AS nspoid, ns.nspname, r.r FROM pg_namespace AS ns
        JOIN (SELECT s.r, (current_schemas(false))[s.r] AS nspname
        FROM generate_series(1, array_upper(current_schemas(false), 1)) AS s(r)) AS r USING (nspname)) AS sp
        ON sp.nspoid = typnamespace WHERE pg_type.oid = 1114 ORDER BY sp.r, pg_type.oid DESC""",
    ],
)
def test_queries_of_metabase_and_jdbc(connection: Connection, query: str) -> None:
    for binary in (False, True):
        assert connection.execute(query, binary=binary).description


def test_comments_are_descriptions(connection: Connection) -> None:
    query = (
        "SELECT d.description FROM pg_catalog.pg_description d JOIN pg_class c ON d.objoid = c.oid "
        "AND d.classoid = 'pg_catalog.pg_class'::regclass WHERE c.relname = 'latest' AND d.objsubid = 0"
    )
    row = connection.execute(query).fetchone()
    assert row is not None and row[0].startswith("The newest reading")


def test_unknown_settings_are_null_and_known_ones_shown(connection: Connection) -> None:
    assert connection.execute("SELECT current_setting('nosuch', true)").fetchone() == (None,)
    for name, value in SETTINGS.items():
        if name not in ("application_name", "client_encoding", "session_authorization"):
            assert connection.execute(f"SHOW {name}").fetchone() == (value,)


# SQLAlchemy


@pytest.fixture(scope="module")
def engine(server: Served) -> Iterator[sa.Engine]:
    url = sa.URL.create("postgresql+psycopg", "ada", server.key, "127.0.0.1", server.port, "fleet")
    made = sa.create_engine(url)
    yield made
    made.dispose()


def test_sqlalchemy_inspects(engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    assert {*inspector.get_table_names(), *inspector.get_view_names()} == TABLES
    assert inspector.get_schema_names() == ["information_schema", "main"] and inspector.has_table("latest")
    columns = {column["name"]: column for column in inspector.get_columns("readings")}
    assert isinstance(columns["observed_at"]["type"], sa.TIMESTAMP) and isinstance(
        columns["value_number"]["type"], sa.Double
    )
    assert columns["device_id"]["comment"] == "vendor:native-id."
    assert inspector.get_pk_constraint("latest")["constrained_columns"] == []
    assert not inspector.get_indexes("latest") and not inspector.get_foreign_keys("latest")
    assert str(inspector.get_table_comment("latest")["text"]).startswith("The newest reading")
    assert "SELECT" in inspector.get_view_definition("fleet_health")


def test_sqlalchemy_selects(engine: sa.Engine) -> None:
    latest = sa.Table("latest", sa.MetaData(), autoload_with=engine)
    query = (
        sa.select(latest.c.metric, sa.func.count().label("devices"))
        .where(latest.c.metric.in_(["battery.level", "environment.temperature"]), latest.c.value_number > 0.5)
        .group_by(latest.c.metric)
        .order_by(latest.c.metric)
    )
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    assert [row.metric for row in rows] == ["battery.level", "environment.temperature"]


# psql


def psql(server: Served, *commands: str) -> str:
    found = shutil.which("psql")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("CI must have psql")
        pytest.skip("psql is not installed")
    arguments = [part for each in commands for part in ("-c", each)]
    uri = f"postgresql://ada@127.0.0.1:{server.port}/fleet"
    done = subprocess.run(
        [found, "-X", "-v", "ON_ERROR_STOP=1", uri, *arguments],
        env=os.environ | {"PGPASSWORD": server.key, "PGTZ": "Europe/Berlin"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr and "WARNING" not in done.stderr, done.stderr
    return done.stdout


def test_psql_shows_what_there_is(server: Served) -> None:
    shown = psql(
        server, r"\dt", r"\dv", r"\d latest", r"\d+ fleet_health", r"\l", r"\dn", r"\du", r"\df", r"\di", r"\dx"
    )
    assert "recent_readings | table | fleetlake" in shown
    assert "readings          | view | fleetlake" in shown
    assert "observed_at      | timestamp without time zone" in shown
    assert "View definition:" in shown and "vendor:native-id." in shown


def test_psql_in_a_transaction_and_in_parts(server: Served) -> None:
    shown = psql(server, r"\set FETCH_COUNT 100", "BEGIN", "SELECT * FROM range(250)", "COMMIT")
    assert "(250 rows)" in shown
    assert "QUERY PLAN" in psql(server, "EXPLAIN SELECT count(*) FROM latest")
