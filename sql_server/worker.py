"""The process that runs the SQL of clients: a confined DuckDB on the tables that were published last."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from sinks.duckdb.confinement import NotAQuery, QueryLimits, confine, only_query
from sql_server import catalog
from sql_server.calls import Answer, Call, Describe, Described, Fetch, Rows, Run, Started
from sql_server.errors import INTERNAL, NOT_YET, READ_ONLY, SYNTAX, TOO_MUCH, SqlError, from_duckdb
from sql_server.lexer import Kind, tokens
from sql_server.parameters import null_of, resolved_types, value_as_sql
from sql_server.protocol import BINARY, Column, data_row, format_of
from sql_server.rewriting import rewritten, substituted
from sql_server.types import Encode, ResultType, result_type

Connect = Callable[[], duckdb.DuckDBPyConnection]
"""Opens the published tables read-only. FileNotFoundError where nothing is published yet."""

_OOM_SCORE = "900"
_BATCH = 500
_CHUNK_BYTES = 256 * 1024
_EXPLAIN = re.compile(r"\s*EXPLAIN\b\s*(ANALYZE\b)?", re.IGNORECASE)


def serve(pipe: Connection, connect: Connect, data: Path, limits: QueryLimits) -> None:
    """Answer one call after another until the pipe closes. The main function of the process."""
    with contextlib.suppress(OSError):  # if memory runs out, this process goes, and not the server or the pipeline
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    worker = Worker(connect, data, limits)
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        while True:
            pipe.send(worker.answer(pipe.recv()))


class Worker:
    """Runs one statement at a time. Each sees the newest published tables; a result is read to its end or dropped."""

    def __init__(self, connect: Connect, data: Path, limits: QueryLimits) -> None:
        self._connect, self._data, self._limits = connect, data, limits
        self._published = _Published(connect, data, limits)
        self._result: _Result | None = None

    def answer(self, call: Call) -> Answer:
        """What a call gives; errors are answers, too."""
        try:
            match call:
                case Describe():
                    return self._describe(call)
                case Run():
                    return self._run(call)
                case Fetch():
                    assert self._result is not None
                    return self._result.rows(call.most)
        except SqlError as error:
            return error
        except NotAQuery:
            return SqlError(
                READ_ONLY, "only queries are run here: SELECT, WITH, VALUES, FROM, DESCRIBE, SUMMARIZE, SHOW"
            )
        except FileNotFoundError:
            return SqlError(NOT_YET, "nothing has been published yet; the pipeline's first commit does")
        except duckdb.Error as error:
            return from_duckdb(str(error))
        except (ArithmeticError, ValueError, TypeError, LookupError) as error:  # a value that no encoder takes
            return SqlError(INTERNAL, f"a value cannot be sent: {error}")

    def _describe(self, call: Describe) -> Described:
        self._result = None
        query_tokens = tokens(call.query)
        self._published.connection(call.query)
        oids = resolved_types(query_tokens, call.oids, self._published.column_types)
        query, explains = _checked(rewritten(substituted(query_tokens, [null_of(oid) for oid in oids])))
        if explains:
            return Described(oids, _columns(_EXPLAIN_RESULT))
        described = self._published.connection(query).execute(f"DESCRIBE {query}").fetchall()
        return Described(oids, _columns((row[0], str(row[1])) for row in described))

    def _run(self, call: Run) -> Started:
        self._result = None
        text = rewritten(_with_values(call))
        connection = self._published.connection(text)
        query, explains = _checked(text)
        try:
            result = connection.execute(f"{explains}{query}")
        except duckdb.Error as error:
            raise _placed(from_duckdb(str(error)), text == call.query, len(explains)) from error
        description = _EXPLAIN_RESULT if explains else [(str(d[0]), str(d[1])) for d in result.description or []]
        fetch = partial(_plan_lines, result) if explains else result.fetchmany
        self._result = _Result(fetch, [t for _, t in description], call.result_formats, self._limits.rows)
        return Started(_columns(description))


class _Published:
    """A confined connection to the tables that were published last, with what is only made if it is needed."""

    def __init__(self, connect: Connect, data: Path, limits: QueryLimits) -> None:
        self._connect, self._data, self._limits = connect, data, limits
        self._open: duckdb.DuckDBPyConnection | None = None
        self._stamp: tuple[int, int] | None = None
        self._has_catalog = False
        self._column_types: dict[str, int] | None = None

    def connection(self, query: str) -> duckdb.DuckDBPyConnection:
        """A connection for a query. FileNotFoundError where nothing is published yet."""
        status = (self._data / "fleet.duckdb").stat()
        stamp = (status.st_ino, status.st_mtime_ns)
        if self._open is None or stamp != self._stamp:
            self._close()
            self._open, self._stamp = self._opened(), stamp
        if not self._has_catalog and catalog.MENTIONED.search(query):
            for statement in catalog.setup():
                self._open.execute(statement)
            self._has_catalog = True
        return self._open

    def column_types(self) -> dict[str, int]:
        """PostgreSQL's types of the columns by name; after `connection`."""
        assert self._open is not None
        if self._column_types is None:
            self._column_types = dict(self._open.execute(catalog.COLUMN_TYPES).fetchall())
        return self._column_types

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open, self._has_catalog, self._column_types = None, False, None

    def _opened(self) -> duckdb.DuckDBPyConnection:
        connection = self._connect()
        for statement in (*catalog.SCHEMAS, "SET errors_as_json = true"):
            connection.execute(statement)
        confine(connection, self._data, self._limits)
        return connection


class _Result:
    """The rows of a running statement, encoded as the client asked."""

    def __init__(
        self, fetch: Callable[[int], list[tuple[Any, ...]]], names: Sequence[str], formats: Sequence[int], most: int
    ) -> None:
        self._fetch, self._most = fetch, most
        self._encode = [_encoder(result_type(name), format_of(formats, at)) for at, name in enumerate(names)]
        self._waiting: list[tuple[Any, ...]] = []
        self._sent = 0

    def rows(self, most: int) -> Rows:
        """The next rows: at most so many (0: any number), and about `_CHUNK_BYTES`. SqlError beyond the limit."""
        parts: list[bytes] = []
        size = count = 0
        while size < _CHUNK_BYTES and (not most or count < most):
            if not self._waiting and not (waiting := self._fetch(_BATCH)):
                break
            self._waiting = self._waiting or waiting
            room = min(len(self._waiting), most - count if most else len(self._waiting))
            batch, self._waiting = self._waiting[:room], self._waiting[room:]
            parts += [data_row(self._cells(row)) for row in batch]
            size += sum(map(len, islice(parts, len(parts) - len(batch), None)))
            count += len(batch)
        self._sent += count
        if self._sent > self._most:
            raise SqlError(
                TOO_MUCH, f"the result has more than {self._most:,} rows", "Add LIMIT, or raise query_rows in [sql]."
            )
        if not self._waiting:
            self._waiting = self._fetch(_BATCH)
        return Rows(b"".join(parts), count, done=not self._waiting)

    def _cells(self, row: tuple[Any, ...]) -> list[bytes | None]:
        return [None if v is None else encode(v) for encode, v in zip(self._encode, row, strict=True)]


def _encoder(of: ResultType, form: int) -> Encode:
    return of.binary if form == BINARY else of.text


def _checked(text: str) -> tuple[str, str]:
    """The query, and the EXPLAIN in front of it. NotAQuery for anything else."""
    match = _EXPLAIN.match(text)
    if match is None:
        return only_query(text), ""
    return only_query(text[match.end() :]), "EXPLAIN ANALYZE " if match[1] else "EXPLAIN "


_EXPLAIN_RESULT = [("QUERY PLAN", "VARCHAR")]


def _plan_lines(result: duckdb.DuckDBPyConnection, _: int) -> list[tuple[Any, ...]]:
    """A plan line by line, as PostgreSQL gives it."""
    return [(line,) for row in result.fetchall() for line in str(row[-1]).splitlines()]


def _columns(named: Any) -> tuple[Column, ...]:
    columns = []
    for name, duckdb_type in named:
        of = result_type(duckdb_type)
        columns.append(Column(str(name), of.oid, of.size))
    return tuple(columns)


def _with_values(call: Run) -> str:
    """The statement with the values in it. SqlError where some are missing."""
    query_tokens = tokens(call.query)
    needed = max((int(t.text[1:]) for t in query_tokens if t.kind is Kind.PARAMETER), default=0)
    if needed > len(call.values):
        raise SqlError(SYNTAX, f"the statement has {needed} parameters, and {len(call.values)} were given")
    if not call.values:
        return call.query
    oids = (*call.oids, *[0] * (len(call.values) - len(call.oids)))
    forms = [format_of(call.formats, index) for index in range(len(call.values))]
    return substituted(query_tokens, [value_as_sql(*each) for each in zip(oids, forms, call.values, strict=False)])


def _placed(error: SqlError, as_sent: bool, before: int) -> SqlError:
    """The error with its place in the client's text, if that is what was run."""
    place = error.position - before
    return SqlError(error.state, error.message, error.hint, place if as_sent and place > 0 else 0)
