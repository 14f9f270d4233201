"""The DuckDB sink: follows the lake's versions and publishes `fleet.duckdb` (design decision 6; docs/adr/0006).

It owns a private working file with what is current and bounded, kept up to date from the files that each version of
the lake adds; the version is remembered in the same transaction. Publishing writes a fresh file beside
`fleet.duckdb` and renames it into place, so that a reader, at any moment, opens one whole state: tables and views
tell the same versions of the lake.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

import duckdb

from runtime.files import sync_file, sync_folder
from runtime.health import Health
from runtime.locks import FileLock
from runtime.metrics import BATCH_SECONDS, OPEN_ALARMS, PUBLISHED_AT, READINGS_OUT
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import Change, DataFile, LogGone, changes, entry_digest, newest_version, snapshot
from sinks.delta.tables import BY_NAME, PARTITION_DATE, TABLES
from sinks.duckdb import sql as statements
from sinks.duckdb import views
from sinks.duckdb.lake_files import is_missing_file, read_by_url
from sinks.settings import DeltaSettings, DuckdbSettings

log = logging.getLogger(__name__)

STAGE = "duckdb"
POLL_SECONDS = 0.2
CHANGES_AT_ONCE = 200
PORTION_ROWS = 3_000_000


async def run_duckdb_sink(
    settings: DuckdbSettings, data_dir: Path, stop: asyncio.Event, health: Health, lake: LakeLocation | None = None
) -> None:
    """Follow the lake and publish `fleet.duckdb` until `stop` is set; the last state is published then.

    One process owns it; another one waits for its end. Starting again after any end is safe: what is published is
    always one state of the lake. Raises duckdb.Error or OSError where the disk or the files fail.
    """
    waiting: list[str] = []
    health.ready.append(lambda: waiting[0] if waiting else None)
    waiting.append(f"{STAGE}: not published yet")
    async with _Ownership(data_dir / "work" / "duckdb-sink.lock", stop) as owner:
        if not owner:
            return
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix=STAGE) as thread:
            sink = await loop.run_in_executor(thread, lambda: Published(data_dir, settings, lake))
            try:
                await loop.run_in_executor(thread, sink.publish)
                waiting.clear()
                while not stop.is_set():
                    await loop.run_in_executor(thread, sink.step)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), sink.poll_seconds)
                await loop.run_in_executor(thread, sink.finish)
            finally:
                await loop.run_in_executor(thread, sink.close)


class _Ownership:
    """The sink's lock file, held while the process lives; the kernel lets it go however that ends."""

    def __init__(self, path: Path, stop: asyncio.Event) -> None:
        self._lock = FileLock(path)
        self._stop = stop

    async def __aenter__(self) -> bool:
        if self._lock.try_acquire():
            return not self._stop.is_set()
        log.info("%s: another process publishes from this data folder; waiting to take over", STAGE)
        return await self._lock.acquire_when_free(POLL_SECONDS, self._stop)

    async def __aexit__(self, *_: object) -> None:
        self._lock.close()


class Published:
    """The working file and what is published from it. Used from one thread."""

    def __init__(self, data_dir: Path, settings: DuckdbSettings, lake: LakeLocation | None = None) -> None:
        self._data_dir = data_dir.resolve()
        self._settings = settings
        beside = LakeLocation.of(data_dir, DeltaSettings())
        self._lake = lake or beside
        self._elsewhere = self._lake.root != beside.root
        self.poll_seconds = POLL_SECONDS if self._lake.local else max(POLL_SECONDS, settings.publish_seconds)
        """How often to look for new versions: each look at an object store is a request that is paid for."""
        self._published_at = 0.0
        self._changed = True
        self._connection = self._open(self._data_dir / "work" / "fleet-work.duckdb")
        self._forget_other_histories()

    def _forget_other_histories(self) -> None:
        """Where the lake was restored or repaired, versions that were applied are there no more, or are others."""
        for table, version, entry in self._connection.execute("FROM progress").fetchall():
            now = entry_digest(self._lake, table, version)
            newest = newest_version(self._lake, table)
            if newest is None or newest < version or (now and entry and now != entry):
                log.warning("%s: table %s has another history than was applied: it is read anew", STAGE, table)
                self._connection.execute("DELETE FROM progress WHERE table_name = ?", [table])

    def step(self) -> None:
        """Apply what is new in the lake; publish if anything is, and the last time is long enough ago."""
        self._changed |= self.follow()
        if self._changed and time.monotonic() - self._published_at >= self._settings.publish_seconds:
            self.publish()

    def finish(self) -> None:
        """Apply and publish what there is, whenever the last time was."""
        if self.follow() or self._changed:
            self.publish()

    def close(self) -> None:
        """Close the working file."""
        self._connection.close()

    def follow(self) -> bool:
        """Bring the working tables to the newest version of each lake table; whether anything was new."""
        found = [self._follow(table.name) for table in TABLES]
        return any(found)

    def publish(self) -> None:
        """Write `fleet.duckdb` anew and rename it into place."""
        started = time.monotonic()
        self.follow()
        target = self._data_dir / statements.FILE_NAME
        fresh = target.with_suffix(".duckdb.new")
        for leftover in (fresh, Path(f"{fresh}.wal")):
            leftover.unlink(missing_ok=True)
        self._fill(fresh)
        fresh.chmod(0o444)  # a reader that opens read-write would lock all others out
        sync_file(fresh)
        Path(f"{target}.wal").unlink(missing_ok=True)  # of a killed reader: it would be replayed into the new file
        fresh.rename(target)
        sync_folder(target.parent)
        self._changed, self._published_at = False, time.monotonic()
        open_alarms = self._connection.execute("SELECT count(*) FROM alarms WHERE status <> 'resolved'").fetchone()
        OPEN_ALARMS.labels(STAGE).set(open_alarms[0] if open_alarms else 0)
        PUBLISHED_AT.labels(STAGE).set_to_current_time()
        BATCH_SECONDS.labels(STAGE).observe(time.monotonic() - started)

    def _follow(self, table: str) -> bool:
        at = self._version(table)
        if at is None:
            return self._start_over(table)
        moved = False
        while True:
            try:
                found = list(islice(changes(self._lake, table, at, CHANGES_AT_ONCE), CHANGES_AT_ONCE))
                if any(change.rewritten for change in found):
                    return self._start_over(table)
                if not found:
                    return moved
                self._apply(table, found)
            except (LogGone, duckdb.Error) as gone:
                if isinstance(gone, duckdb.Error) and not is_missing_file(gone):
                    raise
                log.info("%s: table %s is read anew from a snapshot: %s", STAGE, table, str(gone).splitlines()[0])
                return self._start_over(table)
            at, moved = found[-1].version, True

    def _start_over(self, table: str) -> bool:
        whole = snapshot(self._lake, table)
        if whole is None:
            return False
        with self._transaction():
            for statement in statements.forget(table):
                self._connection.execute(statement)
            self._connection.execute("DELETE FROM files WHERE table_name = ?", [table])
            for files in _portions(whole.added):
                self._fold(table, [Change(whole.version, files, digest=whole.digest)])
        return True

    def _apply(self, table: str, found: list[Change]) -> None:
        with self._transaction():
            self._fold(table, found)
        if table == "readings":
            for file in (file for change in found for file in change.added):
                READINGS_OUT.labels(STAGE, file.partition.get("vendor") or "").inc(file.rows)

    def _fold(self, table: str, found: list[Change]) -> None:
        """Rows into the working tables, files into the file list, and the version: all in the transaction that is
        open.
        """
        added = [file for change in found for file in change.added]
        if added:
            lake = f"{self._lake.path(table)}/"
            rows = statements.rows_of(BY_NAME[table], _listed(added), f"{statements.text(lake)} || f")
            self._connection.execute(f"CREATE OR REPLACE TEMP VIEW fresh AS {rows}")
            for statement in statements.apply(table, self._settings):
                self._connection.execute(statement)
        for change in found:
            self._change_files(table, change)
        last = found[-1]
        self._connection.execute("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", [table, last.version, last.digest])

    def _change_files(self, table: str, change: Change) -> None:
        if change.removed:
            self._connection.execute(
                "DELETE FROM files WHERE table_name = ? AND list_contains(?, path)", [table, change.removed]
            )
        files = change.added + change.merged
        if files:
            self._connection.execute(
                "INSERT INTO files SELECT ?, unnest(?::VARCHAR[]), unnest(?::VARCHAR[][]), unnest(?::BIGINT[]), "
                "unnest(?::BIGINT[])",
                [table, *map(list, zip(*((f.path, list(f.columns), f.rows, f.bytes) for f in files), strict=True))],
            )

    def _fill(self, path: Path) -> None:
        run = self._connection.execute
        run(statements.attach(str(path)))
        try:
            run("USE published")
            with self._transaction():
                for name, (_, words, each) in statements.PUBLISHED.items():
                    run(statements.publish_table(name))
                    self._comment("TABLE", name, words, each)
                for table in TABLES:
                    run(statements.publish_view(table, self._files(table.name), self._path(table.name)))
                    self._comment("VIEW", statements.VIEW_OF[table.name], table.comment, table.comments)
                for name, view in views.VIEWS.items():
                    run(views.create_view(name))
                    self._comment("VIEW", name, view.comment, view.columns)
                for statement in chain.from_iterable(map(views.create_macro, views.MACROS)):
                    run(statement)
            run("CHECKPOINT published")
        finally:
            run("USE work")
            run("DETACH published")

    def _path(self, table: str) -> str:
        """SQL for the folder or URL of a lake table, as a published view is to find it."""
        if self._elsewhere:
            return statements.text(self._lake.path(table))
        return f"{statements.data_folder(str(self._data_dir))} || {statements.text(f'/lake/{table}')}"

    def _comment(self, kind: str, name: str, words: str, each: dict[str, str]) -> None:
        columns = [row[0] for row in self._connection.execute(f"DESCRIBE {statements.name(name)}").fetchall()]
        for statement in statements.comment(kind, name, words, each, columns):
            self._connection.execute(statement)

    def _files(self, table: str) -> list[tuple[str, list[str]]]:
        found = self._connection.execute(
            "SELECT path, columns FROM work.files WHERE table_name = ? ORDER BY path", [table]
        ).fetchall()
        return [(path, columns) for path, columns in found]

    def _version(self, table: str) -> int | None:
        row = self._connection.execute("SELECT version FROM progress WHERE table_name = ?", [table]).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _open(self, path: Path) -> duckdb.DuckDBPyConnection:
        """The working file; made anew if there is none or an older version of the product made it."""
        mark = path.with_suffix(".format")
        place = self._lake.root if self._elsewhere else ""
        wanted = hashlib.sha256((statements.schema_fingerprint() + place).encode()).hexdigest()
        if not mark.exists() or mark.read_text() != wanted:
            for old in (path, Path(f"{path}.wal"), mark):
                old.unlink(missing_ok=True)
        connection = duckdb.connect(
            config={"memory_limit": self._settings.memory_limit, "temp_directory": str(path.with_suffix(".spill"))}
        )
        connection.execute(f"ATTACH {statements.text(str(path))} AS work")
        connection.execute("USE work")
        read_by_url(connection, self._lake)
        lake = self._lake.path("").rstrip("/") if self._elsewhere else "lake"
        connection.execute(f"SET VARIABLE {statements.LAKE} = {statements.text(lake)}")
        if not mark.exists():
            connection.execute(statements.CREATE)
            mark.write_text(wanted)
        return connection


def _portions(files: Sequence[DataFile]) -> Iterator[list[DataFile]]:
    """A snapshot's files in portions that memory holds; at least one. The newest first: what is bounded is then full
    before the bulk of the history comes, which passes by.
    """
    portion: list[DataFile] = []
    for file in sorted(files, key=lambda file: file.partition.get(PARTITION_DATE) or "", reverse=True):
        if portion and sum(one.rows for one in portion) + file.rows > PORTION_ROWS:
            yield portion
            portion = []
        portion.append(file)
    yield portion


def _listed(files: Sequence[DataFile]) -> list[tuple[str, tuple[str, ...]]]:
    return [(file.path, file.columns) for file in files]
