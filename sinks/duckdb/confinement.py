"""Confining a connection that runs the SQL of others: it reads the published tables and the lake's files, nothing else.

Only queries may be run on it, since COPY could still write into the lake's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb


@dataclass(frozen=True)
class QueryLimits:
    """What one query may use."""

    seconds: float
    rows: int
    megabytes: int


class NotAQuery(Exception):
    """A statement that is no query."""


def only_query(text: str) -> str:
    """The query. NotAQuery where the text holds none, several, or something else; duckdb.Error where it is not SQL."""
    statements = duckdb.extract_statements(text)
    if len(statements) != 1:
        raise NotAQuery("Write one query." if statements else "There is no query.")
    if statements[0].type != duckdb.StatementType.SELECT:
        raise NotAQuery(
            "Only queries are run here: SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE, SHOW. "
            "`fleetlake sql` on the command line takes everything else."
        )
    query: str = statements[0].query
    return query


def confine(connection: duckdb.DuckDBPyConnection, data: Path, limits: QueryLimits) -> None:
    """Let the connection read the lake's files only, within the limits, whatever it is asked."""
    lake = str(data.resolve() / "lake").replace("'", "''")
    for setting, value in {
        "memory_limit": f"'{limits.megabytes}MB'",
        "max_temp_directory_size": f"'{limits.megabytes}MB'",
        "threads": "2",
        "allowed_directories": f"['{lake}/']",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "enable_external_access": "false",
        "lock_configuration": "true",
    }.items():
        connection.execute(f"SET {setting} = {value}")
