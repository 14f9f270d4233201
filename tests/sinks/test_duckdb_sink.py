"""The DuckDB sink: whole states for readers while it publishes, one publisher per folder, safe to kill."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runtime.health import Health
from schemas.topics import READINGS
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import maintain
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.sink import DuckDBSink
from sinks.settings import DeltaSettings, DuckdbSettings
from tests.support.lake import Writing, ask, number_of
from tests.support.paths import ROOT
from tests.support.plain_client import OPEN
from tests.support.samples import observation
from tests.support.waiting import eventually

READER = (
    OPEN
    + """
import sys, time
path, until = sys.argv[1], time.time() + float(sys.argv[2])
opens, seen = 0, (0, 0, 0)
while time.time() < until or opens < 11:
    with open_published(path) as c:
        now = c.execute("SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM latest), "
                        "(SELECT rows FROM published WHERE table_name = 'readings')").fetchone()
        recent = c.execute("SELECT count(*) FROM recent_readings").fetchone()[0]
        rolled = c.execute("SELECT 2 * coalesce(sum(count), 0) FROM readings_1h").fetchone()[0]
    assert all(b >= a for a, b in zip(seen, now)), (seen, now)
    assert now[0] == now[2] == recent == rolled, (now, recent, rolled)
    seen, opens = now, opens + 1
print(opens, seen[0])
"""
)


def _reader(data: Path) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", READER, str(data / "fleet.duckdb"), "6"], stdout=pipe, stderr=pipe)


async def test_ten_readers_see_one_whole_state_after_another_while_it_is_published(data: Path) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(DuckDBSink(DuckdbSettings(publish_seconds=0.2), data).run(stop, Health("duckdb")))
    await eventually((data / "fleet.duckdb").exists)
    writing = await asyncio.to_thread(Writing, data)
    await asyncio.to_thread(writing.write, READINGS, observation(0))
    await eventually(lambda: number_of(data, "readings") == 2)
    readers = [_reader(data) for _ in range(10)]
    n = 1
    while any(reader.poll() is None for reader in readers):
        await asyncio.to_thread(writing.write, READINGS, observation(n, device=f"ogmen:{n % 7}"))
        if n % 20 == 0:
            settings = DeltaSettings(compact_files=5)
            await asyncio.to_thread(maintain, LakeLocation(str(data / "lake")), "readings", settings, False)
        n += 1
    stop.set()
    await task
    results = [(reader.returncode, *reader.communicate()) for reader in readers]
    assert all(code == 0 for code, _, _ in results), results
    opens = [int(out.split()[0]) for _, out, _ in results]
    assert sum(opens) > 100, opens
    assert number_of(data, "readings") == 2 * n


PUBLISHER = """
import asyncio, sys
from pathlib import Path
from runtime.health import Health
from sinks.duckdb.sink import DuckDBSink
from sinks.settings import DuckdbSettings
asyncio.run(DuckDBSink(DuckdbSettings(publish_seconds=0.2), Path(sys.argv[1])).run(asyncio.Event(), Health("d")))
"""


def _publisher(data: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PUBLISHER, str(data)], cwd=ROOT)


async def test_one_process_publishes_and_another_takes_over_when_it_ends(
    data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "sinks.duckdb.sink")
    first = _publisher(data)
    stop, health = asyncio.Event(), Health("duckdb")
    try:
        await eventually((data / "fleet.duckdb").exists)
        second = asyncio.create_task(DuckDBSink(DuckdbSettings(publish_seconds=0.2), data).run(stop, health))
        await eventually(lambda: "waiting to take over" in caplog.text)
        assert health.ready_problems()
        assert not second.done()
        writing = await asyncio.to_thread(Writing, data)
        await asyncio.to_thread(writing.write, READINGS, observation(1))
        await eventually(lambda: number_of(data, "readings") == 2)
    finally:
        first.kill()
        first.wait()
    await eventually(lambda: not health.ready_problems())
    await asyncio.to_thread(writing.write, READINGS, observation(2))
    await eventually(lambda: number_of(data, "readings") == 4)
    stop.set()
    await second


def test_killed_at_any_moment_it_goes_on_where_it_was(data: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from sinks.duckdb.published import PublishedDatabase; "
        "from sinks.settings import DuckdbSettings; s = PublishedDatabase(Path(sys.argv[1]), DuckdbSettings())\n"
        "print('open', flush=True)\n"
        "while True: s.catch_up(); s.publish()"
    )
    writing = Writing(data)
    n = 0
    for pause in (0.05, 0.15, 0.3, 0.45):
        process = subprocess.Popen([sys.executable, "-c", code, str(data)], cwd=ROOT, stdout=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"open\n"
        end = time.monotonic() + pause
        while time.monotonic() < end:
            writing.write(READINGS, observation(n))
            n += 1
        process.kill()
        process.wait()
        process.stdout.close()
    with closing(PublishedDatabase(data, DuckdbSettings())) as sink:
        sink.publish()
    assert ask(data, "SELECT count(*), count(DISTINCT origin_offset) FROM recent_readings") == [(2 * n, n)]
    assert number_of(data, "readings") == 2 * n
