"""Five common questions to a generated lake, beside plain date-partitioned Parquet and a plain DuckDB table.

A part of `python -m bench`; by itself `python -m bench.queries --rows 1_000_000`. It generates 30 days of a fleet (a
message of twelve metrics from each device every five minutes), as a merged lake: one sorted file a day and
vendor. The same rows, in the order of receipt, go to plain Parquet, one folder a day, and to a table of a plain DuckDB
file. Each question is asked once unmeasured and then `runs` times, by two threads; answers have to be equal.
`fleetlake` answers from `fleet.duckdb` as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from deltalake import write_deltalake

import fleetlake
from bench.part import Bench, progress
from bench.results import Samples, print_table
from sinks.delta import Lake, writer_properties
from sinks.duckdb import Published
from sinks.settings import DeltaSettings, DuckdbSettings
from sinks.tables import READINGS, TABLES

NAME = "queries"
ROWS = 100_000_000
DAYS = 30
START = datetime(2026, 10, 1)
MESSAGE_SECONDS = 300
THREADS = 2
VENDORS = ("karcher", "ogmen", "wayscloud", "climasense")
METRICS = (
    ("battery.level", "%", 100, 1),
    ("network.signal_strength", "dB[mW]", -90, 0),
    ("environment.temperature", "Cel", 25, 1),
    ("environment.humidity", "%", 60, 1),
    ("environment.pressure", "hPa", 1013, 1),
    ("environment.air_quality_index", "1", 80, 0),
    ("position.x", "m", 30, 3),
    ("position.y", "m", 20, 3),
    ("orientation.yaw", "deg", 180, 2),
    ("job.progress", "%", 100, 1),
    ("water.fresh", "L", 60, 1),
    ("device.operating_time", "s", 9_000_000, 0),
)
ROWS_A_DEVICE = DAYS * 86_400 // MESSAGE_SECONDS * len(METRICS)


@dataclass(frozen=True)
class Question:
    """SQL in terms of `{readings}`; `ours` where fleetlake's users would ask a table of current state instead."""

    name: str
    sql: str
    ours: str = ""


def questions() -> list[Question]:
    """The five."""
    end = START + timedelta(days=DAYS)
    week, day = end - timedelta(days=7), end - timedelta(days=3)
    device = f"{VENDORS[0]}:device-00000"
    return [
        Question(
            "device_last_hour",
            f"SELECT metric, observed_at, value_number FROM {{readings}} WHERE device_id = '{device}' "
            f"AND observed_at >= '{end - timedelta(hours=1)}' AND received_date >= '{end.date() - timedelta(days=1)}' "
            "ORDER BY metric, observed_at",
        ),
        Question(
            "metric_fleet_week",
            "SELECT date_trunc('hour', observed_at) AS hour, count(*), min(value_number), max(value_number) FROM "
            f"{{readings}} WHERE metric = 'environment.temperature' AND observed_at >= '{week}' "
            f"AND received_date >= '{week.date()}' GROUP BY hour ORDER BY hour",
        ),
        Question(
            "vendor_day",
            "SELECT metric, count(*), min(value_number), max(value_number), count(DISTINCT device_id) FROM {readings} "
            f"WHERE vendor = '{VENDORS[-1]}' AND received_date = '{day.date()}' GROUP BY metric ORDER BY metric",
        ),
        Question(
            "latest_batteries",
            "SELECT device_id, arg_max(value_number, observed_at), max(observed_at) FROM {readings} "
            "WHERE metric = 'battery.level' GROUP BY device_id ORDER BY device_id",
            "SELECT device_id, value_number, observed_at FROM latest WHERE metric = 'battery.level' ORDER BY device_id",
        ),
        Question(
            "battery_history",
            f"SELECT observed_at, value_number FROM {{readings}} WHERE device_id = '{device}' "
            "AND metric = 'battery.level' ORDER BY observed_at",
        ),
    ]


async def run(bench: Bench, samples: Samples) -> None:
    """Generate, publish, ask."""
    await asyncio.to_thread(measure, bench.scaled(ROWS), max(5, bench.runs), bench.folder, samples)


def measure(rows: int, runs: int, folder: Path, samples: Samples) -> None:
    """Add the figures of about so many readings. RuntimeError if a system's answer differs from the lake's."""
    devices = max(len(VENDORS), round(rows / ROWS_A_DEVICE))
    rows = devices * ROWS_A_DEVICE
    progress(f"{NAME}: {rows:,} readings of {devices} devices over {DAYS} days")
    generate(folder, devices)
    for metric, seconds in publish(folder, runs).items():
        for second in seconds:
            samples.add(NAME, "fleetlake", **{metric: second})
    for system, path in (("fleetlake", "lake/readings"), ("parquet", "parquet"), ("duckdb", "plain.db")):
        samples.add(NAME, system, reading_bytes=_bytes(folder / path) / rows)
    answers: dict[str, Any] = {}
    for system, connection, readings in _systems(folder):
        with closing(connection):
            connection.execute(f"SET threads = {THREADS}")
            for question in questions():
                ours = question.ours if system == "fleetlake" else ""
                sql = ours or question.sql.format(readings=readings)
                answer = connection.execute(sql).fetchall()
                if answers.setdefault(question.name, answer) != answer or not answer:
                    raise RuntimeError(f"{question.name}: {system} answers differently")
                for _ in range(runs):
                    started = time.perf_counter()
                    connection.execute(sql).fetchall()
                    samples.add(NAME, system, **{f"{question.name}_seconds": time.perf_counter() - started})
        progress(f"{NAME}: {system} has answered")


def generate(folder: Path, devices: int) -> None:
    """The lake, the plain Parquet and the plain table, day by day."""
    settings = DeltaSettings()
    Lake(folder, settings, {table.topic: "bench" for table in TABLES}).open()
    (folder / "work").mkdir(exist_ok=True)
    with duckdb.connect(str(folder / "plain.db")) as connection:
        connection.execute(f"SET threads = {THREADS}; SET memory_limit = '4GB'")
        for day in range(DAYS):
            connection.execute(f"CREATE OR REPLACE TEMP TABLE day AS {_rows(devices, day)}")
            connection.execute(
                "CREATE TABLE readings AS FROM day ORDER BY received_at"
                if not day
                else "INSERT INTO readings FROM day ORDER BY received_at"
            )
            connection.execute(
                f"COPY (FROM day ORDER BY received_at) TO '{folder / 'parquet'}' "
                "(FORMAT parquet, PARTITION_BY (received_date), APPEND)"
            )
            lake = connection.sql(f"FROM day ORDER BY {', '.join(READINGS.sort_by)}").to_arrow_table()
            write_deltalake(
                str(folder / "lake" / "readings"),
                lake.cast(READINGS.schema),
                mode="append",
                writer_properties=writer_properties(settings, READINGS),
            )
            if day % 10 == 9:
                progress(f"{NAME}: {day + 1} of {DAYS} days are there")
        connection.execute("DROP TABLE day")
        connection.execute("CHECKPOINT")


def _rows(devices: int, day: int) -> str:
    """One day's readings. Noise comes from hashes: the same each time."""
    start = START + timedelta(days=day)
    every = 86_400 // MESSAGE_SECONDS
    metrics = ", ".join(
        f"{{'name': '{name}', 'unit': '{unit}', 'scale': {scale}::DOUBLE, 'digits': {digits}}}"
        for name, unit, scale, digits in METRICS
    )
    vendors = ", ".join(f"'{vendor}'" for vendor in VENDORS)
    columns = {
        "device_id": "vendor || ':device-' || lpad(device::VARCHAR, 5, '0')",
        "vendor": "vendor",
        "metric": "m.name",
        "value_number": "round(m.scale * (0.6 + 0.3 * sin(tick / 40 + device) + 0.1 * noise), m.digits)",
        "unit": "m.unit",
        "observed_at": "observed",
        "received_at": "observed + to_milliseconds((900 * noise)::BIGINT)",
        "time_source": "'vendor'",
        "time_quality": "'ok'",
        "message_id": "md5(device || '/' || tick)",
        "origin_topic": "'telemetry.raw.' || vendor || '.v1'",
        "origin_partition": "device % 4",
        "origin_offset": "tick * 1000 + device",
        "received_date": f"DATE '{start.date()}'",
    }
    types = {"VARCHAR": "string", "DOUBLE": "double", "BOOLEAN": "bool", "INTEGER": "int32", "BIGINT": "int64"}
    names = {arrow: sql for sql, arrow in types.items()} | {"timestamp[us]": "TIMESTAMP", "date32[day]": "DATE"}
    wanted = ", ".join(
        f"({columns.get(field.name, 'NULL')})::{names[str(field.type)]} AS {field.name}" for field in READINGS.schema
    )
    return f"""SELECT {wanted} FROM (
  SELECT *, unnest([{metrics}]) AS m, (hash(device, tick) % 1000) / 1000 AS noise FROM (
    SELECT device, [{vendors}][device % {len(VENDORS)} + 1] AS vendor, {day * every} + t AS tick,
      TIMESTAMP '{start}' + to_seconds(t * {MESSAGE_SECONDS} + device % {MESSAGE_SECONDS - 1}) AS observed
    FROM range({devices}) d(device), range({every}) r(t)
  )
)"""


def publish(folder: Path, runs: int) -> dict[str, list[float]]:
    """Seconds to make the working file from the whole lake, and then to publish, as each interval does."""
    with closing(Published(folder, DuckdbSettings())) as sink:
        whole = [_timed(sink.follow)]
        return {"first_follow_seconds": whole, "publish_seconds": [_timed(sink.publish) for _ in range(runs)]}


def _systems(folder: Path) -> Iterator[tuple[str, duckdb.DuckDBPyConnection, str]]:
    yield "fleetlake", fleetlake.connect(folder), "readings"
    yield "parquet", duckdb.connect(), f"read_parquet('{folder}/parquet/**/*.parquet', hive_partitioning = true)"
    yield "duckdb", duckdb.connect(str(folder / "plain.db"), read_only=True), "readings"


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _bytes(path: Path) -> int:
    return sum(f.stat().st_size for f in (path.rglob("*.parquet") if path.is_dir() else [path]))


def main() -> None:
    """Measure with any number of readings, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.queries")
    parser.add_argument("--rows", type=int, default=1_000_000, help="readings, about")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="keep what is generated here; default: a temporary folder")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    options = parser.parse_args()
    samples = Samples()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        measure(options.rows, options.runs, folder, samples)
    if options.json:
        for figure in samples.figures():
            print(json.dumps(asdict(figure)))
    else:
        print_table(sorted(samples.figures(), key=lambda f: (f.metric, f.system)))


if __name__ == "__main__":
    main()
