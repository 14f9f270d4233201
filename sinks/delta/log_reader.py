"""Reading a Delta table's log, version by version (Delta protocol, «Delta Log Entries» and «Actions»).

The DuckDB sink follows the lake so: `deltalake` shows snapshots, but not which files of a snapshot hold rows that
were not there before (a merge of small files adds files too, without changing data).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake.exceptions import TableNotFoundError

from sinks.delta.location import LakeLocation

MARK = "fleetlake"
"""Key of a commit's information that says what upkeep did: `merge`, `expire` or `erase`."""


class LogGone(Exception):
    """The log no longer reaches back to the version asked for: start again from a snapshot."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table: path relative to the table, partition values, and what its statistics say."""

    path: str
    partition: dict[str, str | None]
    rows: int
    bytes: int
    columns: tuple[str, ...]


@dataclass(slots=True)
class Change:
    """One version's change. `rewritten`: rows were deleted or replaced, which cannot be followed row by row. Rows that
    only grew too old (`expire_days`) are no such change: what is current does not depend on them.
    """

    version: int
    added: list[DataFile] = field(default_factory=list)
    merged: list[DataFile] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rewritten: bool = False
    digest: str = ""
    """Of the log's entry: tells it from another that took its place."""


def changes(location: LakeLocation, table: str, after: int, at_most: int) -> Iterator[Change]:
    """The versions that follow `after`, in order, as far as there are any. LogGone if the next one was cleaned up."""
    files = location.files(table)
    for version in range(after + 1, after + 1 + at_most):
        try:
            entry = _read(files, log_entry(version))
        except FileNotFoundError:
            if _checkpoint(files) >= version:
                raise LogGone(f"{table}: version {version} is no longer in the log") from None
            return
        change = _change(version, [json.loads(line) for line in entry.splitlines() if line])
        change.digest = _digest(entry)
        yield change


def entry_digest(location: LakeLocation, table: str, version: int) -> str:
    """The digest of a version's entry; empty where the log has it no more."""
    try:
        return _digest(_read(location.files(table), log_entry(version)))
    except FileNotFoundError:
        return ""


def _digest(entry: bytes) -> str:
    return hashlib.sha256(entry).hexdigest()


def log_entry(version: int) -> str:
    """Where the log has a version, relative to the table."""
    return f"_delta_log/{version:020}.json"


def snapshot(location: LakeLocation, table: str) -> Change | None:
    """All files of the newest version as one change; None where there is no table yet."""
    try:
        delta = location.open(table)
    except TableNotFoundError:
        return None
    rows = pa.table(delta.get_add_actions()).to_pylist()
    digest = entry_digest(location, table, delta.version())
    return Change(delta.version(), [_file_of_snapshot(row) for row in rows], digest=digest)


def newest_version(location: LakeLocation, table: str) -> int | None:
    """The version of the newest snapshot; None where there is no table."""
    try:
        return int(location.open(table).version())
    except TableNotFoundError:
        return None


def _change(version: int, actions: list[dict[str, Any]]) -> Change:
    change = Change(version)
    expired = any((action.get("commitInfo") or {}).get(MARK) == "expire" for action in actions)
    for action in actions:
        if add := action.get("add"):
            (change.added if add["dataChange"] else change.merged).append(_file_of_log(add))
        elif remove := action.get("remove"):
            change.removed.append(unquote(remove["path"]))
            change.rewritten |= bool(remove["dataChange"]) and not expired
    return change


def _file_of_log(add: dict[str, Any]) -> DataFile:
    stats = json.loads(add.get("stats") or "{}")
    columns = tuple(sorted(stats.get("nullCount", {})))
    return DataFile(unquote(add["path"]), add["partitionValues"], stats.get("numRecords", 0), add["size"], columns)


def _file_of_snapshot(row: dict[str, Any]) -> DataFile:
    columns = tuple(sorted(name for name, count in (row.get("null_count") or {}).items() if count is not None))
    partition = {name: None if value is None else str(value) for name, value in (row.get("partition") or {}).items()}
    return DataFile(unquote(row["path"]), partition, row.get("num_records") or 0, row["size_bytes"], columns)


def _checkpoint(files: pafs.FileSystem) -> int:
    try:
        return int(json.loads(_read(files, "_delta_log/_last_checkpoint"))["version"])
    except FileNotFoundError:
        return -1


def _read(files: pafs.FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        return bytes(stream.read())
