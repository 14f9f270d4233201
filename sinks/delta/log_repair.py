"""Damage that a power cut leaves in a local table's log, and its repair.

deltalake syncs nothing, and the sink syncs each commit just after it was made, so a power cut in between may leave the
log's last entries empty or truncated, or the data files that they name, or a checkpoint. The repair moves such an entry
aside. The entry also holds the offsets of its rows, so the sink writes these rows again from Kafka, exactly once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from runtime.files import sync_folder

ASIDE = ".torn"
"""Suffix of a file that was moved aside."""

HINT = "_last_checkpoint"
LOST = "restore the folder from a backup, or rebuild the tables with `fleetlake replay`"
ADVICE = "stop the sinks and run `fleetlake lake verify --repair`"


class DamagedLog(RuntimeError):
    """A table cannot be read because its log is damaged; the message says where, and what to do."""


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A file of the log, and what is wrong with it."""

    file: Path
    why: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.why}"


def damaged_files(table: Path) -> list[DamagedFile]:
    """Return the files to remove from a table's log: its damaged last entries, newest first, and its checkpoint.

    Raise DamagedLog if that would not help: intact entries follow a damaged one, or versions are missing.
    """
    log = table / "_delta_log"
    damaged, base = _damaged_checkpoints(log)
    entries = sorted(int(file.stem) for file in log.glob("*.json") if file.stem.isdecimal())
    later = [version for version in entries if version > base]
    if damaged and later != list(range(base + 1, base + 1 + len(later))):
        raise DamagedLog(f"{table.name}: {damaged[0]}, and the log does not reach back to before it: {LOST}")
    intact = len(later)
    while intact and (why := _fault_of_entry(table, file := _entry(log, later[intact - 1]))):
        damaged.append(DamagedFile(file, why))
        intact -= 1
    for version in later[:intact]:
        if _actions(_entry(log, version)) is None:
            raise DamagedLog(f"{table.name}: entry {version} of the log is damaged, and later ones are intact: {LOST}")
    return damaged


def repair(table: Path) -> list[DamagedFile]:
    """Move damaged files aside (`….torn`, in the same folder) and return what they were. No sink may run meanwhile."""
    damaged = damaged_files(table)
    for one in damaged:
        one.file.rename(one.file.with_name(one.file.name + ASIDE))
    if damaged:
        sync_folder(table / "_delta_log")
    return damaged


def _damaged_checkpoints(log: Path) -> tuple[list[DamagedFile], int]:
    """Return the damaged checkpoints that are newer than the newest intact one, and its version (-1: none)."""
    damaged: list[DamagedFile] = []
    for file in sorted(log.glob("*.checkpoint.parquet"), reverse=True):
        if (why := _fault_of_parquet(file)) is None:
            return [*damaged, *_damaged_hint(log, damaged)], int(file.name.partition(".")[0])
        damaged.append(DamagedFile(file, why))
    return [*damaged, *_damaged_hint(log, damaged)], -1


def _damaged_hint(log: Path, checkpoints: list[DamagedFile]) -> Iterator[DamagedFile]:
    """Yield the hint if it names a damaged or missing checkpoint; deltalake ignores a hint that cannot be read."""
    file = log / HINT
    try:
        version = int(json.loads(file.read_bytes())["version"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        yield DamagedFile(file, "cannot be read")
        return
    if any(int(one.file.name.partition(".")[0]) == version for one in checkpoints):
        yield DamagedFile(file, "names that checkpoint")
    elif not list(log.glob(f"{version:020}.checkpoint*")):
        yield DamagedFile(file, f"names a checkpoint of version {version} that does not exist")


def _entry(log: Path, version: int) -> Path:
    return log / f"{version:020}.json"


def _actions(file: Path) -> list[dict[str, Any]] | None:
    """Return the actions of an entry, or None if it is damaged. As in deltalake, an empty entry has no actions."""
    try:
        actions = [json.loads(line) for line in file.read_bytes().splitlines() if line]
    except ValueError:
        return None
    return actions if all(isinstance(action, dict) for action in actions) else None


def _fault_of_entry(table: Path, file: Path) -> str | None:
    actions = _actions(file)
    if not actions:
        return "the entry is damaged" if actions is None else "the entry is empty"
    for action in actions:
        added = action.get("add")
        if added and (why := _fault_of_data(table / unquote(added["path"]), added["size"])):
            return f"names {added['path']}, which {why}"
    return None


def _fault_of_data(file: Path, size: int) -> str | None:
    try:
        actual = file.stat().st_size
    except FileNotFoundError:
        return "does not exist"
    if actual != size:
        return f"has {actual} bytes instead of {size}"
    return _fault_of_parquet(file)


def _fault_of_parquet(file: Path) -> str | None:
    try:
        pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return "is not readable as Parquet"
    return None
