"""A power cut between a commit and its sync: damage is named and moved aside, and the rows are written again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from deltalake import DeltaTable

from schemas.topics import READINGS
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.log_repair import DamagedLog, damaged_files, repair
from sinks.delta.maintenance.vacuum import clean_log
from sinks.delta.tables import TABLES
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DeltaSettings, DuckdbSettings
from tests.support.lake import Writing, ask, rows
from tests.support.samples import observation

Damage = Callable[[Path], None]


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeros(file: Path) -> None:
    file.write_bytes(b"\0" * file.stat().st_size)


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Readings 0 to 3 in four commits, followed by `fleet.duckdb`."""
    (tmp_path / "work").mkdir()
    writing = Writing(tmp_path)
    for number in range(4):
        writing.write(READINGS, observation(number))
    publish(tmp_path)
    return tmp_path


def publish(data: Path) -> None:
    with closing(PublishedDatabase(data, DuckdbSettings())) as sink:
        sink.publish()


def entry(data: Path) -> Path:
    table = DeltaTable(data / "lake" / "readings")
    return data / "lake" / "readings" / "_delta_log" / f"{table.version():020}.json"


def newest_file(data: Path) -> Path:
    return max((data / "lake" / "readings").rglob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)


def opened(data: Path) -> LakeWriter:
    lake = LakeWriter(data, DeltaSettings(), {table.topic: "1" for table in TABLES})
    lake.open()
    return lake


def written_again(data: Path, stored: int) -> None:
    """As the sink does: from the offset that is stored."""
    assert opened(data).stored(READINGS, [0]) == {0: stored}
    writing = Writing(data)
    writing.next[READINGS] = stored
    for number in range(stored, 4):
        writing.write(READINGS, observation(number))
    publish(data)
    offsets = [row["origin_offset"] for row in rows(data, "readings")]
    assert sorted(offsets) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert ask(data, "SELECT count(*), count(DISTINCT origin_offset) FROM readings") == [(8, 4)]
    assert ask(data, "SELECT count(*), count(DISTINCT origin_offset) FROM recent_readings") == [(8, 4)]


@pytest.mark.parametrize("damage", [zeros, half])
def test_a_damaged_entry_stops_the_sink_with_advice_and_is_moved_aside(data: Path, damage: Damage) -> None:
    file = entry(data)
    damage(file)
    with pytest.raises(DamagedLog, match=f"{file.name}: the entry is damaged.*lake verify --repair"):
        opened(data)
    assert [one.file for one in repair(data / "lake" / "readings")] == [file]
    assert not damaged_files(data / "lake" / "readings")
    written_again(data, 3)


@pytest.mark.parametrize("damage", [zeros, half, empty, Path.unlink])
def test_an_entry_whose_data_file_is_damaged_goes_too(data: Path, damage: Damage) -> None:
    damage(newest_file(data))
    assert len(repair(data / "lake" / "readings")) == 1
    written_again(data, 3)


def test_several_damaged_entries_go_newest_first(data: Path) -> None:
    file = entry(data)
    half(file)
    zeros(file.with_name(f"{int(file.stem) - 1:020}.json"))
    assert len(repair(data / "lake" / "readings")) == 2
    written_again(data, 2)


def test_an_empty_entry_needs_no_repair(data: Path) -> None:
    empty(entry(data))
    assert [one.why for one in damaged_files(data / "lake" / "readings")] == ["the entry is empty"]
    written_again(data, 3)


def test_a_damaged_checkpoint_is_removed_if_the_log_reaches_back(data: Path) -> None:
    table = data / "lake" / "readings"
    clean_log(DeltaTable(table))
    half(next((table / "_delta_log").glob("*.checkpoint.parquet")))
    with pytest.raises(DamagedLog, match=r"checkpoint\.parquet: is not readable as Parquet"):
        LakeLocation(str(data / "lake")).open("readings")
    assert len(repair(table)) == 2, "the checkpoint, and the hint to it"
    written_again(data, 4)


def test_what_cannot_be_repaired_is_left_alone(data: Path) -> None:
    table = data / "lake" / "readings"
    file = entry(data)
    zeros(file.with_name(f"{int(file.stem) - 1:020}.json"))
    with pytest.raises(DamagedLog, match="later ones are intact: restore the folder"):
        repair(table)
    assert not list((table / "_delta_log").glob("*.torn"))
