"""Who else may read what the pipeline writes: tables, logs and state hold the data of households and of staff."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path


def set_umask(umask: str) -> None:
    """Set the permissions that files and folders of this process and its children lack (three octal digits)."""
    os.umask(int(umask, 8))


def restrict_folders(umask: str, *folders: Path) -> None:
    """Take these permissions from folders that exist already, made by an earlier version; a foreign folder stays."""
    for folder in folders:
        with suppress(OSError):
            folder.chmod(stat.S_IMODE(folder.stat().st_mode) & ~int(umask, 8))
