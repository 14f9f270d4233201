"""The server: sign-in, TLS, both protocols, transactions, cancelling, limits, and that only queries are run."""

from __future__ import annotations

import os
import shutil
import socket
import struct
import threading
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import errors

from runtime.errors import StageError
from sql_server.protocol import SSL_REQUEST, VERSION_3, message
from sql_server.server import require_safe
from sql_server.settings import SqlSettings
from tests.sql_server.serving import CONNECTIONS, ROWS, SECONDS, Served
from tests.support.waiting import eventually_blocking

Connection = psycopg.Connection[Any]
ENDLESS = "SELECT count(*) FROM range(100000000000) t(i) WHERE i % 7 = 3"


# Who may connect


def test_the_password_is_a_key(server: Served) -> None:
    with server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    for wrong in ("", "fleetlake_00000000_0", server.key + "0"):
        with pytest.raises(psycopg.OperationalError, match=r"password|no key in force"):
            server.connect(password=wrong)


def test_another_database_is_refused_by_name(server: Served) -> None:
    with pytest.raises(psycopg.OperationalError, match='the database is "fleet"'):
        server.connect(dbname="postgres")


def test_tls_is_spoken_and_verified(server: Served) -> None:
    with server.connect(sslmode="verify-full", sslrootcert=str(server.ca), host="localhost") as connection:
        assert connection.pgconn.ssl_in_use
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (SqlSettings(host="0.0.0.0"), "tls_certificate"),
        (SqlSettings(host="0.0.0.0", sign_in=False, allow_plaintext=True), "sign_in"),
    ],
)
def test_a_server_for_others_needs_tls_and_keys(settings: SqlSettings, why: str) -> None:
    with pytest.raises(StageError, match=why):
        require_safe(settings)


def test_a_server_for_others_with_tls_or_by_express_wish() -> None:
    require_safe(SqlSettings(host="0.0.0.0", tls_certificate=Path("x"), tls_key=Path("y")))
    require_safe(SqlSettings(host="0.0.0.0", allow_plaintext=True))
    require_safe(SqlSettings(sign_in=False))


def test_too_many_clients_are_told_so(server: Served) -> None:
    held: list[Connection] = []
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            for _ in range(CONNECTIONS + 1):
                held.append(server.connect())
    finally:
        for connection in held:
            connection.close()
    assert len(held) >= CONNECTIONS - 2


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        struct.pack("!ii", 8, 12345),
        struct.pack("!ii", 4, 0),
        struct.pack("!ii", 2_000_000_000, VERSION_3),
        struct.pack("!iih", 10, VERSION_3, 0) + message(b"p", b"no end"),
    ],
)
def test_what_is_not_the_protocol_ends_the_connection(server: Served, opening: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
        raw.sendall(opening)
        answer = b""
        while piece := raw.recv(4096):
            answer += piece
        assert answer[:1] in (b"E", b"R")
    with server.connect() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_encryption_is_not_asked_for_twice(server: Served) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 20) as raw:
        raw.sendall(struct.pack("!ii", 8, SSL_REQUEST))
        assert raw.recv(1) == b"S"


# Statements


def test_several_statements_in_one_message(connection: Connection) -> None:
    cursor = connection.execute("SELECT 1 AS a; SELECT 'x;y' AS b; ; -- nothing\n")
    assert cursor.fetchall() == [(1,)]
    assert cursor.nextset() and cursor.fetchall() == [("x;y",)]
    assert not cursor.nextset()


def test_a_pipeline(connection: Connection) -> None:
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int", (number,)) for number in range(10)]
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(10)]


def test_an_error_in_a_pipeline_skips_to_its_end(connection: Connection) -> None:
    with pytest.raises(errors.UndefinedTable), connection.pipeline() as pipeline:
        connection.execute("SELECT 1")
        connection.execute("SELECT * FROM nosuch")
        connection.execute("SELECT 2")
        pipeline.sync()
    assert connection.execute("SELECT 3").fetchone() == (3,)


def test_prepared_statements(connection: Connection) -> None:
    for number in range(8):  # psycopg prepares by itself from the sixth on
        got = connection.execute("SELECT %s::int + 1, %s", (number, f"it's {number}")).fetchone()
        assert got == (number + 1, f"it's {number}")
    connection.execute("DEALLOCATE ALL")


def test_a_cursor_reads_in_parts(server: Served) -> None:
    with server.connect(autocommit=False) as connection, connection.cursor("parts") as cursor:
        cursor.itersize = 1000
        cursor.execute("SELECT * FROM range(4500)")
        assert [row[0] for row in cursor] == list(range(4500))


def test_cursors_by_statement(server: Served) -> None:
    with server.connect(autocommit=False) as connection:
        connection.execute("DECLARE c CURSOR FOR SELECT * FROM range(5)")
        assert connection.execute("FETCH 2 FROM c").fetchall() == [(0,), (1,)]
        connection.execute("MOVE 1 IN c")
        assert connection.execute("FETCH ALL c").fetchall() == [(3,), (4,)]
        assert connection.execute("FETCH c").fetchall() == []
        connection.execute("CLOSE c")
        with pytest.raises(errors.InvalidCursorName):
            connection.execute("FETCH c")


def test_a_failed_transaction_has_to_end(server: Served) -> None:
    with server.connect(autocommit=False) as connection:
        with pytest.raises(errors.UndefinedColumn):
            connection.execute("SELECT nosuch")
        with pytest.raises(errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_settings_of_clients(connection: Connection) -> None:
    for statement in (
        "SET application_name = 'grafana'",
        "SET extra_float_digits TO 3",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET TIME ZONE 'Europe/Berlin'",
        "SET NAMES 'UTF8'",
        "RESET ALL",
        "DISCARD ALL",
    ):
        connection.execute(statement)
    assert connection.execute("SHOW application_name").fetchone() == ("grafana",)
    assert connection.execute("SHOW TIME ZONE").fetchone() == ("UTC",), "now() compares with times in UTC"
    with pytest.raises(errors.UndefinedObject):
        connection.execute("SET memory_limit = '100GB'")


def test_time_zone_of_the_client_changes_no_answer(server: Served) -> None:
    with server.connect(options="-c TimeZone=Asia/Tokyo") as connection:
        assert connection.info.parameter_status("TimeZone") == "UTC"
        assert connection.execute(
            "SELECT now()::TIMESTAMP - (now() AT TIME ZONE 'UTC') < INTERVAL 1 SECOND"
        ).fetchone() == (True,)


# Values


VALUES = {
    "true": True,
    "1::TINYINT": 1,
    "2::SMALLINT": 2,
    "3": 3,
    "4::BIGINT": 4,
    "5::HUGEINT": Decimal(5),
    "18446744073709551615::UBIGINT": Decimal(18446744073709551615),
    "1.5::FLOAT": 1.5,
    "2.25::DOUBLE": 2.25,
    "1e300": 1e300,
    "'inf'::DOUBLE": float("inf"),
    "'ä'": "ä",
    "12.345::DECIMAL(9,4)": Decimal("12.3450"),
    "-0.0001::DECIMAL(9,4)": Decimal("-0.0001"),
    "0::DECIMAL(3,1)": Decimal("0.0"),
    "1000000::DECIMAL(9,2)": Decimal("1000000.00"),
    "DATE '2026-01-02'": date(2026, 1, 2),
    "TIME '10:11:12.5'": time_of_day(10, 11, 12, 500_000),
    "TIMESTAMP '1999-12-31 23:59:59.000006'": datetime(1999, 12, 31, 23, 59, 59, 6),
    "TIMESTAMPTZ '2026-01-02 03:04:05+02'": datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
    "INTERVAL '1 day 2 hours'": timedelta(days=1, hours=2),
    "INTERVAL '-3 seconds'": timedelta(seconds=-3),
    "'5dd1d3b5-7d3c-4a2e-8a3e-8d3f3c4b5a69'::UUID": UUID("5dd1d3b5-7d3c-4a2e-8a3e-8d3f3c4b5a69"),
    "'\\xAA\\x00'::BLOB": b"\xaa\x00",
    "[1, NULL, 3]": [1, None, 3],
    "['a', 'b c', 'd\"e\\', 'NULL', '']": ["a", "b c", 'd"e\\', "NULL", ""],
    "[]::INTEGER[]": [],
    "[1.5, 2.5]::DOUBLE[]": [1.5, 2.5],
    "{'a': 1}": {"a": 1},
    "MAP {'k': [1]}": {"k": [1]},
    "'{\"a\": 1}'::JSON": {"a": 1},
    "NULL": None,
    "[[1], [2]]": [[1], [2]],
    "'x'::ENUM('x', 'y')": "x",
}


@pytest.mark.parametrize("binary", [False, True])
def test_values_of_all_types(connection: Connection, binary: bool) -> None:
    got = connection.execute(f"SELECT {', '.join(VALUES)}", binary=binary).fetchone()
    assert got is not None and dict(zip(VALUES, got, strict=True)) == VALUES


def test_a_short_float_is_shown_short(connection: Connection) -> None:
    assert connection.execute("SELECT 0.1::FLOAT").fetchone() == (0.1,)


def test_parameters_in_text_and_bytes(connection: Connection) -> None:
    values = (
        *(True, 7, 2**40, 1.5, Decimal("-12345.678900"), "a'b\\c$1", b"\x00\xff", date(2026, 1, 2)),
        *(time_of_day(1, 2, 3), datetime(2026, 1, 2, 3, 4), timedelta(days=1, seconds=2, microseconds=3)),
        *(UUID("5dd1d3b5-7d3c-4a2e-8a3e-8d3f3c4b5a69"), [1, 2, None], None, ["a", 'b{"', ""]),
    )
    for form in ("%t", "%b"):
        query = f"SELECT {', '.join([form] * len(values))}::text[]"
        got = connection.execute(query, values, binary=form == "%b").fetchone()
        assert got == values, form
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert connection.execute("SELECT %s", (moment,)).fetchone() == (moment.replace(tzinfo=None),), "times are in UTC"


def test_parameters_beside_columns(connection: Connection) -> None:
    query = (
        "SELECT count(*) FROM readings WHERE metric = ANY(%s) AND observed_at >= %s AND device_id <> %s "
        "AND value_number BETWEEN %s AND %s LIMIT %s"
    )
    given = (["battery.level"], datetime(2026, 11, 17, tzinfo=UTC), "none' OR true --", 0, 100.5, 1)
    plain = (
        "SELECT count(*) FROM readings WHERE metric = 'battery.level' AND observed_at >= '2026-11-17' "
        "AND value_number BETWEEN 0 AND 100.5"
    )
    assert connection.execute(query, given).fetchone() == connection.execute(plain).fetchone()
    assert (
        connection.execute(query, given, binary=True, prepare=True).fetchone() == connection.execute(plain).fetchone()
    )


def test_types_that_a_client_leaves_open(server: Served) -> None:
    """As Go's and asyncpg's drivers do: they ask the server for the types and encode values for them."""
    with server.connect() as connection:
        result = connection.pgconn.prepare(
            b"open",
            b"SELECT device_id, $1 FROM latest WHERE observed_at > $2 AND value_number < $3 AND device_id = ANY($4) "
            b"AND $5::boolean LIMIT $6",
        )
        assert result.status == psycopg.pq.ExecStatus.COMMAND_OK, result.error_message
        described = connection.pgconn.describe_prepared(b"open")
        assert [described.param_type(at) for at in range(described.nparams)] == [25, 1114, 701, 1009, 16, 20]
        assert [described.ftype(at) for at in range(described.nfields)] == [25, 25]


# What is refused


@pytest.mark.parametrize(
    ("statement", "state"),
    [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nosuch", "42P01"),
        ("SELECT nosuch FROM latest", "42703"),
        ("SELECT nosuch(1)", "42883"),
        ("SELECT 'x'::INTEGER", "22P02"),
        ("SELECT 9999999999::INTEGER", "22P02"),
        ("SELECT device_id FROM latest a, latest b", "42702"),
        ("INSERT INTO latest VALUES (1)", "25006"),
        ("DELETE FROM latest", "25006"),
        ("CREATE TABLE x (a INTEGER)", "25006"),
        ("CREATE TEMP TABLE x AS SELECT 1", "25006"),
        ("WITH a AS (SELECT 1) INSERT INTO latest SELECT * FROM a", "25006"),
        ("EXPLAIN ANALYZE DELETE FROM latest", "25006"),
        ("PRAGMA enable_external_access = true", "25006"),
        ("CALL pragma_version()", "25006"),
        ("COPY latest TO STDOUT", "0A000"),
        ("COPY (SELECT 1) TO '{data}/lake/x.csv'", "0A000"),
        ("EXPLAIN ANALYZE COPY (SELECT 1) TO '{data}/lake/x.csv'", "25006"),
        ("ATTACH '{data}/lake/x.db'", "25006"),
        ("INSTALL httpfs", "25006"),
        ("FROM read_text('/etc/passwd')", "42501"),
        ("FROM read_text('{data}/lake/../state/alarms.db')", "42501"),
        ("FROM read_csv('http://127.0.0.1:1/x')", None),
        ("FROM read_parquet('s3://bucket/x.parquet')", None),
    ],
)
def test_only_queries_are_run_and_errors_have_their_state(server: Served, statement: str, state: str | None) -> None:
    with server.connect() as connection:
        for prepare in (False, True):
            with pytest.raises(psycopg.Error) as caught:
                connection.execute(statement.format(data=server.data), prepare=prepare)
            assert state is None or caught.value.sqlstate == state, caught.value
    assert not list((server.data / "lake").glob("x*"))


def test_an_error_names_its_place(connection: Connection) -> None:
    with pytest.raises(errors.UndefinedColumn) as caught:
        connection.execute("SELECT device_id,\n nosuch FROM latest")
    assert caught.value.diag.statement_position == "20"


def test_a_query_that_takes_too_long_is_cancelled(connection: Connection) -> None:
    began = time.monotonic()
    with pytest.raises(errors.QueryCanceled, match="too long"):
        connection.execute(ENDLESS)
    assert SECONDS - 1 < time.monotonic() - began < SECONDS + 30
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_client_may_ask_for_less_time(connection: Connection) -> None:
    connection.execute("SELECT 1")
    connection.execute("SET statement_timeout = '200ms'")
    began = time.monotonic()
    with pytest.raises(errors.QueryCanceled):
        connection.execute(ENDLESS)
    assert time.monotonic() - began < SECONDS


def test_cancelling(server: Served) -> None:
    with server.connect() as connection:
        connection.execute("SELECT 1")
        failed: list[psycopg.Error] = []

        def run() -> None:
            try:
                connection.execute(ENDLESS)
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        # It has no effect before the query runs, so it is asked for until the query ends.
        eventually_blocking(lambda: connection.cancel_safe() or not thread.is_alive(), 30)
        thread.join()
        assert failed and failed[0].sqlstate == "57014" and "user request" in str(failed[0])
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_result_beyond_the_limit_fails_and_is_not_cut(connection: Connection) -> None:
    assert len(connection.execute(f"FROM range({ROWS})").fetchall()) == ROWS
    with pytest.raises(errors.ProgramLimitExceeded, match="more than"):
        connection.execute(f"FROM range({ROWS + 1})")


def test_memory_of_a_query_is_limited(connection: Connection) -> None:
    with pytest.raises(psycopg.Error) as caught:
        connection.execute("SELECT list(repeat('x', 1000) || i) FROM range(3000000) t(i)")
    assert caught.value.sqlstate in ("53200", "57014")
    assert connection.execute("SELECT 1").fetchone() == (1,)


def test_results_that_wait_do_not_keep_others_out(server: Served) -> None:
    """Two processes; two clients read in parts; a third one is served once one of them has read to the end."""
    with server.connect(autocommit=False) as first, server.connect(autocommit=False) as second:
        for held in (first, second):
            held.execute("DECLARE c CURSOR FOR FROM range(10000)")
            held.execute("FETCH 1 FROM c")
        first.execute("CLOSE c")
        with server.connect() as third:
            assert third.execute("SELECT 1").fetchone() == (1,)


def test_each_query_sees_what_was_published_last(server: Served) -> None:
    """Replaces the published file by a copy, as the sink does; the count of tables stays."""
    with server.connect() as connection:
        before = connection.execute("SELECT count(*) FROM readings").fetchone()
        fresh = server.data / "fleet.duckdb.new"
        shutil.copy(server.data / "fleet.duckdb", fresh)
        os.replace(fresh, server.data / "fleet.duckdb")
        assert connection.execute("SELECT count(*) FROM readings").fetchone() == before


def test_nothing_published_is_said(tmp_path: Path) -> None:
    from sinks.duckdb.confinement import QueryLimits
    from sql_server.calls import Run
    from sql_server.errors import NOT_YET, SqlError
    from sql_server.worker import Worker

    answer = Worker(lambda: pytest.fail("nothing to open"), tmp_path, QueryLimits(1, 1, 64)).answer(Run("SELECT 1"))
    assert isinstance(answer, SqlError) and answer.state == NOT_YET
