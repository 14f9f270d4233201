"""Upkeep of the lake's tables: merging small files, letting old rows go, deleting files that nobody needs.

A merge is a commit of ours, made by hand: deltalake's own compaction keeps the order in which files were written, while
a merged file here is sorted as a whole, so that one device's hour is a small part of it. And two of deltalake's at once
double every row (1.6.6: removals that change no data are not held against each other), so a commit here is tried
against one exact snapshot, never rebased: if anything was committed meanwhile, the files are looked for again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from sinks.delta.compaction import LiveFile, Merge, plan_expiry, plan_merges
from sinks.delta.location import LakeLocation, sync_checkpoint, sync_commits
from sinks.delta.log_reader import MARK
from sinks.delta.rows import sorted_rows
from sinks.delta.tables import BY_NAME, Table
from sinks.settings import DeltaSettings

log = logging.getLogger(__name__)

ROW_GROUP_ROWS = 128 * 1024
LOG_CLEANUP = "delta.enableExpiredLogCleanup"
"""Table property: whether every commit deletes old log entries. False in our tables: upkeep does it."""

CHUNK_ROWS = 256 * 1024
"""Rows a merge holds at once, however large the files are."""

_FRUGAL = {"use_threads": False, "batch_readahead": 1, "fragment_readahead": 1}

ATTEMPTS = 40
PAUSE_SECONDS = 0.05


class Contended(Exception):
    """Others committed so often that a change of ours never fitted in; the next round tries again."""


@dataclass(slots=True)
class Tidied:
    """What one round of upkeep did to a table, in numbers of files."""

    merged: int = 0
    into: int = 0
    expired: int = 0
    deleted: int = 0


def tidy(location: LakeLocation, name: str, settings: DeltaSettings, vacuum: bool) -> Tidied:
    """Merge what is due, let rows go that are older than `expire_days`, and delete unneeded files if `vacuum`.

    Safe beside writers, readers and other upkeep, and whenever it is killed: a file that no commit names is deleted
    by a later vacuum. Raises deltalake's errors where the store fails, Contended where others never pause.
    """
    delta = location.open(name)
    done = Tidied()
    now = datetime.now(UTC)
    days = {str(table): days for table, days in settings.expire_days.items()}.get(name)
    if days and (old := plan_expiry(live_files(delta), now, days)):
        replace_files(delta, old, [], "expire", data_change=True)
        done.expired = len(old)
    for merge in plan_merges(live_files(delta), now, settings.compact_files):
        if merge_files(delta, location, merge, settings.compression_level):
            done.merged, done.into = done.merged + len(merge), done.into + 1
    if done.merged or done.expired:
        delta.create_checkpoint()
    if vacuum:
        done.deleted = len(vacuum_table(delta, settings.retention_hours))
        clean_log(delta)
    return done


def vacuum_table(delta: DeltaTable, retention_hours: float, dry_run: bool = False) -> list[str]:
    """Delete files that no version of the last `retention_hours` names, those of killed writers too; their paths."""
    found: list[str] = delta.vacuum(int(retention_hours), dry_run=dry_run, enforce_retention_duration=False, full=True)
    return found


def clean_log(delta: DeltaTable) -> None:
    """Delete what the table's log need not keep any longer.

    deltalake does it after every commit by itself, unless told otherwise (`LOG_CLEANUP`); but of two processes that do
    it at a time one fails, although its commit is done (1.6.6). What another one's failure leaves, the next time takes.
    Nor does it wait for the checkpoint that holds them to be on the disk.
    """
    delta.create_checkpoint()
    sync_checkpoint(delta)
    with suppress(FileNotFoundError):
        delta.cleanup_metadata()


def live_files(delta: DeltaTable) -> list[LiveFile]:
    """The files of the table's snapshot."""
    rows = pa.table(delta.get_add_actions()).to_pylist()
    return [
        LiveFile(
            unquote(row["path"]),
            tuple(
                (name, None if value is None else str(value)) for name, value in (row.get("partition") or {}).items()
            ),
            row["size_bytes"],
            row["num_records"] or 0,
            _moment(row["modification_time"]),
        )
        for row in rows
    ]


def merge_files(delta: DeltaTable, location: LakeLocation, merge: Merge, level: int) -> bool:
    """Write the rows of these files as one sorted file in their place; False if one of them is gone meanwhile."""
    called = str(delta.metadata().name)
    files = location.files(called)
    name = f"{Path(merge[0].path).parent.as_posix()}/merged-{uuid.uuid4()}.parquet".removeprefix("./")
    written = _write_sorted(delta, BY_NAME.get(called), files, [file.path for file in merge], name, level)
    if written.num_rows != sum(file.rows for file in merge):
        files.delete_file(name)
        raise RuntimeError(f"merging {delta.table_uri} gave {written.num_rows} rows of {sum(f.rows for f in merge)}")
    add = AddAction(
        path=name,
        size=files.get_file_info(name).size,
        partition_values=dict(merge[0].partition),
        modification_time=int(max(file.written_at for file in merge).timestamp() * 1000),
        data_change=False,
        stats=json.dumps(statistics(written)),
    )
    if replace_files(delta, merge, [add], "merge", data_change=False):
        return True
    files.delete_file(name)
    return False


def replace_files(
    delta: DeltaTable, remove: Sequence[LiveFile], add: Sequence[AddAction], why: str, data_change: bool
) -> bool:
    """Commit: these files go, those come. False, and nothing done, if a file that is to go has gone already."""
    paths = {file.path for file in remove}

    def commit() -> bool:
        if not paths <= {unquote(path) for path in pa.table(delta.get_add_actions())["path"].to_pylist()}:
            return False
        at = int(time.time() * 1000)
        actions: list[AddAction | RemoveAction] = [
            RemoveAction(f.path, data_change, at, size=f.bytes, partition_values=dict(f.partition)) for f in remove
        ]
        delta.create_write_transaction(
            [*add, *actions],
            mode="append",
            schema=delta.schema(),
            partition_by=list(delta.metadata().partition_columns),
            commit_properties=only_now({MARK: why}),
        )
        return True

    return until_committed(delta, commit)


def only_now(metadata: dict[str, Any]) -> CommitProperties:
    """Commit on the snapshot that was looked at, or not at all: rebased, a removal could be done twice."""
    return CommitProperties(custom_metadata=metadata, max_commit_retries=0)


def until_committed(delta: DeltaTable, commit: Callable[[], bool]) -> bool:
    """Call `commit`, with a newer snapshot each time somebody else was quicker. Contended when that does not end."""
    for _ in range(ATTEMPTS):
        before = delta.version()
        try:
            done = commit()
        except CommitFailedError:
            time.sleep(PAUSE_SECONDS)
            delta.update_incremental()
            continue
        if done:
            delta.update_incremental()
            sync_commits(delta, before)
        return done
    raise Contended(f"{delta.table_uri}: others committed {ATTEMPTS} times in between")


ERASED = "fleetlake.erased"
"""Table property: digests of the devices that were erased, so that a recount does not miss their rows."""


def erased_devices(delta: DeltaTable) -> set[str]:
    """Digests (`device_digest`) of the devices that were erased from a table."""
    return set(json.loads(delta.metadata().configuration.get(ERASED, "[]")))


def device_digest(device: bytes) -> str:
    """A device as the tables remember that it was erased: by a digest, not by its name."""
    return hashlib.sha256(device).hexdigest()[:32]


def remember_erased(delta: DeltaTable, device: str) -> None:
    """Note in the table that this device's rows are to be missing. A sink that writes meanwhile tries again."""

    def commit() -> bool:
        known = erased_devices(delta)
        if (digest := device_digest(device.encode())) not in known:
            delta.alter.set_table_properties(
                {ERASED: json.dumps(sorted({*known, digest}))},
                raise_if_not_exists=False,
                commit_properties=only_now({MARK: "erase"}),
            )
        return True

    until_committed(delta, commit)


def _write_sorted(
    delta: DeltaTable, table: Table | None, files: pafs.FileSystem, paths: list[str], name: str, level: int
) -> pq.FileMetaData:
    schema = _physical_schema(delta)
    order = tuple(column for column in (table.order if table else ()) if column in schema.names)
    source = ds.dataset(paths, schema=schema, format="parquet", filesystem=files)
    found: list[pq.FileMetaData] = []
    with files.open_output_stream(name) as out, _parquet_writer(out, table, schema, level, found) as writer:
        for part in _parts(source, order):
            rows = sorted_rows(source.to_table(filter=part, **_FRUGAL), order)
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    return found[0]


def _parquet_writer(
    out: Any, table: Table | None, schema: pa.Schema, level: int, found: list[pq.FileMetaData]
) -> pq.ParquetWriter:
    packed = [column for column in (table.packed if table else ()) if column in schema.names]
    return pq.ParquetWriter(
        out,
        schema,
        compression="zstd",
        compression_level=level,
        use_dictionary=[column for column in schema.names if column not in packed],
        column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED") or None,
        store_schema=False,
        metadata_collector=found,
    )


def _parts(source: ds.Dataset, order: tuple[str, ...]) -> Iterator[ds.Expression | None]:
    """The rows in ranges of the first column they are sorted by, so that not all of them are held at once."""
    if not order or source.count_rows() <= CHUNK_ROWS:
        yield None
        return
    key = ds.field(order[0])
    counts = pc.value_counts(source.to_table(columns=[order[0]], **_FRUGAL)[order[0]])
    ranked = sorted((one["values"], one["counts"]) for one in counts.to_pylist() if one["values"] is not None)
    first, rows = 0, 0
    for index, (value, count) in enumerate(ranked):
        if rows and rows + count > CHUNK_ROWS:
            yield (key >= ranked[first][0]) & (key < value)
            first, rows = index, 0
        rows += count
    if ranked:
        yield key >= ranked[first][0]
    yield key.is_null()


def _physical_schema(delta: DeltaTable) -> pa.Schema:
    """The columns that the files hold: all but those of the partition."""
    schema = pa.schema(delta.schema().to_arrow())
    partition = set(delta.metadata().partition_columns)
    plain = {pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([pa.field(f.name, plain.get(f.type, f.type)) for f in schema if f.name not in partition])


TEXT_PREFIX = 64


def statistics(metadata: pq.FileMetaData) -> dict[str, Any]:
    """What the Delta log says of a file, from its footer (Delta protocol, «Per-file Statistics»)."""
    nulls: dict[str, int] = {}
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    unbounded: set[str] = set()
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name, found = column.path_in_schema, column.statistics
            nulls[name] = nulls.get(name, 0) + (found.null_count if found else 0)
            if found is None or not found.has_min_max:
                if found is None or column.num_values != found.null_count:
                    unbounded.add(name)
                continue
            smallest[name] = min(smallest.get(name, found.min), found.min)
            largest[name] = max(largest.get(name, found.max), found.max)
    bounded = [name for name in smallest if name not in unbounded and not isinstance(smallest[name], bytes)]
    return {
        "numRecords": metadata.num_rows,
        "minValues": {name: _lower(smallest[name]) for name in bounded},
        "maxValues": {name: _upper(largest[name]) for name in bounded},
        "nullCount": nulls,
    }


def _lower(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    return value[:TEXT_PREFIX] if isinstance(value, str) else value


def _upper(value: Any) -> Any:
    """Times in milliseconds, as deltalake writes them, but never below the value."""
    if isinstance(value, datetime):
        return (value + timedelta(microseconds=-value.microsecond % 1000)).isoformat(sep=" ", timespec="milliseconds")
    if isinstance(value, str) and len(value) > TEXT_PREFIX:
        return value[:TEXT_PREFIX] + "\U0010ffff"
    return value


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.fromtimestamp(value / 1000, UTC)
