"""From topics to rows that a query sees, in the lake and in `fleet.duckdb`: each sink by itself, then the pipeline.

`delta sink` takes observations that are in their topic beforehand: rows per second between its first commit and its
last but one (the last holds the rest and waits for `flush_seconds`). `duckdb sink` then takes these commits, which it
could not see before: rows per second from its first look until they are published. `pipeline` is the stream worker and
both sinks as users run them, on live messages: for each row the time from before the connector's write until a reader
who looks every tenth of a second sees it; then a flood, timed until the last row is there. Intervals are the defaults,
5 s each.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import duckdb
import pyarrow.parquet as parquet
from deltalake import DeltaTable

import fleetlake
from bench.fleet import Meter, Site, feed, flood, prime
from bench.job import READINGS_A_MESSAGE, Job, device_of, envelopes, observation
from bench.kafka import NewRecord, broker, fill, raw_record
from bench.latency import percentiles
from bench.part import Bench, progress
from bench.process import Process, until
from bench.results import Samples
from connectors.common.publishing.partitioner import partition_of
from schemas import wire
from schemas.topics import READINGS

NAME = "lake"
PARTITIONS = 4
DEVICES = 1_000
OBSERVATIONS = 400_000
FLOOD = 100_000
RATE = 500
SECONDS = 30.0
_LOOK_SECONDS = 0.1
_TIMEOUT = 180.0


async def run(bench: Bench, samples: Samples) -> None:
    """Run the sinks, then the pipeline, repeatedly."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            for part in (_sinks, _pipeline):
                await kafka.declare_pipeline(PARTITIONS)
                site = Site(
                    kafka, bench.folder / f"{part.__name__}{number}", f"lake{part.__name__}{number}", PARTITIONS
                )
                for name, metrics in (await part(site, bench)).items():
                    samples.add(NAME, name, **metrics)
                    progress(f"{NAME}: {name}: " + ", ".join(f"{m} {v:,.1f}" for m, v in metrics.items()))


# -- the sinks by themselves


async def _sinks(site: Site, bench: Bench) -> dict[str, dict[str, float]]:
    job = Job(bench.scaled(OBSERVATIONS), DEVICES, int(time.time() * 1000))
    rows = job.messages * READINGS_A_MESSAGE
    published = Published(site.data)
    with site.stage("sink", "duckdb") as duckdb_sink:
        with site.stage("sink", "delta", name="tables"):  # so that there is an empty lake to follow
            await until(published.follows, _TIMEOUT, "an empty lake is published")
        os.kill(duckdb_sink.pid, signal.SIGSTOP)
        try:
            await fill(site.kafka, (_record(job, number) for number in range(job.messages)), PARTITIONS)
            with site.stage("sink", "delta") as delta_sink:
                delta = await _delta(site, delta_sink, rows)
        finally:
            os.kill(duckdb_sink.pid, signal.SIGCONT)
        meter = Meter([duckdb_sink])
        meter.start()
        await until(published.shows(rows, meter), _TIMEOUT, f"{rows} rows are published")
        seconds, cpu = meter.wall(), meter.cpu()
    _expect(site.data, rows)
    taken = {"rows_per_second": rows / seconds, "rows_per_cpu_second": rows / cpu}
    return {"delta sink": delta, "duckdb sink": {**taken, "peak_rss_bytes": duckdb_sink.peak_rss}}


async def _delta(site: Site, process: Process, rows: int) -> dict[str, float]:
    seen: list[tuple[float, int, float]] = []  # time, rows, CPU seconds at each commit
    deadline = time.monotonic() + _TIMEOUT
    lake = Lake(site.data)
    while not seen or seen[-1][1] < rows:
        process.check()
        count, cpu = lake.rows(), process.sample()
        if count and (not seen or count > seen[-1][1]):
            seen.append((time.monotonic(), count, cpu))
        if time.monotonic() > deadline:
            raise TimeoutError(f"{lake.rows()} of {rows} rows are in the lake")
        await asyncio.sleep(_LOOK_SECONDS / 5)
    if len(seen) < 2:
        raise RuntimeError("all rows came in one commit, which gives no rate: use more of them (--scale)")
    (first_at, first, first_cpu), (last_at, last, last_cpu) = seen[0], seen[-2] if len(seen) > 2 else seen[-1]
    return {
        "rows_per_second": (last - first) / (last_at - first_at),
        "rows_per_cpu_second": (last - first) / (last_cpu - first_cpu),
        "peak_rss_bytes": process.peak_rss,
    }


class Published:
    """The number of readings in `fleet.duckdb`, read whenever the file is replaced."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._inode = 0
        self._rows: int | None = None

    async def follows(self) -> bool:
        """Whether it knows the table."""
        return self._look() is not None

    def shows(self, rows: int, meter: Meter) -> Callable[[], Awaitable[bool]]:
        """A condition: the file has that many rows."""

        async def has_rows() -> bool:
            meter.check()
            meter.cpu()  # notes the memory
            return self._look() == rows

        return has_rows

    def _look(self) -> int | None:
        path = self._data / "fleet.duckdb"
        if path.exists() and path.stat().st_ino != self._inode:
            self._inode = path.stat().st_ino
            with fleetlake.connect(self._data) as connection:
                row = connection.execute("SELECT rows FROM published WHERE table_name = 'readings'").fetchone()
            self._rows = None if row is None else int(row[0])
        return self._rows


def _record(job: Job, number: int) -> NewRecord:
    key = device_of(job, number).encode()
    made = observation(job, number, partition_of(key, PARTITIONS))
    return READINGS, key, wire.encode(made), [("content-type", b"application/json"), ("ce_id", made.id.encode())]


# -- the pipeline


async def _pipeline(site: Site, bench: Bench) -> dict[str, dict[str, float]]:
    with ExitStack() as stack:
        worker = stack.enter_context(site.stage("stream"))
        sinks = [stack.enter_context(site.stage("sink", name)) for name in ("delta", "duckdb")]
        await prime(site, worker)
        processes = [worker, *sinks]
        watch = Watch(site.data, processes)
        looking = asyncio.create_task(watch.look())
        try:
            sent = await feed(site, Job(1 << 30, DEVICES, 0), RATE, bench.seconds(SECONDS))
            primed = 16 * PARTITIONS
            await watch.until(sent + primed)
            ages = {
                f"{place}_{name}": value for place in watch.ages for name, value in watch.percentiles(place).items()
            }
            flooded = await _flood(site, bench, watch, Meter(processes), sent + primed)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
    _expect(site.data, (sent + primed + bench.scaled(FLOOD)) * READINGS_A_MESSAGE)
    return {"pipeline": {**ages, **flooded}}


async def _flood(site: Site, bench: Bench, watch: Watch, meter: Meter, before: int) -> dict[str, float]:
    job = Job(bench.scaled(FLOOD), DEVICES, int(time.time() * 1000) + 60_000)
    await flood(site, map(raw_record, envelopes(job)), meter.start)
    await watch.until(before + job.messages)
    begun = time.monotonic() - meter.wall()
    rows = job.messages * READINGS_A_MESSAGE
    return {f"{place}_rows_per_second": rows / (at - begun) for place, at in watch.complete_at.items()}


class Watch:
    """Looks at the tables as readers do, and notes how old each message is when it is first seen there."""

    def __init__(self, data: Path, processes: list[Process]) -> None:
        self.ages: dict[str, list[float]] = {"lake": [], "duckdb": []}
        self.complete_at: dict[str, float] = {}
        self._processes = processes
        self._data = data
        self._lake = Lake(data)
        self._published = 0
        self._ids: dict[str, set[str]] = {"lake": set(), "duckdb": set()}
        self._due = 1 << 60

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self._look)
            await asyncio.sleep(_LOOK_SECONDS)

    async def until(self, messages: int) -> None:
        """Wait until that many messages are visible in both places; `complete_at` then says when."""
        self._due, self.complete_at = messages, {}
        deadline = time.monotonic() + _TIMEOUT
        while len(self.complete_at) < len(self._ids):
            for process in self._processes:
                process.check()
            if time.monotonic() > deadline:
                raise TimeoutError(", ".join(f"{len(ids)} messages in {place}" for place, ids in self._ids.items()))
            await asyncio.sleep(_LOOK_SECONDS)

    def percentiles(self, place: str) -> dict[str, float]:
        """Median and 99th percentile of the ages."""
        return percentiles(self.ages[place])

    def _look(self) -> None:
        for path in self._lake.new_files():
            table = parquet.read_table(path, columns=["message_id", "received_at"], partitioning=None)
            self._saw("lake", zip(table["message_id"].to_pylist(), _epoch(table["received_at"]), strict=True))
        if published := self._newly_published():
            self._saw("duckdb", published)
        for place, ids in self._ids.items():
            if len(ids) >= self._due:
                self.complete_at.setdefault(place, time.monotonic())

    def _newly_published(self) -> list[tuple[str, float]]:
        path = self._data / "fleet.duckdb"
        if not path.exists() or path.stat().st_ino == self._published:
            return []
        self._published = path.stat().st_ino
        with fleetlake.connect(self._data) as connection:
            return connection.execute("SELECT DISTINCT message_id, epoch(received_at) FROM recent_readings").fetchall()

    def _saw(self, place: str, messages: object) -> None:
        now, ids, ages = time.time(), self._ids[place], self.ages[place]
        for identity, received in messages:  # type: ignore[attr-defined]
            if identity not in ids:
                ids.add(identity)
                ages.append(1000 * (now - received))


class Lake:
    """The readings of a lake, looked at repeatedly."""

    def __init__(self, data: Path) -> None:
        self._path = data / "lake" / "readings"
        self._table: DeltaTable | None = None
        self._files: set[str] = set()

    def rows(self) -> int:
        """Rows of the newest version."""
        table = self._newest()
        return 0 if table is None else int(table.count())

    def new_files(self) -> list[str]:
        """Files that were not there at the last call."""
        table = self._newest()
        files = set() if table is None else set(table.file_uris())
        new, self._files = files - self._files, self._files | files
        return sorted(new)

    def _newest(self) -> DeltaTable | None:
        if self._table is None:
            if not DeltaTable.is_deltatable(str(self._path)):
                return None
            self._table = DeltaTable(str(self._path))
        self._table.update_incremental()
        return self._table


def _epoch(column: object) -> list[float]:
    return [micros / 1e6 for micros in column.cast("int64").to_pylist()]  # type: ignore[attr-defined]


def _expect(data: Path, rows: int) -> None:
    """RuntimeError unless the lake has `rows` rows, and no two of the same message and metric."""
    files = DeltaTable(str(data / "lake" / "readings")).file_uris()
    with duckdb.connect() as connection:
        counts = connection.execute(
            "SELECT count(*), count(DISTINCT (message_id, metric)) FROM read_parquet(?)", [files]
        ).fetchone()
    if counts != (rows, rows):
        raise RuntimeError(f"the lake should have {rows} rows; it has (rows, distinct ones): {counts}")
