"""The writer of the lake, without Kafka: what a process does that dies, or is late, at the worst moment."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pytest
from deltalake import DeltaTable, Field
from deltalake.schema import PrimitiveType

from schemas import wire
from schemas.topics import READINGS
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.table import Maintained, maintain
from sinks.delta.tables import TABLES
from sinks.settings import DeltaSettings
from sinks.writer import Slice, StaleBatch
from tests.support.lake import count, rows
from tests.support.records import DEVICE, record_of
from tests.support.samples import observation


def origins(data: Path) -> Counter[tuple[int, int]]:
    return Counter((row["origin_partition"], row["origin_offset"]) for row in rows(data, "readings"))


def lake(data: Path) -> LakeWriter:
    opened = LakeWriter(data, DeltaSettings(), {table.topic: "1" for table in TABLES})
    opened.open()
    return opened


def batch(first: int, last: int, stored: int | None, unreadable: int | None = None) -> Slice:
    records = [
        record_of(b"?" if n == unreadable else wire.encode(observation(n)), offset=n, topic=READINGS)
        for n in range(first, last)
    ]
    return Slice(0, stored, last, list(records))


def test_a_death_between_dead_letters_and_rows_doubles_neither(tmp_path: Path) -> None:
    dying = lake(tmp_path)
    with (
        mock.patch.object(LakeWriter, "_commit", _die_at_readings(LakeWriter._commit)),
        pytest.raises(KeyboardInterrupt),
    ):
        dying.write(READINGS, [batch(0, 10, None, unreadable=3)])
    assert (count(tmp_path, "dead_letters"), count(tmp_path, "readings")) == (1, 0)

    heir = lake(tmp_path)
    assert heir.stored(READINGS, [0]) == {0: None}
    heir.write(READINGS, [batch(0, 12, None, unreadable=3)])
    assert (count(tmp_path, "dead_letters"), count(tmp_path, "readings")) == (1, 22)


def _die_at_readings(commit: object) -> object:
    def die(self: LakeWriter, table: object, *arguments: object) -> None:
        if table.name == "readings":  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        commit(self, table, *arguments)  # type: ignore[operator]

    return die


def test_a_writer_whose_offsets_were_written_by_another_is_refused(tmp_path: Path) -> None:
    slow, quick = lake(tmp_path), lake(tmp_path)
    quick.write(READINGS, [batch(0, 10, None)])
    with pytest.raises(StaleBatch, match="stands at 10, expected None"):
        slow.write(READINGS, [batch(0, 5, None)])
    assert count(tmp_path, "readings") == 20


def test_a_writer_overtaken_between_its_check_and_its_commit_is_refused(tmp_path: Path) -> None:
    slow, quick = lake(tmp_path), lake(tmp_path)
    convert = LakeWriter._commit

    def overtaken(self: LakeWriter, *arguments: object) -> None:
        if self is slow:
            quick.write(READINGS, [batch(0, 10, None)])
        convert(self, *arguments)  # type: ignore[arg-type]

    with mock.patch.object(LakeWriter, "_commit", overtaken), pytest.raises(StaleBatch, match="refused"):
        slow.write(READINGS, [batch(0, 5, None)])
    assert count(tmp_path, "readings") == 20


def test_partitions_of_one_topic_are_written_side_by_side(tmp_path: Path) -> None:
    one, other = lake(tmp_path), lake(tmp_path)
    for partition, writer in enumerate([one, other]):
        one_slice = batch(0, 10, None)
        one_slice.partition = partition
        writer.write(READINGS, [one_slice])
    assert one.stored(READINGS, [0, 1, 2]) == {0: 10, 1: 10, 2: None}


def test_records_that_make_no_rows_move_the_offset_all_the_same(tmp_path: Path) -> None:
    writer = lake(tmp_path)
    writer.write(READINGS, [Slice(0, None, 1, [record_of(b"?", offset=0)])])
    assert writer.stored(READINGS, [0]) == {0: 1}


def test_a_new_column_needs_no_rewriting_and_an_older_sink_goes_on(tmp_path: Path) -> None:
    older = lake(tmp_path)
    older.write(READINGS, [batch(0, 5, None)])
    DeltaTable(tmp_path / "lake" / "readings").alter.add_columns([Field("site", PrimitiveType("string"))])
    older.write(READINGS, [batch(5, 10, 5)])
    assert {row["site"] for row in rows(tmp_path, "readings")} == {None}
    assert count(tmp_path, "readings") == 20


def test_a_table_without_a_column_that_we_know_gets_it(tmp_path: Path) -> None:
    table = next(table for table in TABLES if table.name == "readings")
    without = pa.schema([field for field in table.schema if field.name != "time_quality"])
    DeltaTable.create(
        tmp_path / "lake" / "readings",
        without,
        partition_by=list(table.partition_by),
        configuration={"fleetlake.topic_id": "1"},
        raise_if_key_not_exists=False,
    )
    writer = lake(tmp_path)
    writer.write(READINGS, [batch(0, 5, None)])
    assert {row["time_quality"] for row in rows(tmp_path, "readings")} == {"ok"}


def test_merging_keeps_every_row_and_every_offset_and_deletes_only_what_is_old(tmp_path: Path) -> None:
    writer = lake(tmp_path)
    for n in range(20):
        writer.write(READINGS, [batch(n, n + 1, n or None)])
    before = origins(tmp_path)
    path = tmp_path / "lake" / "readings"
    files = set(DeltaTable(path).file_uris())
    assert maintain(LakeLocation(str(tmp_path / "lake")), "readings", DeltaSettings(), vacuum=True) == Maintained(20, 1)
    assert len(DeltaTable(path).file_uris()) == 1
    assert origins(tmp_path) == before
    assert all(Path(file).exists() for file in files), "a reader may still have them open"
    assert writer.stored(READINGS, [0]) == {0: 20}
    writer.write(READINGS, [batch(20, 21, 20)])
    assert sum(origins(tmp_path).values()) == 42


def test_the_lake_says_whose_device_it_was(tmp_path: Path) -> None:
    writer = lake(tmp_path)
    writer.write(READINGS, [batch(0, 1, None)])
    [file] = DeltaTable(tmp_path / "lake" / "readings").file_uris()
    assert "vendor=karcher" in file and "received_date=2026-11-21" in file
    assert {row["device_id"] for row in rows(tmp_path, "readings")} == {DEVICE}
