"""The DuckDB sink's working file: the same content whether caught up version by version or rebuilt."""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from deltalake import DeltaTable

from schemas import wire
from schemas.topics import ALARMS, DEVICES, READINGS
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import maintain
from sinks.delta.tables import READINGS_TABLE
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.sql import CREATE, fold
from sinks.settings import DeltaSettings, DuckdbSettings
from tests.support.lake import Writing, ask, number_of
from tests.support.records import DEVICE
from tests.support.samples import NOON, alarm_event, device, observation


@pytest.mark.parametrize("portion", [5, 1_000_000])
def test_catching_up_gives_what_a_rebuild_gives(
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

    def shown() -> dict[str, list[tuple[Any, ...]]]:
        names = ["devices", "latest", "alarms", "recent_readings", "readings", "readings_1m", "readings_1h"]
        return {name: sorted(ask(data, f"FROM {name}"), key=repr) for name in names} | {
            "published": ask(data, "SELECT table_name, delta_version, rows, files FROM published")
        }

    caught_up = shown()
    sink.close()
    shutil.rmtree(data / "work")
    (data / "work").mkdir()
    with closing(PublishedDatabase(data, DuckdbSettings())) as rebuilt:
        rebuilt.publish()
    assert shown() == caught_up
    assert len(caught_up["readings"]) == 26


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
        kept = connection.execute("SELECT count(*), min(received_at) FROM recent_readings").fetchone()
    assert kept == (wanted, datetime(2026, 11, 2, 20, 0, 50))


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
