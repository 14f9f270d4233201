"""Where the lake is: a folder, or an object store that deltalake reaches by URL (S3 and the like, Azure, GCS)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from sinks.delta.log_repair import ADVICE, DamagedLog, damaged_files
from sinks.settings import DeltaSettings


@dataclass(frozen=True, slots=True)
class LakeLocation:
    """The root of the lake's tables. `options` are deltalake's storage options (credentials, region, endpoint)."""

    root: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(data_dir: Path, settings: DeltaSettings) -> LakeLocation:
        """Return the configured `url`, or the folder `lake` of the data folder if there is none."""
        if settings.url:
            return LakeLocation(settings.url.rstrip("/"), settings.options())
        return LakeLocation(str(data_dir.resolve() / "lake"))

    def is_beside(self, data_dir: Path) -> bool:
        """Return whether this is the folder `lake` of a data folder, so that the two are moved together."""
        return self.root == LakeLocation.of(data_dir, DeltaSettings()).root

    @property
    def local(self) -> Path | None:
        """The folder, or None if the lake is in an object store."""
        parts = urlsplit(self.root)
        if parts.scheme in ("", "file"):
            return Path(unquote(parts.path) if parts.scheme else self.root)
        return None

    def uri(self, table: str) -> str:
        """Return where a table is, as deltalake takes it."""
        return f"{self.root}/{table}"

    def path(self, table: str) -> str:
        """Return where a table is, as DuckDB takes it: a path if the lake is a folder, a URL otherwise."""
        local = self.local
        return self.uri(table) if local is None else str(local / table)

    def files(self, table: str) -> pafs.FileSystem:
        """Return the files of a table, log included, for Arrow; paths are relative to the table."""
        local = self.local
        if local is not None:
            return pafs.SubTreeFileSystem(str(local / table), pafs.LocalFileSystem())
        return pafs.PyFileSystem(DeltaStorageHandler(self.uri(table), dict(self.options) or None))

    def open(self, table: str) -> DeltaTable:
        """Return the newest snapshot of a table.

        Raise TableNotFoundError if there is none, DamagedLog if a power cut has damaged its log.
        """
        try:
            return DeltaTable(self.uri(table), storage_options=dict(self.options) or None)
        except TableNotFoundError:
            raise
        except DeltaError as error:
            if self.local is not None and (damaged := damaged_files(self.local / table)):
                raise DamagedLog(f"{self.local / table}: {damaged[0]}. A power cut? {ADVICE}") from error
            raise
