"""Five common questions to weeks of a fleet's readings, beside plain date-partitioned Parquet and a plain DuckDB table.

A part of `python -m bench`: `--readings 100_000_000` (default ten million), `--lake FOLDER` generates there and keeps
it, or takes what is there. `fleetlake` answers from `fleet.duckdb` as users open it, by two threads like the others.
*Cold* is connecting and asking with none of the system's files in memory; *warm* is asking once more. The answers must
be equal. Also measured: bytes per reading in each layout, and the cost of publishing `fleet.duckdb`, beside a history
of one million readings of the same fleet.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

import fleetlake
from bench.fleet_readings import device_ids
from bench.history import END, ROBOTS, THREADS, bytes_a_reading, days_of, generate
from bench.part import Bench, progress
from bench.results import Samples
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings

NAME = "queries"
SMALL = 1_000_000
RUNS = 5
COLD_RUNS = 3

Answer = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Question:
    """SQL in terms of `{readings}`; `ours` where fleetlake's users would ask a table of it instead."""

    name: str
    sql: str
    ours: str = ""


def questions() -> list[Question]:
    """The five."""
    week, day = END - timedelta(days=7), END - timedelta(days=2)
    device = device_ids("karcher", ROBOTS)[0]
    yesterday = END - timedelta(days=1)
    return [
        Question(
            "device_last_hour",
            "SELECT metric, observed_at, value_number, value_text FROM {readings} "
            f"WHERE device_id = '{device}' AND observed_at >= '{END - timedelta(hours=1)}' "
            f"AND received_date >= '{yesterday.date()}' ORDER BY metric, observed_at",
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
            f"WHERE vendor = 'climasense' AND received_date = '{day.date()}' GROUP BY metric ORDER BY metric",
        ),
        Question(
            "latest",
            "SELECT device_id, arg_max(value_number, observed_at), max(observed_at) FROM {readings} "
            "WHERE metric = 'battery.level' GROUP BY device_id ORDER BY device_id",
            "SELECT device_id, value_number, observed_at FROM latest WHERE metric = 'battery.level' ORDER BY device_id",
        ),
        Question(
            "roll_up",
            "SELECT device_id, date_trunc('hour', observed_at) AS hour, count(*), min(value_number), "
            "max(value_number), round(avg(value_number), 6) FROM {readings} WHERE metric = 'network.signal_strength' "
            f"AND observed_at >= '{yesterday}' AND received_date >= '{yesterday.date()}' GROUP BY ALL ORDER BY ALL",
            "SELECT device_id, bucket, count, min, max, round(mean, 6) FROM readings_1h "
            f"WHERE metric = 'network.signal_strength' AND bucket >= '{yesterday}' ORDER BY ALL",
        ),
    ]


@dataclass(frozen=True)
class System:
    """How one of them is opened, what `{readings}` is in it, and where its files are."""

    name: str
    open: Callable[[], duckdb.DuckDBPyConnection]
    readings: str
    files: list[Path]

    def connect(self) -> duckdb.DuckDBPyConnection:
        """Ready to be asked."""
        connection = self.open()
        connection.execute(f"SET threads = {THREADS}")
        return connection

    def sql(self, question: Question) -> str:
        """What its users would ask."""
        ours = question.ours if self.name == "fleetlake" else ""
        return ours or question.sql.format(readings=self.readings)


def systems(folder: Path) -> list[System]:
    """The three."""
    parquet = folder / "parquet"
    return [
        System("fleetlake", lambda: fleetlake.connect(folder), "readings", [folder / "lake", folder / "fleet.duckdb"]),
        System(
            "parquet", duckdb.connect, f"read_parquet('{parquet}/**/*.parquet', hive_partitioning = true)", [parquet]
        ),
        System(
            "duckdb", lambda: duckdb.connect(folder / "plain.db", read_only=True), "readings", [folder / "plain.db"]
        ),
    ]


async def run(bench: Bench, samples: Samples) -> None:
    """Generate, publish, ask."""
    await asyncio.to_thread(measure, bench, samples)


def measure(bench: Bench, samples: Samples) -> None:
    """Add the figures. RuntimeError if a system's answer differs from the lake's."""
    small, folder = bench.folder / "small", (bench.lake or bench.folder / "lake").resolve()
    for wanted, place in ((min(SMALL, bench.scaled(bench.readings)), small), (bench.scaled(bench.readings), folder)):
        rows = generate(place, days_of(wanted))
        progress(f"{NAME}: {rows:,} readings are there")
        _publish(place, f"{wanted / 1e6:g} million", samples)
    for layout, taken in bytes_a_reading(folder, rows).items():
        samples.add(NAME, layout, reading_bytes=taken)
    answers: dict[str, Answer] = {}
    for system in systems(folder):
        for name, answer in _ask(system, samples):
            if answers.setdefault(name, answer) != answer or not (answer or bench.scale < 1):
                raise RuntimeError(f"{name}: {system.name} answers differently")
        progress(f"{NAME}: {system.name} has answered")


def _publish(folder: Path, system: str, samples: Samples) -> None:
    """Make the working file from the whole lake, and then publish, as each interval does; what either costs."""
    work = folder / "work"
    for _ in range(COLD_RUNS):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        with closing(PublishedDatabase(folder, DuckdbSettings())) as sink:
            samples.add(NAME, system, **_cost("first_follow", sink.catch_up))
    with closing(PublishedDatabase(folder, DuckdbSettings())) as sink:
        for _ in range(RUNS):
            taken = _cost("publish", sink.publish)
            samples.add(NAME, system, **taken, published_bytes=(folder / "fleet.duckdb").stat().st_size)


def _cost(name: str, work: Callable[[], Any]) -> dict[str, float]:
    before = time.process_time()
    seconds, _ = _timed(work)
    return {f"{name}_seconds": seconds, f"{name}_cpu_seconds": time.process_time() - before}


def _ask(system: System, samples: Samples) -> Iterator[tuple[str, Answer]]:
    for question in questions():
        sql = system.sql(question)
        for _ in range(COLD_RUNS):
            _forget(system.files)
            seconds, answer = _timed(lambda: _once(system, sql))  # noqa: B023
            samples.add(NAME, system.name, **{f"{question.name}_cold_seconds": seconds})
        with closing(system.connect()) as connection:
            for number in range(1 + RUNS):
                seconds, answer = _timed(lambda: connection.execute(sql).fetchall())  # noqa: B023
                if number:
                    samples.add(NAME, system.name, **{f"{question.name}_seconds": seconds})
        yield question.name, answer


def _once(system: System, sql: str) -> Answer:
    with closing(system.connect()) as connection:
        return connection.execute(sql).fetchall()


def _forget(files: list[Path]) -> None:
    """Have the kernel drop these files from memory."""
    for path in (file for each in files for file in (each.rglob("*") if each.is_dir() else [each])):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result
