"""A table of a lake on this machine, as Polars reads it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from deltalake import DeltaTable


class LocalTable(DeltaTable):
    """A Delta table in a folder, whatever the folder is called.

    Polars opens the files that `file_uris` names. There deltalake percent-encodes the folder's name, but not the names
    of the files in it, so that Polars finds nothing in a folder with a blank, a `#` or a letter that is not ASCII.
    """

    def __init__(self, folder: Path, version: int | datetime | None) -> None:
        super().__init__(str(folder))
        if version is not None:
            self.load_as_version(version)
        self._folder = str(folder)

    @property
    def table_uri(self) -> str:
        """The folder, as a path."""
        return self._folder

    def file_uris(self, *args: Any, **options: Any) -> list[str]:
        """The paths of the table's files."""
        root = super().table_uri.removeprefix("file://").rstrip("/")
        encoded = (uri.removeprefix("file://") for uri in super().file_uris(*args, **options))
        return [self._folder + path.removeprefix(root) for path in encoded]
