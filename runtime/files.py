"""Files that survive a power cut: synced to the disk, and replaced as a whole."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

_numbers = itertools.count()


def write_atomically(path: Path, data: bytes | str, mode: int | None = None) -> None:
    """Replace the content of `path` durably: a crash at any moment leaves the old content or the new content.

    Creates missing parent folders. Text is written as UTF-8. `mode` sets the permissions; without it the umask decides.
    Raises OSError when the file cannot be written; the old content is then unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Unique among processes and threads: two writers must not share one unfinished file.
    unfinished = path.with_name(f"{path.name}.{os.getpid()}-{next(_numbers)}.new")
    try:
        with unfinished.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Bring a file's content to the disk. Raises OSError when the file is missing or the disk fails."""
    _sync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Bring a folder's entries to the disk, so that created, renamed and removed files stay so.

    Raises OSError when the folder is missing, is not a folder, or the disk fails.
    """
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
