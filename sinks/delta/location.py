"""Where the lake lies: a folder, or an object store that deltalake reaches by URL (S3 and the like, Azure, GCS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from runtime.files import sync_file, sync_folder
from sinks.delta.log_repair import ADVICE, TornLog, torn
from sinks.settings import DeltaSettings


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """The root of the lake's tables. `options` are deltalake's storage options (credentials, region, endpoint)."""

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(data_dir: Path, settings: DeltaSettings) -> LakeLocation:
        """By configuration: `url`, else the folder `lake` of the data folder."""
        if settings.url:
            return LakeLocation(settings.url.rstrip("/"), settings.options())
        return LakeLocation(str(data_dir.resolve() / "lake"))

    @property
    def local(self) -> Path | None:
        """The folder, where it is one."""
        parts = urlsplit(self.root)
        if parts.scheme in ("", "file"):
            return Path(_unquoted(parts.path) if parts.scheme else self.root)
        return None

    def uri(self, table: str) -> str:
        """Where a table lies."""
        return f"{self.root}/{table}"

    def path(self, table: str) -> str:
        """The same as DuckDB is told it: a path where it is a folder, else a URL."""
        local = self.local
        return self.uri(table) if local is None else str(local / table)

    def files(self, table: str) -> pafs.FileSystem:
        """The files of a table by paths relative to it, log included, for Arrow."""
        local = self.local
        if local is not None:
            return pafs.SubTreeFileSystem(str(local / table), pafs.LocalFileSystem())
        return pafs.PyFileSystem(DeltaStorageHandler(self.uri(table), dict(self.options) or None))

    def open(self, table: str) -> DeltaTable:
        """The newest snapshot of a table. TableNotFoundError where there is none, TornLog where a power cut has torn
        it.
        """
        try:
            return DeltaTable(self.uri(table), storage_options=dict(self.options) or None)
        except TableNotFoundError:
            raise
        except DeltaError as error:
            if self.local is not None and (found := torn(self.local / table)):
                raise TornLog(f"{self.local / table}: {found[0]}. A power cut? {ADVICE}") from error
            raise


def sync_commits(delta: DeltaTable, after: int) -> None:
    """Bring this table's versions after `after` to the disk itself: their data files, log entries, and the folders.

    deltalake syncs nothing (seen with strace, 1.6.6): a power cut could keep a log entry and lose the file it names.
    Object stores need none of this. A version that has gone from the log meanwhile is in a checkpoint.
    """
    import json

    if urlsplit(delta.table_uri).scheme not in ("", "file"):
        return
    root = _local_path(delta)
    folders = {root / "_delta_log"}
    entries = [root / "_delta_log" / f"{version:020}.json" for version in range(after + 1, delta.version() + 1)]
    for entry in entries:
        if not entry.exists():
            continue
        for line in entry.read_bytes().splitlines():
            if added := json.loads(line).get("add"):
                file = root / _unquoted(added["path"])
                if file.exists():
                    sync_file(file)
                    folders.add(file.parent)
        sync_file(entry)
    for folder in folders:
        sync_folder(folder)


def sync_checkpoint(delta: DeltaTable) -> None:
    """Likewise the checkpoint of the newest version."""
    if urlsplit(delta.table_uri).scheme in ("", "file"):
        log = _local_path(delta) / "_delta_log"
        for file in (log / f"{delta.version():020}.checkpoint.parquet", log / "_last_checkpoint"):
            if file.exists():
                sync_file(file)
        sync_folder(log)


def _local_path(delta: DeltaTable) -> Path:
    parts = urlsplit(delta.table_uri)
    return Path(_unquoted(parts.path)) if parts.scheme else Path(delta.table_uri)


def _unquoted(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)
