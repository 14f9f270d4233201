"""Attaching `fleet.duckdb` while the sink may rename a newer file into its place at any moment.

DuckDB opens the path of a database twice. If the file is replaced in between, it reads the head of one file and the
contents of another. A private hard link always means one file. Where none can be made (a folder or file system that
is read-only, a file of another user), the path itself is attached, and once more if the file was replaced meanwhile.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from sinks.duckdb.published_sql import LINK_PREFIX

if TYPE_CHECKING:
    import duckdb

_ATTEMPTS = 20


def attach_published(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Attach the published file at `path` as `name`, read-only. Raises duckdb.Error where it cannot be opened."""
    link = path.with_name(f"{LINK_PREFIX}{os.getpid()}-{token_hex(4)}.duckdb")
    try:
        os.link(path, link)
    except OSError:
        _attach_path(connection, path, name)
        return
    try:
        _attach(connection, link, name)
    finally:
        link.unlink(missing_ok=True)  # DuckDB keeps the file open


def _attach_path(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    import duckdb

    for attempt in range(1, _ATTEMPTS + 1):
        before = _identity(path)
        try:
            _attach(connection, path, name)
        except duckdb.Error:
            if before == _identity(path) or attempt == _ATTEMPTS:
                raise
        else:
            if before == _identity(path) or attempt == _ATTEMPTS:
                return
        with suppress(duckdb.Error):
            connection.execute(f"DETACH {name}")


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    quoted = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS {name} (READ_ONLY)")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
