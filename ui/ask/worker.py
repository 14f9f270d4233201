"""The process that runs a viewer's SQL. It reads the published tables and the lake's files, and nothing else.

DuckDB is told so before it sees the query: no file but the lake's, no network, no extension, no setting can be changed.
Only queries are run, since COPY could still write into the lake's folder.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from sinks.duckdb.confinement import NotAQuery, QueryLimits, confine, only_query
from ui.tables import Connect

_BATCH = 1000
_MOST_BYTES = 24 * 1024 * 1024
_MOST_CELL = 100_000
_OOM_SCORE = "900"


@dataclass(frozen=True)
class QueryAnswer:
    """The rows of a query, or why there are none."""

    names: list[str]
    types: list[str]
    rows: list[list[Any]]
    truncated: bool
    seconds: float
    error: str = ""


def serve(pipe: Connection, connect: Connect, data: Path, limits: QueryLimits) -> None:
    """Answer one query after another until the pipe closes. The main function of the process."""
    with contextlib.suppress(OSError):  # if memory runs out, this process goes, and not the page or the pipeline
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            pipe.send(answer(pipe.recv(), connect, data, limits))


def answer(text: str, connect: Connect, data: Path, limits: QueryLimits) -> QueryAnswer:
    """The answer of a query on a new, confined connection."""
    started = time.monotonic()
    try:
        query = only_query(text)
        with connect() as connection:
            confine(connection, data, limits)
            result = connection.execute(query)
            columns = result.description or []
            names, types = [c[0] for c in columns], [str(c[1]) for c in columns]
            rows, truncated = _bounded(_batches(result.fetchmany), limits.rows)
        return QueryAnswer(names, types, rows, truncated, time.monotonic() - started)
    except (duckdb.Error, NotAQuery, FileNotFoundError) as error:
        return QueryAnswer([], [], [], False, time.monotonic() - started, str(error))


def _batches(fetch: Callable[[int], list[tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
    while batch := fetch(_BATCH):
        yield batch


def _bounded(batches: Iterator[list[tuple[Any, ...]]], most: int) -> tuple[list[list[Any]], bool]:
    rows: list[list[Any]] = []
    size = 0
    for batch in batches:
        for row in batch:
            if len(rows) >= most or size >= _MOST_BYTES:
                return rows, True
            plain_row = [plain(value) for value in row]
            size += sum(len(value) if isinstance(value, str) else 8 for value in plain_row)
            rows.append(plain_row)
    return rows, False


def plain(value: Any) -> Any:
    """A value of DuckDB as JSON has it; times as RFC 3339 in UTC, structures as text."""
    match value:
        case None | bool() | int():
            return value if value is None or abs(value) < 2**53 else str(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case datetime():
            return value.isoformat() + ("Z" if value.tzinfo is None else "")
        case date() | time_of_day():
            return value.isoformat()
        case bytes():
            return value[: _MOST_CELL // 2].hex()
        case _:
            return str(value)[:_MOST_CELL]
