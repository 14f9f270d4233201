"""The lake's files by URL for DuckDB, without its own extensions, which would have to be downloaded.

A Python process that registers this file system reads `s3://…` as DuckDB's extensions would, through the object stores
of deltalake: the same credentials, the same stores.
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
    """Let a connection read the lake's files by URL. Does nothing if the lake is a folder."""
    scheme = urlsplit(location.root).scheme
    if location.local is None and not connection.filesystem_is_registered(scheme):
        connection.register_filesystem(LakeFileSystem(location))


def is_missing_file(error: duckdb.Error) -> bool:
    """Return whether the error says that a file, or a part of one, no longer exists."""
    return isinstance(error, duckdb.IOException) or "\nFileNotFoundError: " in str(error)


def url_error(error: duckdb.Error) -> str | None:
    """Return why reading a file by URL failed, without the traceback, or None for any other error."""
    _, traceback, rest = str(error).partition("Traceback (most recent call last):\n")
    messages = [line for line in rest.splitlines() if line and not line.startswith(" ")]
    return messages[0] if traceback and messages else None


class LakeFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The files below a lake's URL, read-only. A path is the whole URL."""

    cachable = False  # otherwise fsspec would keep the credentials for the life of the process

    def __init__(self, location: LakeLocation) -> None:
        super().__init__()
        self.protocol = urlsplit(location.root).scheme
        self._root = f"{location.root}/"
        self._location = location

    @cached_property
    def _files(self) -> pafs.FileSystem:
        """Connected when the first file is read: queries of tables alone need no credentials."""
        return pafs.PyFileSystem(DeltaStorageHandler(self._location.root, dict(self._location.options) or None))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def glob(self, path: str, maxdepth: int | None = None, **_: Any) -> list[str]:
        """Return the path itself: every file is named, and none is searched for."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return size and time of a file. Raise FileNotFoundError if it does not exist."""
        info = self._files.get_file_info(self._below(path))
        if info.type != pafs.FileType.File:
            raise FileNotFoundError(path)
        return {"name": path, "size": info.size, "type": "file", "mtime": info.mtime}

    def modified(self, path: str) -> Any:
        """Return when a file was written. A file of the lake never changes."""
        return self.info(path)["mtime"]

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Open a file for reading."""
        if mode != "rb":
            raise PermissionError(f"{path}: the lake is read-only here")
        return self._files.open_input_file(self._below(path))

    def _below(self, path: str) -> str:
        if not path.startswith(self._root):
            raise PermissionError(f"{path} is not in the lake {self._root}: only the lake can be read by URL here")
        return path.removeprefix(self._root)
