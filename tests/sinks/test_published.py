"""`fleet.duckdb`: one whole state of the lake at any moment, for any reader, wherever the folder is."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field, write_deltalake
from deltalake.schema import PrimitiveType

import fleetlake
from runtime.health import Health
from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import maintain
from sinks.delta.tables import READINGS as READINGS_TABLE
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.sink import DuckDBSink
from sinks.duckdb.sql import CREATE, PUBLISHED, UNKNOWN_COLUMN, VIEW_OF, fold
from sinks.duckdb.views import MACROS, VIEWS
from sinks.settings import DeltaSettings, DuckdbSettings
from tests.support.lake import Writing, ask
from tests.support.paths import ROOT
from tests.support.records import DEVICE
from tests.support.samples import NOON, alarm_event, dead_letter, device, event_set, observation
from tests.support.waiting import eventually

Publish = Callable[[], None]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "da'ta"
    (folder / "work").mkdir(parents=True)
    return folder


@pytest.fixture
def sink(data: Path) -> Iterator[PublishedDatabase]:
    with closing(PublishedDatabase(data, DuckdbSettings())) as published:
        yield published


def number_of(data: Path, table: str) -> int:
    return int(ask(data, f"SELECT count(*) FROM {table}")[0][0])


def test_before_anything_arrives_every_table_is_there_and_empty(data: Path, sink: PublishedDatabase) -> None:
    sink.publish()
    for name in [*PUBLISHED, *VIEW_OF.values(), *VIEWS]:
        assert number_of(data, name) == 0


def test_every_lake_table_is_told(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1), observation(2, device="ogmen:7"))
    writing.write(EVENTS, event_set(1))
    writing.write(ALARMS, alarm_event(1, "active", "triggered"), alarm_event(2, "resolved", "resolved"))
    writing.write(DEVICES, device("old name"), device("Robot 5"))
    writing.write(DEAD_LETTER, dead_letter(1))
    sink.publish()
    assert {view: number_of(data, view) for view in VIEW_OF.values()} == {
        "readings": 4,
        "events": 1,
        "alarm_events": 2,
        "device_history": 2,
        "dead_letters": 1,
    }
    assert number_of(data, "recent_readings") == 4
    assert number_of(data, "latest") == 4
    assert ask(data, "SELECT status, occurrence_count, resolved_at IS NOT NULL FROM alarms") == [("resolved", 2, True)]
    assert ask(data, "SELECT device_id, registered, name, last_seen FROM devices ORDER BY ALL") == [
        (DEVICE, True, "Robot 5", NOON.replace(tzinfo=None)),
        ("ogmen:7", False, None, NOON.replace(tzinfo=None)),
    ]
    assert {type(moment) for (moment,) in ask(data, "SELECT observed_at FROM readings")} == {datetime}
    assert ask(data, "SELECT typeof(observed_at) FROM readings LIMIT 1") == [("TIMESTAMP",)]
    assert ask(data, "SELECT rows, files FROM published WHERE table_name = 'readings'") == [(4, 2)]


@pytest.mark.parametrize("portion", [5, 1_000_000])
def test_following_gives_what_a_rebuild_gives(
    data: Path, sink: PublishedDatabase, portion: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.duckdb.working.PORTION_ROWS", portion)
    writing = Writing(data)
    for n in range(12):
        at = NOON + timedelta(minutes=(n * 5) % 12)
        writing.write(READINGS, observation(n, at=at, device=f"ogmen:{n % 3}"))
        writing.write(ALARMS, alarm_event(n + 1, "active", "repeated"))
        writing.write(DEVICES, device(f"name {n}") if n % 4 else None)
        if n % 5 == 0:
            sink.publish()
    maintain(LakeLocation(str(data / "lake")), "readings", DeltaSettings(compact_files=2), vacuum=False)
    writing.write(READINGS, observation(99))
    sink.publish()

    def told() -> dict[str, list[tuple[Any, ...]]]:
        names = ["devices", "latest", "alarms", "recent_readings", "readings", "readings_1m", "readings_1h"]
        return {name: sorted(ask(data, f"FROM {name}"), key=repr) for name in names} | {
            "published": ask(data, "SELECT table_name, delta_version, rows, files FROM published")
        }

    followed = told()
    sink.close()
    shutil.rmtree(data / "work")
    (data / "work").mkdir()
    with closing(PublishedDatabase(data, DuckdbSettings())) as anew:
        anew.publish()
    assert told() == followed
    assert len(followed["readings"]) == 26


def test_the_latest_value_is_the_newest_observed_and_never_one_from_the_future(
    data: Path, sink: PublishedDatabase
) -> None:
    def reading(value: float, minutes: int, quality: str = "ok") -> list[wire.Reading]:
        at = NOON + timedelta(minutes=minutes)
        return [wire.Reading(metric="m", observed_at=at, value_number=value, unit="%", time_quality=quality)]

    def latest() -> list[tuple[Any, ...]]:
        sink.publish()
        return ask(data, "SELECT value_number FROM latest")

    writing = Writing(data)
    writing.write(READINGS, observation(1, readings=reading(99, 9999, "future")))
    assert latest() == [(99.0,)]
    writing.write(READINGS, observation(2, readings=reading(5, 5)))
    assert latest() == [(5.0,)]
    writing.write(READINGS, observation(3, readings=reading(3, 3)))  # late
    assert latest() == [(5.0,)]
    writing.write(READINGS, observation(4, readings=reading(98, 99999, "future")))
    assert latest() == [(5.0,)]
    writing.write(READINGS, observation(5, readings=reading(6, 5)))  # same time, received as the later record
    assert latest() == [(6.0,)]
    assert number_of(data, "readings") == 5


def test_recent_readings_are_bounded_by_time_and_number_the_history_is_not(data: Path) -> None:
    writing = Writing(data)
    with closing(PublishedDatabase(data, DuckdbSettings(recent_days=1, recent_rows=20))) as sink:
        for hours in range(0, 48, 2):
            writing.write(READINGS, observation(hours, at=NOON + timedelta(hours=hours)))
            sink.catch_up()
        sink.publish()
        assert number_of(data, "recent_readings") == 20
        assert number_of(data, "readings") == 48
        [(oldest,)] = ask(data, "SELECT min(received_at) FROM recent_readings")
        assert oldest == NOON.replace(tzinfo=None) + timedelta(hours=28)


def test_recent_readings_stay_bounded_when_they_are_made_in_portions() -> None:
    """In one transaction, as from a snapshot: much is deleted, and then something older comes."""
    wanted = 50_000
    settings = DuckdbSettings(recent_days=1000, recent_rows=wanted, minute_days=0.01, hour_days=0.01)
    statements = [each for each in fold("readings", settings) if "recent_readings" in each or "seen" in each]
    with duckdb.connect() as connection:
        connection.execute(CREATE)
        columns = ", ".join(f"NULL AS {name}" for name in READINGS_TABLE.schema.names if name != "received_at")
        connection.execute("BEGIN")
        for day, rows in ((2, 1_000_000), (1, 100_000)):
            at = f"TIMESTAMP '2026-11-0{day}' + to_seconds(3600 * (20 - i // 100000)) + to_milliseconds(i % 100000)"
            connection.execute(
                f"CREATE OR REPLACE TEMP VIEW fresh AS SELECT {at} AS received_at, {columns} FROM range({rows}) t(i)"
            )
            for statement in statements:
                connection.execute(statement)
        found = connection.execute("SELECT count(*), min(received_at) FROM recent_readings").fetchone()
    assert found == (wanted, datetime(2026, 11, 2, 20, 0, 50))


def test_a_device_whose_registry_entry_is_deleted_is_told_as_unregistered(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1))
    writing.write(DEVICES, device("Robot 5"), None)
    sink.publish()
    assert ask(data, "SELECT registered, name FROM devices") == [(False, None)]


def test_late_data_goes_to_the_day_it_was_received(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, *(observation(n, at=NOON - timedelta(days=n), received=NOON) for n in range(60)))
    sink.publish()
    assert number_of(data, "readings") == 120
    assert ask(data, "SELECT files FROM published WHERE table_name = 'readings'") == [(1,)]


def test_a_new_column_shows_in_the_view_beside_files_without_it(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1))
    sink.publish()
    DeltaTable(data / "lake" / "readings").alter.add_columns([Field("site", PrimitiveType("string"))])
    newer = DeltaTable(data / "lake" / "readings")
    old = newer.to_pyarrow_table()
    write_deltalake(
        newer, old.set_column(old.column_names.index("site"), "site", pa.array(["hall"] * 2)), mode="append"
    )
    sink.publish()
    assert sorted(ask(data, "SELECT site FROM readings"), key=repr) == [("hall",), ("hall",), (None,), (None,)]
    assert ask(data, "SELECT comment FROM duckdb_columns() WHERE column_name = 'site'") == [(UNKNOWN_COLUMN,)]


def test_files_that_are_gone_and_a_log_that_is_cut_lead_to_a_rebuild(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(0))
    sink.publish()
    for n in range(1, 20):
        writing.write(READINGS, observation(n))
    path = data / "lake" / "readings"
    maintain(LakeLocation(str(path.parent)), path.name, DeltaSettings(), vacuum=False)
    DeltaTable(path).vacuum(0, dry_run=False, enforce_retention_duration=False)
    sink.publish()  # what the log says was added is deleted: merged, and vacuumed
    assert (number_of(data, "readings"), number_of(data, "recent_readings")) == (40, 40)

    for n in range(20, 23):
        writing.write(READINGS, observation(n))
    DeltaTable(path).create_checkpoint()
    for old in sorted((path / "_delta_log").glob("*.json"))[:-1]:
        old.unlink()
    sink.publish()
    assert (number_of(data, "readings"), number_of(data, "recent_readings")) == (46, 46)


def test_rows_deleted_from_the_lake_leave_the_published_tables(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    writing.write(READINGS, observation(1), observation(2, device="ogmen:7"))
    sink.publish()
    DeltaTable(data / "lake" / "readings").delete("device_id = 'ogmen:7'")
    sink.publish()
    for name in ("readings", "recent_readings", "latest", "devices"):
        assert ask(data, f"SELECT DISTINCT device_id FROM {name}") == [(DEVICE,)]


def test_every_table_view_and_column_explains_itself(data: Path, sink: PublishedDatabase) -> None:
    sink.publish()
    silent = ask(
        data,
        "SELECT table_name, NULL FROM duckdb_tables() WHERE comment IS NULL AND database_name = 'fleet' UNION ALL "
        "SELECT view_name, NULL FROM duckdb_views() WHERE comment IS NULL AND NOT internal "
        "AND database_name = 'fleet' UNION ALL "
        "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND database_name = 'fleet' "
        "AND NOT internal UNION ALL "
        "SELECT function_name, NULL FROM duckdb_functions() WHERE comment IS NULL AND database_name = 'fleet'",
    )
    assert silent == []
    assert {
        name for (name,) in ask(data, "SELECT function_name FROM duckdb_functions() WHERE database_name = 'fleet'")
    } == set(MACROS)


# Readers


def plain_client(path: Path | str, statement: str, folder: Path | str = "/") -> Any:
    """Any DuckDB client in another process: opens the file read-only, and knows nothing of us."""
    code = (
        "import duckdb, json, sys; c = duckdb.connect(sys.argv[1], read_only=True); "
        "print(json.dumps(c.execute(sys.argv[2]).fetchall(), default=str))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), statement], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


COUNT = "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM latest)"
EVERYTHING = (
    "SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM latest), (SELECT count(*) FROM fleet_health), "
    f"(SELECT count(*) FROM battery_history('{DEVICE}')), (SELECT value_at('{DEVICE}', 'battery.level', fleet_now()))"
)


def test_a_plain_client_reads_the_folder_where_it_is_moved_copied_or_mounted(data: Path, tmp_path: Path) -> None:
    writing = Writing(data)
    with closing(PublishedDatabase(data, DuckdbSettings())) as sink:
        writing.write(READINGS, observation(1))
        sink.publish()
    assert plain_client(data / "fleet.duckdb", COUNT) == [[2, 2]]
    moved = tmp_path / "elsewhere" / "copy"
    shutil.copytree(data, moved)
    shutil.rmtree(data)
    assert plain_client(moved / "fleet.duckdb", EVERYTHING) == [[2, 2, 1, 1, 1.0]]
    assert plain_client("fleet.duckdb", COUNT, moved) == [[2, 2]]
    assert plain_client("../copy/fleet.duckdb", COUNT, moved.parent / "copy") == [[2, 2]]
    assert ask(moved, COUNT) == [(2, 2)]
    assert fleetlake.scan("readings", moved).collect().height == 2

    with duckdb.connect() as connection:  # attached to another database: its place must be said
        connection.execute(f"ATTACH '{moved}/fleet.duckdb' AS fleet (READ_ONLY)")
        connection.execute(f"SET VARIABLE fleetlake_data = '{moved}'")
        assert connection.execute("SELECT count(*) FROM fleet.readings").fetchall() == [(2,)]


def test_nobody_can_lock_others_out_and_a_dead_readers_wal_does_no_harm(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    sink.publish()
    assert (data / "fleet.duckdb").stat().st_mode & 0o777 == 0o444
    (data / "fleet.duckdb.wal").write_bytes(b"of a killed reader")
    writing.write(READINGS, observation(1))
    sink.publish()
    assert not (data / "fleet.duckdb.wal").exists()
    assert plain_client(data / "fleet.duckdb", COUNT) == [[2, 2]]
    assert {path.name for path in data.iterdir()} == {"fleet.duckdb", "lake", "work"}


def test_an_older_connection_of_this_process_hides_nothing(data: Path, sink: PublishedDatabase) -> None:
    writing = Writing(data)
    sink.publish()
    with fleetlake.connect(data) as old:
        writing.write(READINGS, observation(1))
        sink.publish()
        assert number_of(data, "readings") == 2
        assert old.execute("SELECT count(*) FROM readings").fetchall() == [(0,)]


def test_reading_before_anything_is_published_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing has been published"):
        fleetlake.connect(tmp_path)
    with pytest.raises(FileNotFoundError, match="no table 'readings'"):
        fleetlake.scan("readings", tmp_path)


READER = """
import duckdb, sys, time
path, until = sys.argv[1], time.time() + float(sys.argv[2])
opens, seen = 0, (0, 0, 0)
while time.time() < until:
    with duckdb.connect(path, read_only=True) as c:
        now = c.execute("SELECT (SELECT count(*) FROM readings), (SELECT count(*) FROM latest), "
                        "(SELECT rows FROM published WHERE table_name = 'readings')").fetchone()
        recent = c.execute("SELECT count(*) FROM recent_readings").fetchone()[0]
        rolled = c.execute("SELECT 2 * coalesce(sum(count), 0) FROM readings_1h").fetchone()[0]
    assert all(b >= a for a, b in zip(seen, now)), (seen, now)
    assert now[0] == now[2] == recent == rolled, (now, recent, rolled)
    seen, opens = now, opens + 1
print(opens, seen[0])
"""


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
    assert min(opens) > 3 and sum(opens) > 100, opens
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


async def test_one_process_publishes_and_another_takes_over_when_it_ends(data: Path) -> None:
    first = _publisher(data)
    stop, health = asyncio.Event(), Health("duckdb")
    try:
        await eventually((data / "fleet.duckdb").exists)
        second = asyncio.create_task(DuckDBSink(DuckdbSettings(publish_seconds=0.2), data).run(stop, health))
        await asyncio.sleep(0.5)
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
