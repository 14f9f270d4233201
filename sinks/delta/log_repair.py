"""What a power cut leaves of a local table's log, and mending it.

deltalake syncs nothing, and the sink syncs each commit just after it was made: what lies between may be torn. The
log's last entries may then be empty or cut, or name data files that are; or the checkpoint is. Such an entry is moved
aside: it holds the offsets of its rows as well, so that the sink writes them again from Kafka, once.
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
HINT = "_last_checkpoint"
LOST = "restore the folder from a backup, or make the tables anew with `fleetlake replay`"
ADVICE = "stop the sinks and run `fleetlake lake verify --repair`"


class TornLog(RuntimeError):
    """A table cannot be read, since its log is torn; the message says where, and what to do."""


@dataclass(frozen=True, slots=True)
class Torn:
    """A file of the log, and what is wrong with it."""

    file: Path
    why: str

    def __str__(self) -> str:
        return f"{self.file.name}: {self.why}"


def torn(table: Path) -> list[Torn]:
    """What of a table's log has to go so that it is sound: its last entries, newest first, and its checkpoint.

    TornLog where that would not help: what is torn was followed by sound entries, or versions are missing.
    """
    log = table / "_delta_log"
    broken, base = _checkpoint(log)
    entries = sorted(int(file.stem) for file in log.glob("*.json") if file.stem.isdecimal())
    later = [version for version in entries if version > base]
    if broken and later != list(range(base + 1, base + 1 + len(later))):
        raise TornLog(f"{table.name}: {broken[0]}, and the log does not reach back to before it: {LOST}")
    sound = len(later)
    while sound and (why := _of_entry(table, file := _entry(log, later[sound - 1]))):
        broken.append(Torn(file, why))
        sound -= 1
    for version in later[:sound]:
        if _actions(_entry(log, version)) is None:
            raise TornLog(f"{table.name}: entry {version} of the log is torn, and later ones are sound: {LOST}")
    return broken


def repair(table: Path) -> list[Torn]:
    """Move what is torn aside (`….torn`, beside it); what was. No sink may run meanwhile."""
    found = torn(table)
    for one in found:
        one.file.rename(one.file.with_name(one.file.name + ASIDE))
    if found:
        sync_folder(table / "_delta_log")
    return found


def _checkpoint(log: Path) -> tuple[list[Torn], int]:
    """What of the newest checkpoint is torn, and the version of the newest sound one (-1: none)."""
    broken: list[Torn] = []
    for file in sorted(log.glob("*.checkpoint.parquet"), reverse=True):
        if (why := _of_parquet(file)) is None:
            return [*broken, *_hint(log, broken)], int(file.name.partition(".")[0])
        broken.append(Torn(file, why))
    return [*broken, *_hint(log, broken)], -1


def _hint(log: Path, broken: list[Torn]) -> Iterator[Torn]:
    """The hint goes with the checkpoint it speaks of; deltalake passes by one that cannot be read."""
    file = log / HINT
    try:
        version = int(json.loads(file.read_bytes())["version"])
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError):
        yield Torn(file, "cannot be read")
        return
    if any(int(one.file.name.partition(".")[0]) == version for one in broken):
        yield Torn(file, "names that checkpoint")
    elif not list(log.glob(f"{version:020}.checkpoint*")):
        yield Torn(file, f"names a checkpoint of version {version} that is not there")


def _entry(log: Path, version: int) -> Path:
    return log / f"{version:020}.json"


def _actions(file: Path) -> list[dict[str, Any]] | None:
    """What an entry says; None where it is torn. An empty one says nothing, as deltalake reads it."""
    try:
        actions = [json.loads(line) for line in file.read_bytes().splitlines() if line]
    except ValueError:
        return None
    return actions if all(isinstance(action, dict) for action in actions) else None


def _of_entry(table: Path, file: Path) -> str | None:
    actions = _actions(file)
    if not actions:
        return "the entry is torn" if actions is None else "the entry is empty"
    for action in actions:
        added = action.get("add")
        if added and (why := _of_data(table / unquote(added["path"]), added["size"])):
            return f"names {added['path']}, which is {why}"
    return None


def _of_data(file: Path, size: int) -> str | None:
    try:
        there = file.stat().st_size
    except FileNotFoundError:
        return "not there"
    if there != size:
        return f"of {there} bytes in place of {size}"
    return _of_parquet(file)


def _of_parquet(file: Path) -> str | None:
    try:
        pq.read_metadata(file)
    except (pa.ArrowException, OSError):
        return "torn"
    return None
