"""Syncing commits of a lake on a local disk. Object stores need none of this."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

from deltalake import DeltaTable

from runtime.files import sync_file, sync_folder

LOG_FOLDER = "_delta_log"


def sync_commits(delta: DeltaTable, after: int) -> None:
    """Bring the versions after `after` to the disk: their data files, log entries and folders.

    deltalake syncs nothing (seen with strace, 1.6.6): a power cut could keep a log entry and lose the file it names.
    A version that has left the log meanwhile is in a checkpoint.
    """
    root = local_folder(delta)
    if root is None:
        return
    folders = {root / LOG_FOLDER}
    entries = [root / LOG_FOLDER / f"{version:020}.json" for version in range(after + 1, delta.version() + 1)]
    for entry in entries:
        if not entry.exists():
            continue
        for line in entry.read_bytes().splitlines():
            if added := json.loads(line).get("add"):
                file = root / unquote(added["path"])
                if file.exists():
                    sync_file(file)
                    folders.add(file.parent)
        sync_file(entry)
    for folder in folders:
        sync_folder(folder)


def sync_checkpoint(delta: DeltaTable) -> None:
    """Bring the checkpoint of the newest version to the disk."""
    root = local_folder(delta)
    if root is None:
        return
    log = root / LOG_FOLDER
    for file in (log / f"{delta.version():020}.checkpoint.parquet", log / "_last_checkpoint"):
        if file.exists():
            sync_file(file)
    sync_folder(log)


def local_folder(delta: DeltaTable) -> Path | None:
    """Return the table's folder, or None if it is in an object store."""
    parts = urlsplit(delta.table_uri)
    if parts.scheme not in ("", "file"):
        return None
    return Path(unquote(parts.path)) if parts.scheme else Path(delta.table_uri)
