"""A session on the published tables of a data folder: connect, run queries, and say what to do about errors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from fleetlake.errors import UserError, file_reason, reason

if TYPE_CHECKING:
    import duckdb

T = TypeVar("T")

BATCH = 10_000
NOTHING_PUBLISHED = (
    "{folder} has no fleet.duckdb: nothing has been published there yet. `fleetlake demo` or `fleetlake up` fills it; "
    "--data names another folder"
)


@dataclass(frozen=True)
class Answer:
    """The result of a statement: names and DuckDB types of its columns, and its rows, batch by batch."""

    names: list[str]
    types: list[str]
    batches: Iterator[list[tuple[Any, ...]]]

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows, one by one."""
        for batch in self.batches:
            yield from batch


class Session:
    """A connection to the published tables of a data folder: each query sees the newest published state.

    Temporary tables and variables stay. UserError where nothing has been published yet.
    """

    def __init__(self, data: Path, storage_options: Mapping[str, str] | None = None) -> None:
        from fleetlake.api import connect

        self.folder = data.resolve()
        self._file = self._stamp()
        self._options = storage_options
        self._connection = connect(self.folder, storage_options)
        self._in_transaction = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sql")

    def ask(self, text: str) -> Answer | None:
        """Run the statements and return the last answer; None if there is none. UserError states what is wrong."""
        import duckdb

        self._refresh()
        try:
            statements = duckdb.extract_statements(text)
            for statement in statements:
                self._run(lambda: self._connection.execute(statement))  # noqa: B023 (ends before the next one)
                self._note_transaction(statement)
            return self._answer() if statements else None
        except duckdb.Error as error:
            raise explained(error) from error

    def answers(self, text: str) -> Iterator[Answer]:
        """Run the statements and return the answer of each before the next one runs; a query's, or the rows changed."""
        import duckdb

        self._refresh()
        try:
            for statement in duckdb.extract_statements(text):
                self._run(lambda: self._connection.execute(statement))  # noqa: B023 (ends before the next one)
                self._note_transaction(statement)
                yield self._answer()
        except duckdb.Error as error:
            raise explained(error) from error

    def write(self, text: str, target: Path, ending: str = "") -> int:
        """Write the answer of a query to a Parquet, CSV or JSON file, whole or not at all.

        The format goes by `ending`, one of `FILE_FORMATS`, if given, else by the ending of the name.

        Returns the number of rows. UserError for other endings, and where the query or the writing fails.
        """
        import duckdb

        options = _copy_options(target, ending)
        self._refresh()
        # Written beside the target and renamed, so that nobody finds half a file. DuckDB compresses by the ending.
        beside = target.with_name(f".{os.getpid()}-{target.name}")
        try:
            statements = duckdb.extract_statements(text)
            if not statements:
                raise UserError("there is no query")
            for statement in statements[:-1]:
                self._run(lambda: self._connection.execute(statement))  # noqa: B023 (ends before the next one)
            query = statements[-1].query.rstrip().rstrip(";")
            to = str(beside).replace("'", "''")
            copy = f"COPY ({query}\n) TO '{to}' ({options})"
            [(rows,)] = self._run(lambda: self._connection.execute(copy).fetchall())
            beside.replace(target)
            return int(rows)
        except duckdb.Error as error:
            raise explained(error) from error
        except OSError as error:
            raise UserError(f"cannot write {target}: {reason(error)}") from error
        finally:
            beside.unlink(missing_ok=True)

    def words(self) -> dict[str, str]:
        """The words of a query with their meanings: our tables, columns and macros, keywords, functions."""
        ordered: dict[str, str] = {}
        for word, meaning in self._connection.execute(_WORDS).fetchall():
            ordered.setdefault(word, meaning)  # ours come first, and hide others of the same name
        return ordered

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._thread.shutdown()
        self._connection.close()

    def _run(self, work: Callable[[], T]) -> T:
        """Run the work in the thread: DuckDB does not react to Ctrl-C while it works, so this thread has to."""
        running = self._thread.submit(work)
        try:
            return running.result()
        except KeyboardInterrupt:
            while not running.done():  # repeatedly, since it may not have begun yet
                self._connection.interrupt()
                wait([running], timeout=0.1)
            raise

    def _answer(self) -> Answer:
        columns = self._connection.description or []
        return Answer([c[0] for c in columns], [str(c[1]) for c in columns], self._batches())

    def _batches(self) -> Iterator[list[tuple[Any, ...]]]:
        import duckdb

        try:
            while batch := self._run(lambda: self._connection.fetchmany(BATCH)):
                yield batch
        except duckdb.Error as error:
            raise explained(error) from error

    def _refresh(self) -> None:
        """Attach the newest file in place of the attached one, unless a transaction uses that."""
        from fleetlake.api import attach

        self._connection.abort()  # drops rows of the previous answer that were not fetched
        if not self._in_transaction and (stamp := self._stamp()) != self._file:
            self._connection.execute("USE memory; DETACH fleet")
            attach(self._connection, self.folder, self._options)
            self._file = stamp

    def _note_transaction(self, statement: duckdb.Statement) -> None:
        import duckdb

        if statement.type == duckdb.StatementType.TRANSACTION:
            self._in_transaction = statement.query.strip().upper().startswith(("BEGIN", "START"))

    def _stamp(self) -> tuple[int, int]:
        try:
            status = (self.folder / "fleet.duckdb").stat()
        except FileNotFoundError as error:
            raise UserError(NOTHING_PUBLISHED.format(folder=self.folder)) from error
        except OSError as error:
            raise UserError(file_reason(error)) from error
        return status.st_ino, status.st_mtime_ns


_WORDS = """
SELECT word, meaning FROM (
SELECT 1 AS place, table_name AS word, 'table: ' || coalesce(comment, '') AS meaning
FROM duckdb_tables() WHERE database_name = 'fleet'
UNION ALL
SELECT 1, view_name, 'view: ' || coalesce(comment, '')
FROM duckdb_views() WHERE database_name = 'fleet' AND NOT internal
UNION ALL
SELECT 2, function_name || '(', 'macro: ' || coalesce(comment, '') FROM duckdb_functions() WHERE database_name = 'fleet'
UNION ALL
SELECT 3, column_name, data_type || ': ' || coalesce(comment, '') FROM duckdb_columns()
WHERE database_name = 'fleet' AND NOT internal
UNION ALL
SELECT 4, upper(keyword_name), '' FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')
  OR keyword_name IN ('by', 'first', 'last', 'over', 'partition', 'interval', 'filter', 'explain', 'values', 'exists')
UNION ALL
SELECT DISTINCT 5, function_name || '(', 'function' FROM duckdb_functions()
WHERE database_name = 'system' AND regexp_full_match(function_name, '[a-z][a-z0-9_]{2,}')
) ORDER BY place, word
"""


def explained(error: duckdb.Error) -> UserError:
    """DuckDB's message (a syntax error names line and position), and what to do next."""
    import duckdb

    from sinks.duckdb.lake_file_system import url_error

    words = str(error).strip()
    if by_url := url_error(error):
        return UserError(
            f"SQL: {by_url}\nThe lake could not be read by URL. Its credentials are looked for in `storage_options` of "
            "[sink.delta] (fleetlake.toml, --config, $FLEETLAKE_CONFIG) and in the environment; if the query ran for "
            "hours, the files that it read may have been merged and deleted: run it again."
        )
    match error:
        case duckdb.IOException() if "Permission denied" in words:
            advice = "This user may not read that file: run as the user that the pipeline runs as, or change its owner."
        case duckdb.IOException() if ".parquet" in words:
            advice = (
                "The lake's files that fleet.duckdb names are not there. Copy the whole data folder, not fleet.duckdb "
                "alone. If the query ran for hours, its files may have been merged and deleted: run it again."
            )
        case duckdb.CatalogException() if "does not exist" in words:
            advice = "`fleetlake sql .tables` lists tables, views and macros."
        case duckdb.BinderException() if "Referenced column" in words:
            advice = "`fleetlake sql '.columns TABLE'` lists a table's columns."
        case duckdb.InvalidInputException() if "read-only" in words:
            advice = "The published tables are read-only. CREATE TEMP TABLE works, and `fleetlake export` writes files."
        case _:
            return UserError(f"SQL: {words}")
    return UserError(f"SQL: {words}\n{advice}")


_JSON = "FORMAT json, TIMESTAMPFORMAT '%Y-%m-%dT%H:%M:%S.%f'"
FILE_FORMATS = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER true",
    ".csv.gz": "FORMAT csv, HEADER true, COMPRESSION gzip",
    ".json": _JSON,
    ".jsonl": _JSON,
}
"""Endings that a selection can be written to. JSON: one object a line."""


def require_folder(target: Path) -> None:
    """UserError where the folder of a file to be written is missing."""
    if not target.parent.is_dir():
        raise UserError(f"cannot write {target}: there is no folder {target.parent}")


def _copy_options(target: Path, ending: str) -> str:
    require_folder(target)
    for known, options in FILE_FORMATS.items():
        if known == ending or (not ending and target.name.endswith(known)):
            return options
    raise UserError(f"cannot write {target}: its name has to end in {', '.join(FILE_FORMATS)}")
