"""The DuckDB sink's private working file: what is current and bounded, kept up to date with the lake.

Each version's added files are folded into the working tables, and the version is stored in the same transaction. If
the log was cleaned up, files were vacuumed, or rows were deleted from the lake, a table is rebuilt from a snapshot.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import duckdb

from runtime.metrics import READINGS_OUT
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import Change, DataFile, LogGone, changes, entry_digest, newest_version, snapshot
from sinks.delta.tables import BY_NAME, PARTITION_DATE, TABLES
from sinks.duckdb import sql
from sinks.duckdb.lake_file_system import is_missing_file, read_by_url
from sinks.settings import DuckdbSettings

log = logging.getLogger(__name__)

STAGE = "duckdb"
CHANGES_AT_ONCE = 200
PORTION_ROWS = 3_000_000


class WorkingDatabase:
    """The working file, open. Used from one thread; one process at a time may have it open.

    Raise duckdb.Error or OSError if the disk or the lake's files fail.
    """

    def __init__(self, data_dir: Path, settings: DuckdbSettings, lake: LakeLocation) -> None:
        self._settings = settings
        self._lake = lake
        self._lake_root = "" if lake.is_beside(data_dir) else lake.root
        self.connection = self._open(data_dir / "work" / "fleet-work.duckdb")
        self._forget_other_histories()

    def close(self) -> None:
        """Close the working file."""
        self.connection.close()

    def catch_up(self) -> bool:
        """Apply the versions of every lake table that are new; return whether there were any."""
        moved = [self._catch_up(table.name) for table in TABLES]
        return any(moved)

    def files(self, table: str) -> list[tuple[str, list[str]]]:
        """Return path and columns of each file of a lake table's applied version."""
        rows = self.connection.execute(
            "SELECT path, columns FROM work.files WHERE table_name = ? ORDER BY path", [table]
        ).fetchall()
        return [(path, columns) for path, columns in rows]

    def open_alarms(self) -> int:
        """Return the number of alarms that are not resolved."""
        row = self.connection.execute("SELECT count(*) FROM alarms WHERE status <> 'resolved'").fetchone()
        return int(row[0]) if row else 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Run the block in a transaction; roll it back if the block raises."""
        self.connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK")
            raise
        self.connection.execute("COMMIT")

    def _forget_other_histories(self) -> None:
        """Forget the progress of tables whose applied version no longer exists or is another one.

        That happens if the lake was restored from a backup, or its log was repaired.
        """
        for table, version, entry in self.connection.execute("FROM progress").fetchall():
            now = entry_digest(self._lake, table, version)
            newest = newest_version(self._lake, table)
            if newest is None or newest < version or (now and entry and now != entry):
                log.warning("%s: table %s has another history than was applied, and is rebuilt", STAGE, table)
                self.connection.execute("DELETE FROM progress WHERE table_name = ?", [table])

    def _catch_up(self, table: str) -> bool:
        applied = self._applied_version(table)
        if applied is None:
            return self._rebuild(table)
        moved = False
        while True:
            try:
                new = list(islice(changes(self._lake, table, applied, CHANGES_AT_ONCE), CHANGES_AT_ONCE))
                if any(change.rewritten for change in new):
                    return self._rebuild(table)
                if not new:
                    return moved
                self._apply(table, new)
            except (LogGone, duckdb.Error) as error:
                if isinstance(error, duckdb.Error) and not is_missing_file(error):
                    raise
                log.info("%s: table %s is rebuilt from a snapshot: %s", STAGE, table, str(error).splitlines()[0])
                return self._rebuild(table)
            applied, moved = new[-1].version, True

    def _rebuild(self, table: str) -> bool:
        """Fill the working tables of a lake table from its newest snapshot; return False if there is none yet."""
        whole = snapshot(self._lake, table)
        if whole is None:
            return False
        with self.transaction():
            for statement in sql.clear(table):
                self.connection.execute(statement)
            self.connection.execute("DELETE FROM files WHERE table_name = ?", [table])
            for files in portions(whole.added, PORTION_ROWS):
                self._fold(table, [Change(whole.version, files, digest=whole.digest)])
        return True

    def _apply(self, table: str, new: list[Change]) -> None:
        with self.transaction():
            self._fold(table, new)
        if table == "readings":
            for file in (file for change in new for file in change.added):
                READINGS_OUT.labels(STAGE, file.partition.get("vendor") or "").inc(file.rows)

    def _fold(self, table: str, new: list[Change]) -> None:
        """Store added rows, the list of files and the version in the open transaction."""
        added = [file for change in new for file in change.added]
        if added:
            lake = f"{self._lake.path(table)}/"
            listed = [(file.path, file.columns) for file in added]
            rows = sql.rows_of(BY_NAME[table], listed, f"{sql.text(lake)} || f")
            self.connection.execute(f"CREATE OR REPLACE TEMP VIEW fresh AS {rows}")
            for statement in sql.fold(table, self._settings):
                self.connection.execute(statement)
        for change in new:
            self._change_files(table, change)
        last = new[-1]
        self.connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", [table, last.version, last.digest])

    def _change_files(self, table: str, change: Change) -> None:
        if change.removed:
            self.connection.execute(
                "DELETE FROM files WHERE table_name = ? AND list_contains(?, path)", [table, change.removed]
            )
        files = change.added + change.merged
        if files:
            self.connection.execute(
                "INSERT INTO files SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[][]), unnest(?::BIGINT[]), "
                "unnest(?::BIGINT[])",
                [table, *map(list, zip(*((f.path, list(f.columns), f.rows, f.bytes) for f in files), strict=True))],
            )

    def _applied_version(self, table: str) -> int | None:
        row = self.connection.execute("SELECT version FROM progress WHERE table_name = ?", [table]).fetchone()
        return None if row is None else int(row[0])

    def _open(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open the working file; create a new one if it is missing or has another format or lake."""
        mark = path.with_suffix(".format")
        expected = hashlib.sha256((sql.schema_fingerprint() + self._lake_root).encode()).hexdigest()
        if not mark.exists() or mark.read_text() != expected:
            for old in (path, Path(f"{path}.wal"), mark):
                old.unlink(missing_ok=True)
        connection = duckdb.connect(
            config={"memory_limit": self._settings.memory_limit, "temp_directory": str(path.with_suffix(".spill"))}
        )
        connection.execute(f"ATTACH {sql.text(str(path))} AS work")
        connection.execute("USE work")
        read_by_url(connection, self._lake)
        lake = self._lake.path("").rstrip("/") if self._lake_root else "lake"
        connection.execute(f"SET VARIABLE {sql.LAKE} = {sql.text(lake)}")
        if not mark.exists():
            connection.execute(sql.CREATE)
            mark.write_text(expected)
        return connection


def portions(files: Sequence[DataFile], most_rows: int) -> Iterator[list[DataFile]]:
    """Yield a snapshot's files in portions of at most so many rows, the newest days first; at least one portion.

    Bounded tables are then full before the bulk of the history comes, most of which is skipped.
    """
    portion: list[DataFile] = []
    for file in sorted(files, key=lambda file: file.partition.get(PARTITION_DATE) or "", reverse=True):
        if portion and sum(one.rows for one in portion) + file.rows > most_rows:
            yield portion
            portion = []
        portion.append(file)
    yield portion
