"""`fleet.duckdb`: written from the working file as a whole and renamed into place (docs/adr/0006-published-duckdb.md).

A reader that opens the file at any moment sees one whole state: tables and views show the same versions of the lake.
"""

from __future__ import annotations

import time
from contextlib import suppress
from itertools import chain
from pathlib import Path

from runtime.files import sync_file, sync_folder
from runtime.metrics import BATCH_SECONDS, OPEN_ALARMS, PUBLISHED_AT
from sinks.delta.location import LakeLocation
from sinks.delta.tables import TABLES
from sinks.duckdb import published_sql, sql, views
from sinks.duckdb.working import STAGE, WorkingDatabase
from sinks.settings import DeltaSettings, DuckdbSettings

_LINK_SECONDS = 60.0
"""A link whose file's links or contents did not change for this long belongs to nobody."""


class PublishedDatabase:
    """`fleet.duckdb` of a data folder, with the working file that it is made from. Used from one thread.

    `lake` is where the lake is if not in the data folder. Raise duckdb.Error or OSError if the disk or the lake's files
    fail.
    """

    def __init__(self, data_dir: Path, settings: DuckdbSettings, lake: LakeLocation | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._lake = lake or LakeLocation.of(data_dir, DeltaSettings())
        self._working = WorkingDatabase(self._data_dir, settings, self._lake)

    def catch_up(self) -> bool:
        """Bring the working file to the newest version of each lake table; return whether anything was new."""
        return self._working.catch_up()

    def publish(self) -> None:
        """Catch up, write a new `fleet.duckdb` and rename it into place."""
        started = time.monotonic()
        self.catch_up()
        target = self._data_dir / published_sql.FILE_NAME
        fresh = target.with_suffix(".duckdb.new")
        for leftover in (fresh, Path(f"{fresh}.wal")):
            leftover.unlink(missing_ok=True)
        self._fill(fresh)
        # Whom the umask lets read may read. Nobody may write: a reader that opens read-write would lock all others out.
        fresh.chmod(fresh.stat().st_mode & 0o444)
        sync_file(fresh)
        Path(f"{target}.wal").unlink(missing_ok=True)  # of a killed reader: it would be replayed into the new file
        self._remove_stray_links()
        fresh.rename(target)
        sync_folder(target.parent)
        OPEN_ALARMS.labels(STAGE).set(self._working.open_alarms())
        PUBLISHED_AT.labels(STAGE).set_to_current_time()
        BATCH_SECONDS.labels(STAGE).observe(time.monotonic() - started)

    def close(self) -> None:
        """Close the working file."""
        self._working.close()

    def _remove_stray_links(self) -> None:
        """Remove links of readers that were killed while they opened the file, which takes a moment."""
        for link in self._data_dir.glob(f"{published_sql.LINK_PREFIX}*"):
            with suppress(OSError):
                if time.time() - link.stat().st_ctime > _LINK_SECONDS:
                    link.unlink()

    def _fill(self, path: Path) -> None:
        run = self._working.connection.execute
        run(published_sql.attach(str(path)))
        try:
            run("USE published")
            with self._working.transaction():
                for name, published in published_sql.PUBLISHED.items():
                    run(published_sql.publish_table(name))
                    self._comment("TABLE", name, published.comment, published.columns)
                for table in TABLES:
                    run(published_sql.publish_view(table, self._working.files(table.name), self._folder_of(table.name)))
                    self._comment("VIEW", published_sql.VIEW_OF[table.name], table.comment, table.comments)
                for name, view in views.VIEWS.items():
                    run(views.create_view(name))
                    self._comment("VIEW", name, view.comment, view.columns)
                for statement in chain.from_iterable(map(views.create_macro, views.MACROS)):
                    run(statement)
            run("CHECKPOINT published")
        finally:
            run("USE work")
            run("DETACH published")

    def _folder_of(self, table: str) -> str:
        """Return SQL for the folder or URL of a lake table, as a published view resolves it."""
        if self._lake.is_beside(self._data_dir):
            return f"{published_sql.data_folder(str(self._data_dir))} || {sql.text(f'/lake/{table}')}"
        return sql.text(self._lake.path(table))

    def _comment(self, kind: str, name: str, comment: str, columns: dict[str, str]) -> None:
        run = self._working.connection.execute
        present = [row[0] for row in run(f"DESCRIBE {sql.name(name)}").fetchall()]
        for statement in published_sql.comment(kind, name, comment, columns, present):
            run(statement)
