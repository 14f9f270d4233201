"""Merging small files of a table into one sorted file.

deltalake's own compaction keeps the order in which files were written. A merged file here is sorted as a whole, so that
one device's hour is a small part of it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.transaction import AddAction

from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.commits import replace_files
from sinks.delta.maintenance.compaction import Merge
from sinks.delta.maintenance.statistics import statistics
from sinks.delta.rows import sorted_rows
from sinks.delta.tables import BY_NAME, ROW_GROUP_ROWS

CHUNK_ROWS = 256 * 1024
"""Rows a merge holds at once, however large the files are."""

_FRUGAL = {"use_threads": False, "batch_readahead": 1, "fragment_readahead": 1}


@dataclass(frozen=True, slots=True)
class FileFormat:
    """How a merged file is written: columns, sort order, columns stored as differences, Zstandard level."""

    schema: pa.Schema
    order: tuple[str, ...]
    packed: tuple[str, ...]
    compression_level: int

    @staticmethod
    def of(delta: DeltaTable, compression_level: int) -> FileFormat:
        """Return the format of a table's files; one that is not the product's is neither sorted nor packed."""
        table = BY_NAME.get(str(delta.metadata().name))
        schema = _physical_schema(delta)
        order, packed = (table.order, table.packed) if table else ((), ())
        return FileFormat(
            schema,
            tuple(column for column in order if column in schema.names),
            tuple(column for column in packed if column in schema.names),
            compression_level,
        )


def merge_files(delta: DeltaTable, location: LakeLocation, merge: Merge, compression_level: int) -> bool:
    """Write the rows of these files as one sorted file and commit it in their place.

    Return False, and leave nothing behind, if another commit has removed one of the files meanwhile. Raise RuntimeError
    if the merged file lacks rows, Contended if others never pause.
    """
    files = location.files(str(delta.metadata().name))
    name = f"{Path(merge[0].path).parent.as_posix()}/merged-{uuid.uuid4()}.parquet".removeprefix("./")
    written = _write_sorted(files, [file.path for file in merge], name, FileFormat.of(delta, compression_level))
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


def _write_sorted(files: pafs.FileSystem, paths: list[str], name: str, form: FileFormat) -> pq.FileMetaData:
    source = ds.dataset(paths, schema=form.schema, format="parquet", filesystem=files)
    footers: list[pq.FileMetaData] = []
    with files.open_output_stream(name) as out, _parquet_writer(out, form, footers) as writer:
        for part in _parts(source, form.order):
            rows = sorted_rows(source.to_table(filter=part, **_FRUGAL), form.order)
            writer.write_table(rows, row_group_size=ROW_GROUP_ROWS)
    return footers[0]


def _parquet_writer(out: Any, form: FileFormat, footers: list[pq.FileMetaData]) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        out,
        form.schema,
        compression="zstd",
        compression_level=form.compression_level,
        use_dictionary=[column for column in form.schema.names if column not in form.packed],
        column_encoding=dict.fromkeys(form.packed, "DELTA_BINARY_PACKED") or None,
        store_schema=False,
        metadata_collector=footers,
    )


def _parts(source: ds.Dataset, order: tuple[str, ...]) -> Iterator[ds.Expression | None]:
    """Yield filters for ranges of the first sort column, so that only some rows are held at once."""
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
    """Return the columns that the files hold: all but those of the partition."""
    schema = pa.schema(delta.schema().to_arrow())
    partition = set(delta.metadata().partition_columns)
    plain = {pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.binary_view(): pa.binary()}
    return pa.schema([pa.field(f.name, plain.get(f.type, f.type)) for f in schema if f.name not in partition])
