"""Reading a Delta table's log, version by version (Delta protocol, «Delta Log Entries» and «Actions»).

The DuckDB sink reads the lake's changes this way. `deltalake` shows snapshots, but not which files of a snapshot hold
new rows: a merge of small files adds files too, without changing data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError

from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.compaction import LiveFile

MARK = "fleetlake"
"""Key in a commit's information that says what maintenance did: `merge`, `expire` or `erase`."""


class LogGone(Exception):
    """The log no longer reaches back to the requested version: start again from a snapshot."""


@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table: path relative to the table, partition values, and size from its statistics."""

    path: str
    partition: dict[str, str | None]
    rows: int
    bytes: int
    columns: tuple[str, ...]


@dataclass(slots=True)
class Change:
    """One version's change.

    `rewritten` says that rows were deleted or replaced, so that the version cannot be applied as added rows. Expired
    rows (`expire_days`) do not count, because current values do not depend on them. `digest` is the log entry's: it
    differs if another entry took the place of this one.
    """

    version: int
    added: list[DataFile] = field(default_factory=list)
    merged: list[DataFile] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    rewritten: bool = False
    digest: str = ""


def changes(location: LakeLocation, table: str, after: int, at_most: int) -> Iterator[Change]:
    """Yield at most `at_most` versions that follow `after`, in order. Raise LogGone if the next one was cleaned up."""
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
    """Return the digest of a version's entry, or an empty text if the log no longer has it."""
    try:
        return _digest(_read(location.files(table), log_entry(version)))
    except FileNotFoundError:
        return ""


def _digest(entry: bytes) -> str:
    return hashlib.sha256(entry).hexdigest()


def log_entry(version: int) -> str:
    """Return the path of a version's entry relative to the table."""
    return f"_delta_log/{version:020}.json"


def snapshot(location: LakeLocation, table: str) -> Change | None:
    """Return all files of the newest version as one change, or None if there is no table yet."""
    try:
        delta = location.open(table)
    except TableNotFoundError:
        return None
    rows = pa.table(delta.get_add_actions()).to_pylist()
    digest = entry_digest(location, table, delta.version())
    return Change(delta.version(), [_file_of_snapshot(row) for row in rows], digest=digest)


def newest_version(location: LakeLocation, table: str) -> int | None:
    """Return the version of the newest snapshot, or None if there is no table."""
    try:
        return int(location.open(table).version())
    except TableNotFoundError:
        return None


def live_files(delta: DeltaTable) -> list[LiveFile]:
    """Return the files of an opened table's snapshot."""
    rows = pa.table(delta.get_add_actions()).to_pylist()
    return [
        LiveFile(
            unquote(row["path"]),
            tuple(_partition_of(row).items()),
            row["size_bytes"],
            row["num_records"] or 0,
            _moment(row["modification_time"]),
        )
        for row in rows
    ]


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
    return DataFile(unquote(row["path"]), _partition_of(row), row.get("num_records") or 0, row["size_bytes"], columns)


def _partition_of(row: dict[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else str(value) for name, value in (row.get("partition") or {}).items()}


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)


def _checkpoint(files: pafs.FileSystem) -> int:
    try:
        return int(json.loads(_read(files, "_delta_log/_last_checkpoint"))["version"])
    except FileNotFoundError:
        return -1


def _read(files: pafs.FileSystem, path: str) -> bytes:
    with files.open_input_stream(path) as stream:
        return bytes(stream.read())
