"""The pure parts: tokens, rewriting, parameters, commands, values, messages."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sql_server import types
from sql_server.commands import Action, Command, command
from sql_server.errors import SqlError, from_duckdb
from sql_server.lexer import statements, tokens
from sql_server.numeric import binary_numeric, decimal_text
from sql_server.parameters import resolved_types, value_as_sql
from sql_server.protocol import Bind, Parse, error_response, read_bind, read_parse, read_startup
from sql_server.rewriting import rewritten, substituted
from sql_server.session import Session, timeout_seconds

ANY_SQL = st.text(alphabet="ab1$'\"\\;:.()*/-+eE \n_", max_size=60)


# Tokens


@given(ANY_SQL)
def test_tokens_are_the_whole_text(text: str) -> None:
    assert "".join(token.text for token in tokens(text)) == text


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        (" ;; -- x\n ; /* ; */", []),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT \";\"", ["SELECT ';'", 'SELECT ";"']),
        ("SELECT 'it''s;' || E'\\';' ; x", ["SELECT 'it''s;' || E'\\';'", "x"]),
        ("SELECT $$;$$, $a$;$b$;$a$; x", ["SELECT $$;$$, $a$;$b$;$a$", "x"]),
        ("SELECT 1 -- ;\n + 1; /* ; /* ; */ ; */ x", ["SELECT 1 -- ;\n + 1", "/* ; /* ; */ ; */ x"]),
        ("SELECT 'open ; x", ["SELECT 'open ; x"]),
    ],
)
def test_statements_are_split_at_their_ends_only(text: str, parts: list[str]) -> None:
    assert statements(text) == parts


# Parameters


@given(st.text(max_size=40).filter(lambda text: "\0" not in text))
def test_a_value_stays_one_literal(value: str) -> None:
    """Whatever stands in it: the statement around it has the tokens that it had."""
    around = tokens("SELECT $1 AS x WHERE '$1' = \"$1\" -- $1")
    literal = value_as_sql(0, 0, value.encode())
    text = substituted(around, [literal])
    assert [t.text for t in tokens(text)] == [literal if t.text == "$1" else t.text for t in around]


@pytest.mark.parametrize(
    ("oid", "form", "raw", "sql"),
    [
        (0, 0, None, "NULL"),
        (types.INT4.oid, 0, None, "CAST(NULL AS INTEGER)"),
        (types.TEXT.array, 0, None, "CAST(NULL AS VARCHAR[])"),
        (types.INT8.oid, 1, struct.pack("!q", -5), "CAST('-5' AS BIGINT)"),
        (types.NUMERIC.oid, 0, b"-1.50", "(-1.50)"),
        (types.TIMESTAMPTZ.oid, 1, struct.pack("!q", 0), "CAST('2000-01-01 00:00:00+00' AS TIMESTAMP)"),
        (types.BYTEA.oid, 0, b"\\x00ff", "CAST('\\x00\\xFF' AS BLOB)"),
        (types.TEXT.array, 0, b'{a,"b,\\"c",NULL}', "CAST(['a', 'b,\"c', NULL] AS VARCHAR[])"),
        (types.INT4.array, 0, b"{}", "CAST([] AS INTEGER[])"),
    ],
)
def test_values_as_sql(oid: int, form: int, raw: bytes | None, sql: str) -> None:
    assert value_as_sql(oid, form, raw) == sql


@pytest.mark.parametrize(
    ("oid", "form", "raw"),
    [
        (types.NUMERIC.oid, 0, b"1) OR (1=1"),
        (types.INT4.oid, 1, b"\0"),
        (types.INT4.array, 0, b"{1,2"),
        (types.INT4.array, 0, b"1"),
        (types.INT4.array, 1, b"\0\0\0\1"),
        (types.TEXT.oid, 0, b"\xff"),
        (types.BYTEA.oid, 0, b"\\xzz"),
    ],
)
def test_values_that_are_none(oid: int, form: int, raw: bytes) -> None:
    with pytest.raises(SqlError):
        value_as_sql(oid, form, raw)


def test_open_types() -> None:
    columns = {"device_id": types.TEXT.oid, "observed_at": types.TIMESTAMP.oid}

    def guessed(text: str, *given_oids: int) -> tuple[int, ...]:
        return resolved_types(tokens(text), given_oids, lambda: columns)

    assert guessed("SELECT 1") == ()
    assert guessed("SELECT $2", 0, types.INT4.oid) == (types.TEXT.oid, types.INT4.oid)
    assert guessed("WHERE a.observed_at >= $1 AND observed_at BETWEEN $2 AND $3") == (types.TIMESTAMP.oid,) * 3
    assert guessed("WHERE device_id = ANY ( $1 ) LIMIT $2 OFFSET $3") == (types.TEXT.array, 20, 20)
    assert guessed("SELECT $1::double precision, $2 :: int[]") == (types.FLOAT8.oid, types.INT4.array)


# Values


@given(st.decimals(allow_nan=False, allow_infinity=False, places=9, min_value=-(10**25), max_value=10**25))
def test_numeric_there_and_back(value: Decimal) -> None:
    assert Decimal(decimal_text(binary_numeric(value))) == value


@pytest.mark.parametrize(
    ("value", "count", "weight", "scale", "groups"),
    [
        (Decimal("0"), 0, 0, 0, ()),
        (Decimal("0.00"), 0, 0, 2, ()),
        (12345678, 2, 1, 0, (1234, 5678)),
        (Decimal("10000"), 1, 1, 0, (1,)),
        (Decimal("0.0001"), 1, -1, 4, (1,)),
        (Decimal("0.00001"), 1, -2, 5, (1000,)),
        (Decimal("1E+5"), 1, 1, 0, (10,)),
        (Decimal("-1.5"), 2, 0, 1, (1, 5000)),
    ],
)
def test_numeric_as_postgresql_writes_it(value: Any, count: int, weight: int, scale: int, groups: tuple[int]) -> None:
    raw = binary_numeric(value)
    head = struct.unpack_from("!hhHh", raw)
    assert (head[0], head[1], head[3]) == (count, weight, scale)
    assert struct.unpack_from(f"!{count}h", raw, 8) == groups
    assert (head[2] == 0x4000) is (value < 0)


@pytest.mark.parametrize(
    ("duckdb_type", "oid"),
    [
        ("VARCHAR", 25),
        ("DECIMAL(18,3)", 1700),
        ("TIMESTAMP WITH TIME ZONE", 1184),
        ("INTEGER[]", 1007),
        ("VARCHAR[3]", 1009),
        ("INTEGER[][]", 114),
        ("STRUCT(a INTEGER[])", 114),
        ("STRUCT(a INTEGER)[]", 114),
        ("MAP(VARCHAR, INTEGER)", 114),
        ("ENUM('a', 'b[]')", 25),
        ('"NULL"', 25),
        ("SOMETHING NEW", 25),
    ],
)
def test_types_of_results(duckdb_type: str, oid: int) -> None:
    assert types.result_type(duckdb_type).oid == oid


def test_texts_hold_no_nul_and_are_utf8() -> None:
    assert types.TEXT.text("a\0b\ud800") == b"ab?"


# Rewriting


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT 1 FROM latest", "SELECT 1 FROM latest"),
        ("SELECT 'pg_catalog.x', \"pg_catalog.x\" -- pg_catalog.x", None),
        ("FROM pg_catalog.pg_class c", "FROM pg_class c"),
        ('FROM "pg_catalog" . "pg_class"', 'FROM "pg_class"'),
        ("FROM information_schema.tables", "FROM memory.pg_information.tables"),
        ("FROM information_schema.character_sets", None),
        ("a OPERATOR(pg_catalog.~) 'x' COLLATE pg_catalog.default", "a  ~ 'x' "),
        ("a OPERATOR(pg_catalog.!~) 'x' COLLATE \"C\"", "a  !~ 'x' "),
        ("'latest'::regclass", "to_regclass('latest')"),
        ("'latest'::pg_catalog.regclass::oid", "to_regclass('latest')::oid"),
        ("CAST('a.latest' AS REGCLASS)", "to_regclass('a.latest')"),
        ("CAST(oid AS REGCLASS), c.oid::pg_catalog.regclass", "CAST(oid AS REGCLASS), c.oid::regclass"),
        ("current_setting('search_path')", "pg_current_setting('search_path')"),
        ("json_build_object('a', 1)", "json_object('a', 1)"),
    ],
)
def test_rewriting(text: str, expected: str | None) -> None:
    assert rewritten(text) == (text if expected is None else expected)


@given(ANY_SQL)
def test_rewriting_never_fails(text: str) -> None:
    for around in (text, f"pg_{text}", f"pg_catalog.{text}", f"OPERATOR({text}", f"COLLATE {text}", f"CAST({text}"):
        rewritten(around)


# Commands


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Command(Action.NOTHING)),
        ("-- x", Command(Action.NOTHING)),
        ("begin", Command(Action.BEGIN, "BEGIN")),
        ("START TRANSACTION READ ONLY", Command(Action.BEGIN, "START TRANSACTION")),
        ("END", Command(Action.COMMIT, "COMMIT")),
        ("ROLLBACK TO SAVEPOINT a", Command(Action.ACCEPT, "ROLLBACK")),
        ("/* x */ SET datestyle = 'ISO'", Command(Action.SET, "SET", "DateStyle", "ISO")),
        ("SET SESSION statement_timeout TO 500", Command(Action.SET, "SET", "statement_timeout", "500")),
        ("SET LOCAL TIME ZONE 'UTC'", Command(Action.SET, "SET", "TimeZone", "UTC")),
        ("SHOW timezone", Command(Action.SHOW, "SHOW", "TimeZone")),
        ("SHOW TABLES", Command(Action.QUERY, text="SHOW TABLES")),
        ("DEALLOCATE PREPARE x", Command(Action.DEALLOCATE, "DEALLOCATE", "x")),
        ("DEALLOCATE ALL", Command(Action.DEALLOCATE, "DEALLOCATE", "")),
        (
            "DECLARE \"C 1\" NO SCROLL CURSOR WITH HOLD FOR SELECT 'for' FROM x",
            Command(Action.DECLARE, "DECLARE CURSOR", "C 1", "SELECT 'for' FROM x"),
        ),
        ("FETCH FORWARD 10 FROM c", Command(Action.FETCH, "FETCH", "c", count=10)),
        ("FETCH NEXT c", Command(Action.FETCH, "FETCH", "c", count=1)),
        ("FETCH ALL IN c", Command(Action.FETCH, "FETCH", "c")),
        ("CLOSE c", Command(Action.CLOSE, "CLOSE CURSOR", "c")),
        ("WITH a AS (SELECT 1) FROM a", Command(Action.QUERY, text="WITH a AS (SELECT 1) FROM a")),
    ],
)
def test_commands(text: str, expected: Command) -> None:
    assert command(text) == expected


@pytest.mark.parametrize(
    "text", ["SET nosuch = 1", "SET x", "FETCH BACKWARD 1 FROM c", "DECLARE c", "update x", "COPY x TO STDOUT"]
)
def test_refused_commands(text: str) -> None:
    with pytest.raises(SqlError):
        command(text)


@given(ANY_SQL)
def test_any_text_is_a_command_or_refused(text: str) -> None:
    for around in (text, f"SET {text}", f"FETCH {text}", f"DECLARE {text}", f"CLOSE {text}", f"SHOW {text}"):
        try:
            command(around)
        except SqlError as error:
            assert error.state


def test_time_limits() -> None:
    session = Session()
    assert session.seconds(30) == 30
    session.set("statement_timeout", "2s")
    assert session.seconds(30) == 2 and session.seconds(1) == 1
    assert [timeout_seconds(text) for text in ("500", "1min", "0", "default")] == [0.5, 60, 0, 0]
    with pytest.raises(SqlError):
        session.set("statement_timeout", "soon")


# Messages


def test_messages_are_read() -> None:
    assert read_startup(b"user\0a\0database\0b\0\0") == {"user": "a", "database": "b"}
    assert read_parse(b"n\0SELECT $1\0\0\1\0\0\0\x17") == Parse("n", "SELECT $1", (23,))
    raw = b"p\0n\0\0\1\0\1\0\2\xff\xff\xff\xff\0\0\0\2ab\0\1\0\0"
    assert read_bind(raw) == Bind("p", "n", (1,), (None, b"ab"), (0,))


@given(st.binary(max_size=40))
def test_no_message_breaks_the_reader(raw: bytes) -> None:
    for read in (read_startup, read_parse, read_bind):
        try:
            read(raw)
        except SqlError as error:
            assert error.state == "08P01"


def test_errors_of_duckdb() -> None:
    error = from_duckdb(
        'Catalog Error: {"exception_type":"Catalog","exception_message":"Table with name x does not exist!\\nDid you '
        'mean \\"y\\"?","position":"14","error_subtype":"MISSING_ENTRY"}'
    )
    assert (error.state, error.position, error.hint) == ("42P01", 15, 'Did you mean "y"?')
    assert error.message == "Table with name x does not exist!"
    assert from_duckdb("Binder Error: something {odd").message == "something {odd"
    assert b"C42P01\0" in error_response(error) and b"P15\0" in error_response(error)
