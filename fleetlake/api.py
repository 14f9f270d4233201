"""The Python API: two functions, for notebooks and scripts.

import fleetlake
fleetlake.connect().sql("SELECT * FROM latest").pl()
fleetlake.scan("readings").filter(pl.col("vendor") == "karcher").collect()
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fleetlake.errors import UserError

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import polars

DEFAULT_DATA = Path("data")
FILE = "fleet.duckdb"


def connect(
    data_dir: str | Path = DEFAULT_DATA, storage_options: Mapping[str, str] | None = None
) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection to the published tables of a data folder, read-only, wherever the folder is now.

    It shows the state that was published last when it was opened, all tables and views as of one moment. Connect anew
    for a newer state. `fleet.duckdb` is attached to a connection of its own, so that an older connection of this
    process does not hide the newer file. Temporary tables can be made. The session's time zone is UTC, like all times
    in the tables, so that `observed_at > now() - INTERVAL 1 HOUR` is correct. Where the lake is in an object store, its
    views read there: with `storage_options` (deltalake's names), else those of the configuration (`fleetlake.toml` or
    `$FLEETLAKE_CONFIG`) and the environment. FileNotFoundError where nothing has been published yet, and
    `fleetlake.errors.UserError` where the file is another one.
    """
    import duckdb

    folder = Path(data_dir).resolve()
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: nothing has been published in this data folder yet")
    # An in-memory connection would spill to the working directory, where nobody looks for it.
    spill = Path(tempfile.gettempdir()) / f"fleetlake-{os.getpid()}"
    connection = duckdb.connect(config={"temp_directory": str(spill)})
    connection.execute("SET TimeZone = 'UTC'")
    attach(connection, folder, storage_options)
    return connection


def attach(
    connection: duckdb.DuckDBPyConnection, folder: Path, storage_options: Mapping[str, str] | None = None
) -> None:
    """Attach the published file of a data folder as `fleet`, read-only, and use it. UserError for another file."""
    import duckdb

    from fleetlake.published_file import attach_published

    try:
        attach_published(connection, folder / FILE, "fleet")
        connection.execute("USE fleet")
        connection.execute(f"SET VARIABLE fleetlake_data = '{_quoted(folder)}'")
        lake = _url_of_lake(connection)
    except duckdb.Error as error:
        raise _unreadable(folder / FILE, error) from error
    if lake is not None:
        from sinks.delta.location import LakeLocation
        from sinks.duckdb.lake_file_system import read_by_url

        read_by_url(connection, LakeLocation(lake, _storage_options(storage_options)))


def scan(
    table: str,
    data_dir: str | Path = DEFAULT_DATA,
    version: int | datetime | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> polars.LazyFrame:
    """A Polars lazy frame over one snapshot of a lake table: `readings`, `events`, `alarm_events`, `devices` (history)
    or `dead_letters`.

    The newest snapshot, or that of a `version` (number, or moment; `published` in `fleet.duckdb` tells the number that
    its views show). Filters on `received_date`, `vendor` and the columns a table is sorted by read only the files that
    matter. Times are UTC without a zone. A lake in an object store is found by what `fleet.duckdb` says of it, with
    `storage_options` as in `connect`. FileNotFoundError where there is no such table (yet).
    """
    import polars

    folder = Path(data_dir).resolve()
    path = folder / "lake" / table
    if (path / "_delta_log").is_dir():
        from fleetlake.local_table import LocalTable

        return polars.scan_delta(LocalTable(path, version))
    if (folder / FILE).exists():
        with connect(folder, storage_options) as connection:
            row = connection.execute("SELECT location FROM published WHERE table_name = ?", [table]).fetchone()
        if row and not row[0].startswith("lake/"):
            options = _storage_options(storage_options) if "://" in row[0] else None
            return polars.scan_delta(row[0], version=version, storage_options=options)
    raise FileNotFoundError(f"{path} is not there: the lake has no table {table!r} yet")


def _url_of_lake(connection: duckdb.DuckDBPyConnection) -> str | None:
    """By what is published; None where the lake is a folder, or empty."""
    # As JSON, since a file that an older version has published lacks the column.
    # All rows, so that the caller's connection has no unfinished result.
    rows = connection.execute("SELECT to_json(p)->>'location' FROM published p LIMIT 1").fetchall()
    location = rows[0][0] if rows else None
    return location.rpartition("/")[0] if location and "://" in location else None


def _storage_options(given: Mapping[str, str] | None) -> dict[str, str]:
    if given is not None:
        return dict(given)
    from fleetlake.config import load_settings

    return load_settings(None).sink.delta.options()


def _unreadable(path: Path, error: Exception) -> UserError:
    if not os.access(path, os.R_OK):
        return UserError(f"{path} may not be read by this user: run as the user of the pipeline, or change its owner")
    return UserError(
        f"{path} is not the file that a pipeline publishes, or it is damaged: {str(error).splitlines()[0]}\n"
        "Move it away; `fleetlake sink duckdb` makes it anew from the lake."
    )


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
