"""The lake in each kind of object store, on servers on loopback: `make stores-test` fetches and starts them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

import fleetlake
from fleetlake.errors import UserError
from fleetlake.session import Session
from schemas import wire
from schemas.topics import READINGS
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import live_files
from sinks.delta.maintenance.merging import merge_files
from sinks.delta.maintenance.table import maintain
from sinks.delta.tables import TABLES
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DeltaSettings, DuckdbSettings
from sinks.writer import Slice, StaleBatch
from tests.sinks.stores import SERVERS, running
from tests.support.records import DEVICE, record_of
from tests.support.samples import observation

pytestmark = pytest.mark.stores


@pytest.fixture(params=SERVERS)
def store(request: pytest.FixtureRequest, unused_port: Callable[[], int], tmp_path: Path) -> Iterator[DeltaSettings]:
    kind = request.param
    if SERVERS[kind] not in os.environ:
        pytest.skip(f"{SERVERS[kind]} is not set")
    with running(kind, unused_port, tmp_path) as settings:
        yield settings


def lake(settings: DeltaSettings) -> LakeWriter:
    opened = LakeWriter(Path("/nowhere"), settings, {table.topic: "1" for table in TABLES})
    opened.open()
    return opened


def batch(first: int, last: int, stored: int | None, partition: int = 0) -> Slice:
    records = [record_of(wire.encode(observation(n, partition)), offset=n) for n in range(first, last)]
    return Slice(partition, stored, last, list(records))


def _write(settings: DeltaSettings, partition: int, commits: int) -> None:
    writer = lake(settings)
    for number in range(commits):
        while True:
            try:
                writer.write(READINGS, [batch(number * 5, number * 5 + 5, number * 5 or None, partition)])
                break
            except StaleBatch:
                assert writer.stored(READINGS, [partition]) == {partition: number * 5 or None}


def test_writers_in_several_processes_and_a_merger_share_a_bucket(store: DeltaSettings) -> None:
    lake(store)
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write, args=(store, partition, 12)) for partition in range(3)]
    for writer in writers:
        writer.start()
    location = LakeLocation.of(Path("/nowhere"), store)
    eager = store.model_copy(update={"compact_files": 4})
    while any(writer.is_alive() for writer in writers):
        maintain(location, "readings", eager, vacuum=False)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    maintain(location, "readings", eager, vacuum=True)
    table = location.open("readings")
    written = table.to_pyarrow_table(columns=["origin_partition", "origin_offset"]).to_pylist()
    assert len(written) == 3 * 60 * 2
    assert len({(row["origin_partition"], row["origin_offset"]) for row in written}) == 3 * 60
    assert len(live_files(table)) < 10
    assert lake(store).stored(READINGS, [0, 1, 2]) == {0: 60, 1: 60, 2: 60}


def test_fleet_duckdb_is_published_from_a_bucket(store: DeltaSettings, tmp_path: Path) -> None:
    location = LakeLocation.of(tmp_path, store)
    options = store.options()
    writer = lake(store)
    writer.write(READINGS, [batch(0, 5, None)])
    (tmp_path / "work").mkdir()
    with closing(PublishedDatabase(tmp_path, DuckdbSettings(), location)) as sink:
        sink.publish()
        writer.write(READINGS, [batch(5, 10, 5)])
        assert sink.catch_up()
        maintain(location, "readings", store.model_copy(update={"compact_files": 2}), vacuum=False)
        sink.publish()
    with fleetlake.connect(tmp_path, options) as connection:
        assert connection.execute("SELECT count(*) FROM readings WHERE metric = 'battery.level'").fetchone() == (10,)
        assert connection.execute("SELECT count(*) FROM recent_readings").fetchone() == (20,)
        published = connection.execute("SELECT location, rows FROM published WHERE table_name = 'readings'").fetchone()
        assert published == (location.uri("readings"), 20)
        assert connection.execute("FROM battery_history(?)", [DEVICE]).fetchall()
        with pytest.raises(duckdb.Error, match="only the lake can be read by URL"):
            connection.execute(f"FROM read_parquet('{location.root.partition('://')[0]}://other/x.parquet')")
    assert fleetlake.scan("readings", tmp_path, storage_options=options).collect().height == 20
    location.open("readings").delete()
    location.open("readings").vacuum(0, dry_run=False, enforce_retention_duration=False)
    with Session(tmp_path, options) as session, pytest.raises(UserError, match="read by URL"):
        session.ask("SELECT max(value_number) FROM readings")


def test_a_working_file_that_is_far_behind_is_made_anew(store: DeltaSettings, tmp_path: Path) -> None:
    """What it has not seen was merged, and the files that brought it deleted: it reads the snapshot."""
    location = LakeLocation.of(tmp_path, store)
    writer = lake(store)
    writer.write(READINGS, [batch(0, 5, None)])
    (tmp_path / "work").mkdir()
    with closing(PublishedDatabase(tmp_path, DuckdbSettings(), location)) as sink:
        sink.publish()
        writer.write(READINGS, [batch(5, 10, 5)])
        maintain(location, "readings", store.model_copy(update={"compact_files": 2}), vacuum=False)
        location.open("readings").vacuum(0, dry_run=False, enforce_retention_duration=False)
        sink.publish()
    with fleetlake.connect(tmp_path, store.options()) as connection:
        assert connection.execute("SELECT count(*), count(DISTINCT origin_offset) FROM readings").fetchone() == (20, 10)
        assert connection.execute("SELECT count(*) FROM recent_readings").fetchone() == (20,)


def test_a_stale_writer_and_a_late_merger_are_refused(store: DeltaSettings) -> None:
    slow, quick = lake(store), lake(store)
    quick.write(READINGS, [batch(0, 5, None)])
    with pytest.raises(StaleBatch):
        slow.write(READINGS, [batch(0, 3, None)])
    quick.write(READINGS, [batch(5, 10, 5)])
    location = LakeLocation.of(Path("/nowhere"), store)
    one, other = location.open("readings"), location.open("readings")
    files = tuple(live_files(one))
    assert merge_files(one, location, files, 3)
    assert not merge_files(other, location, files, 3)
    assert location.open("readings").count() == 20
