"""Weeks of a mixed fleet's readings, the same in four layouts: the lake, plain Parquet, a plain DuckDB table, JSON.

The readings are those of `bench.fleet_readings`. The lake is written in flushes and merged by the sink's own code, a
file a day and vendor; of the last day the flushes stay as they are. Plain Parquet (one folder a day, DuckDB's
defaults) and the plain table hold the rows in the order of receipt. JSON holds a sample, a row a line.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

from bench.fleet_readings import readings
from bench.part import progress
from sinks.delta.lake_writer import LakeWriter, writer_properties
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import live_files
from sinks.delta.maintenance.compaction import LiveFile
from sinks.delta.maintenance.merging import merge_files
from sinks.delta.rows import sorted_rows
from sinks.delta.tables import PARTITION_DATE, READINGS_TABLE, TABLES
from sinks.settings import DeltaSettings

ROBOTS = 7
"""Kärcher machines, beside which the fleet has 3 of Ogmen, 84 of WAYSCloud and 84 of ClimaSense."""

END = datetime(2026, 10, 31)
FLUSHES_A_DAY = 4
FLUSHES_OF_THE_LAST_DAY = 24
JSON_ROWS = 200_000
MEMORY = "3GB"
THREADS = 2


def days_of(rows: int, robots: int = ROBOTS) -> float:
    """The time in which the fleet emits about that many readings."""
    a_day: int = sum(table.num_rows for table in readings(END, 24, robots))
    return rows / a_day


def generate(folder: Path, days: float, robots: int = ROBOTS) -> int:
    """Write all layouts; the number of readings. What is there already is taken as it is."""
    done = folder / "generated.json"
    if done.exists():
        return int(json.loads(done.read_text())["readings"])
    folder.mkdir(parents=True, exist_ok=True)
    settings = DeltaSettings(sync=False)
    LakeWriter(folder, settings, {table.topic: "bench" for table in TABLES}).open()
    delta = LakeLocation.of(folder, settings).open(READINGS_TABLE.name)
    rows = 0
    with closing(duckdb.connect(str(folder / "plain.db"))) as connection:
        connection.execute(f"SET threads = {THREADS}; SET memory_limit = '{MEMORY}'")
        for number, (start, hours) in enumerate(_stretches(days)):
            day = pa.concat_tables(readings(start, hours, robots, seed=number)).sort_by("received_at")
            rows += day.num_rows
            last = start + timedelta(hours=hours) == END
            _flush(delta, day, FLUSHES_OF_THE_LAST_DAY if last else FLUSHES_A_DAY, settings)
            connection.register("day", day)
            _plain(connection, folder, first=number == 0)
            if last:
                _json(connection, folder)
            connection.unregister("day")
            if number % 10 == 0:
                progress(f"history: {rows:,} readings up to {start.date()}")
        connection.execute("CHECKPOINT")
    _merge(delta, folder, settings)
    done.write_text(json.dumps({"readings": rows}))
    return rows


def _stretches(days: float) -> Iterator[tuple[datetime, float]]:
    """The days one by one, as start and hours; the first may be a part of one."""
    whole = int(days)
    if rest := days - whole:
        yield END - timedelta(days=whole, hours=24 * rest), 24 * rest
    for number in range(whole, 0, -1):
        yield END - timedelta(days=number), 24


def _flush(delta: DeltaTable, day: pa.Table, flushes: int, settings: DeltaSettings) -> None:
    size = -(-day.num_rows // flushes)
    for first in range(0, day.num_rows, size):
        write_deltalake(
            delta,
            sorted_rows(day.slice(first, size), READINGS_TABLE.sort_by),
            mode="append",
            writer_properties=writer_properties(settings, READINGS_TABLE),
        )


def _plain(connection: duckdb.DuckDBPyConnection, folder: Path, first: bool) -> None:
    connection.execute("CREATE TABLE readings AS FROM day" if first else "INSERT INTO readings FROM day")
    parquet = "(FORMAT parquet, PARTITION_BY (received_date), APPEND)"
    connection.execute(f"COPY (FROM day) TO '{folder / 'parquet'}' {parquet}")


def _json(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    (folder / "json").mkdir(exist_ok=True)
    for name, compression in (("rows.json", "uncompressed"), ("rows.json.zst", "zstd")):
        connection.execute(
            f"COPY (FROM day LIMIT {JSON_ROWS}) TO '{folder / 'json' / name}' (FORMAT json, COMPRESSION {compression})"
        )


def _merge(delta: DeltaTable, folder: Path, settings: DeltaSettings) -> None:
    """The table maintenance at the end of a day."""
    delta.update_incremental()
    partitions: dict[tuple[tuple[str, str | None], ...], list[LiveFile]] = defaultdict(list)
    for file in live_files(delta):
        partitions[file.partition].append(file)
    last = (END - timedelta(days=1)).date().isoformat()
    over = [files for partition, files in partitions.items() if dict(partition)[PARTITION_DATE] != last]
    for number, files in enumerate(group for group in over if len(group) > 1):
        merge_files(delta, LakeLocation.of(folder, settings), tuple(files), settings.compression_level)
        if number % 40 == 0:
            progress(f"history: {number} of {len(over)} partitions are merged")
    delta.create_checkpoint()
    delta.vacuum(0, dry_run=False, enforce_retention_duration=False)


def bytes_a_reading(folder: Path, rows: int) -> dict[str, float]:
    """By layout."""
    location = LakeLocation(str(folder / "lake"))
    json_rows = min(JSON_ROWS, rows)
    return {
        "fleetlake": sum(file.bytes for file in live_files(location.open(READINGS_TABLE.name))) / rows,
        "parquet": sum(path.stat().st_size for path in (folder / "parquet").rglob("*.parquet")) / rows,
        "duckdb": (folder / "plain.db").stat().st_size / rows,
        "json": (folder / "json" / "rows.json").stat().st_size / json_rows,
        "json, zstd": (folder / "json" / "rows.json.zst").stat().st_size / json_rows,
    }
