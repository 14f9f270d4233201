"""The Python API: two functions, for notebooks and scripts.

import fleetlake
fleetlake.connect().sql("SELECT * FROM latest").pl()
fleetlake.scan("readings").filter(pl.col("vendor") == "karcher").collect()
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    import duckdb
    import polars

DEFAULT_DATA = Path("data")
FILE = "fleet.duckdb"


def connect(data_dir: str | Path = DEFAULT_DATA) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection to the published tables of a data folder, read-only, wherever the folder is now.

    It sees the state published last when it was opened, all tables and views at one moment; connect again for a newer
    one. `fleet.duckdb` is attached to a connection of its own, so that an older connection of this process does not
    hide the newer file. Temporary tables can be made. The session's time zone is UTC, like all times in the tables,
    so that `observed_at > now() - INTERVAL 1 HOUR` means what it says. FileNotFoundError where nothing has been
    published yet.
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
    attach(connection, folder)
    return connection


def attach(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Attach the published file of a data folder as `fleet`, read-only, and use it."""
    connection.execute(f"ATTACH '{_quoted(folder / FILE)}' AS fleet (READ_ONLY)")
    connection.execute("USE fleet")
    connection.execute(f"SET VARIABLE fleetlake_data = '{_quoted(folder)}'")


def scan(table: str, data_dir: str | Path = DEFAULT_DATA, version: int | datetime | None = None) -> polars.LazyFrame:
    """A Polars lazy frame over one snapshot of a lake table: `readings`, `events`, `alarm_events`, `devices` (history)
    or `dead_letters`.

    The newest snapshot, or that of a `version` (number, or moment; `published` in `fleet.duckdb` tells the number that
    its views show). Filters on `received_date`, `vendor` and the columns a table is sorted by read only the files that
    matter. Times are UTC without a zone. FileNotFoundError where there is no such table (yet).
    """
    import polars

    path = Path(data_dir).resolve() / "lake" / table
    if not (path / "_delta_log").is_dir():
        raise FileNotFoundError(f"{path} is not there: the lake has no table {table!r} yet")
    return polars.scan_delta(str(path), version=version)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
