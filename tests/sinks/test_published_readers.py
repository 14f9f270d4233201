"""Readers of `fleet.duckdb`: any client, wherever the folder is, none of which can lock out another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest

import fleetlake
from schemas.topics import READINGS
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing, ask, number_of
from tests.support.records import DEVICE
from tests.support.samples import observation


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


def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "Kühl Lager, #1 100%"
    (folder / "work").mkdir(parents=True)
    with closing(PublishedDatabase(folder, DuckdbSettings())) as sink:
        Writing(folder).write(READINGS, observation(1))
        sink.publish()
    assert ask(folder, COUNT) == [(2, 2)]
    readings = fleetlake.scan("readings", folder)
    assert readings.collect().height == 2
    assert readings.filter(polars.col("vendor") == "nobody").collect().height == 0
    assert fleetlake.scan("readings", folder, version=0).collect().height == 0


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
