"""The lake's files by URL for DuckDB, without one of its extensions, which would have to be downloaded.

Any Python process that registers this reads `s3://…` as DuckDB's own extensions would, through what deltalake brings
along: the same credentials, the same stores.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import duckdb
from deltalake.fs import DeltaStorageHandler
from fsspec import AbstractFileSystem
from pyarrow import fs as pafs

from sinks.delta.location import LakeLocation


def read_by_url(connection: duckdb.DuckDBPyConnection, location: LakeLocation) -> None:
    """Let a connection read the lake's files by URL; nothing to do where it is a folder."""
    scheme = urlsplit(location.root).scheme
    if location.local is None and not connection.filesystem_is_registered(scheme):
        connection.register_filesystem(LakeFiles(location))


def is_missing_file(error: duckdb.Error) -> bool:
    """Whether it says that a file, or a part of one, is not there any more."""
    return isinstance(error, duckdb.IOException) or "\nFileNotFoundError: " in str(error)


def words_of(error: duckdb.Error) -> str | None:
    """What went wrong while a file was read by URL, without the traceback; None where it was something else."""
    _, traceback, words = str(error).partition("Traceback (most recent call last):\n")
    told = [line for line in words.splitlines() if line and not line.startswith(" ")]
    return told[0] if traceback and told else None


class LakeFiles(AbstractFileSystem):  # type: ignore[misc]
    """The files below a lake's URL, read only. A path is the whole URL."""

    cachable = False  # else fsspec would keep the credentials for the life of the process

    def __init__(self, location: LakeLocation) -> None:
        super().__init__()
        self.protocol = urlsplit(location.root).scheme
        self._root = f"{location.root}/"
        self._location = location

    @cached_property
    def _files(self) -> pafs.FileSystem:
        """Not before a file is read: who only asks the tables needs no credentials."""
        return pafs.PyFileSystem(DeltaStorageHandler(self._location.root, dict(self._location.options) or None))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        """The path itself: every file is named, none is looked for."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Size and time. FileNotFoundError where it is not there."""
        found = self._files.get_file_info(self._below(path))
        if found.type != pafs.FileType.File:
            raise FileNotFoundError(path)
        return {"name": path, "size": found.size, "type": "file", "mtime": found.mtime}

    def modified(self, path: str) -> Any:
        """When it was written. A file of the lake never changes."""
        return self.info(path)["mtime"]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file for reading."""
        if mode != "rb":
            raise PermissionError(f"{path}: the lake is only read here")
        return self._files.open_input_file(self._below(path))

    def _below(self, path: str) -> str:
        if not path.startswith(self._root):
            raise PermissionError(f"{path} does not lie in the lake {self._root}: only that can be read by URL here")
        return path.removeprefix(self._root)
