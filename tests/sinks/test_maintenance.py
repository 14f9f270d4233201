"""Maintenance of the lake: merged files are sorted and small, rows stay, whoever else is at work."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from unittest import mock

import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from schemas import wire
from schemas.topics import READINGS, raw_topic
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.log_reader import live_files
from sinks.delta.maintenance import merging
from sinks.delta.maintenance.merging import merge_files
from sinks.delta.maintenance.table import maintain
from sinks.delta.maintenance.vacuum import clean_log
from sinks.delta.table_setup import LOG_CLEANUP
from sinks.delta.tables import TABLES, raw_tables
from sinks.settings import DeltaSettings
from sinks.writer import Slice
from tests.support.lake import count, filled, rows
from tests.support.records import record_of
from tests.support.samples import observation

HEADERS = [("ce_id", b"m1"), ("ce_type", b"x")]


def everything(data: Path) -> Counter[str]:
    return Counter(json.dumps(row, default=str, sort_keys=True) for row in rows(data, "readings"))


def test_a_merged_file_is_sorted_as_a_whole_in_parts_of_bounded_size(tmp_path: Path) -> None:
    location = filled(tmp_path)
    before = everything(tmp_path)
    with mock.patch.object(merging, "CHUNK_ROWS", 50):
        assert maintain(location, "readings", DeltaSettings(), vacuum=False).into == 1
    assert everything(tmp_path) == before
    [file] = location.open("readings").file_uris()
    read = pq.ParquetFile(Path(file.removeprefix("file://")))
    keys = [(row["device_id"], row["observed_at"], row["metric"]) for row in read.read().to_pylist()]
    assert keys == sorted(keys)
    assert read.metadata.num_row_groups > 1
    assert all(read.metadata.row_group(i).num_rows <= 80 for i in range(read.metadata.num_row_groups))
    encodings = {read.metadata.row_group(0).column(i).path_in_schema: read.metadata.row_group(0).column(i).encodings
                 for i in range(read.metadata.num_columns)}  # fmt: skip
    assert "DELTA_BINARY_PACKED" in encodings["observed_at"] and "RLE_DICTIONARY" in encodings["device_id"]


def test_statistics_of_a_merged_file_bound_its_values(tmp_path: Path) -> None:
    location = filled(tmp_path)
    maintain(location, "readings", DeltaSettings(), vacuum=False)
    table = location.open("readings")
    [add] = [json.loads(line)["add"] for line in _entry(tmp_path, table.version()) if "add" in json.loads(line)]
    stats = json.loads(add["stats"])
    assert stats["numRecords"] == 280 and not add["dataChange"]
    assert stats["minValues"]["device_id"] == "karcher:0" and stats["maxValues"]["device_id"] == "karcher:6"
    assert stats["nullCount"]["value_json"] == 280 and "value_json" not in stats["minValues"]
    assert stats["minValues"]["observed_at"] <= "2026-11-21 12:00:00.123456"
    assert stats["maxValues"]["observed_at"] == "2026-11-21 12:00:19.124"  # never below .123456
    last = table.to_pyarrow_dataset().to_table(columns=["observed_at"])["observed_at"].to_pylist()
    assert max(last) == datetime(2026, 11, 21, 12, 0, 19, 123456)


def _entry(data: Path, version: int) -> list[bytes]:
    return (data / "lake" / "readings" / "_delta_log" / f"{version:020}.json").read_bytes().splitlines()


def test_two_that_merge_the_same_files_double_nothing(tmp_path: Path) -> None:
    """Deltalake's own compaction doubles every row here: it holds removals without data change against nobody."""
    location = filled(tmp_path)
    before = everything(tmp_path)
    one, other = location.open("readings"), location.open("readings")
    files = tuple(live_files(one))
    assert merge_files(one, location, files, 3)
    assert not merge_files(other, location, files, 3)
    assert everything(tmp_path) == before
    left = list((tmp_path / "lake" / "readings").rglob("merged-*.parquet"))
    assert len(left) == 1, "the loser takes its file away"


def test_a_merge_overtaken_by_a_writer_is_tried_again_on_what_there_is(tmp_path: Path) -> None:
    location = filled(tmp_path)
    table = location.open("readings")
    write = merging._write_sorted

    def overtaken(*arguments: object) -> object:
        written = write(*arguments)  # type: ignore[arg-type]
        write_deltalake(location.uri("readings"), rows_of_another(location), mode="append")
        return written

    with mock.patch.object(merging, "_write_sorted", overtaken):
        assert merge_files(table, location, tuple(live_files(table)), 3)
    assert count(tmp_path, "readings") == 281
    assert len(location.open("readings").file_uris()) == 2


def rows_of_another(location: LakeLocation) -> object:
    return location.open("readings").to_pyarrow_table().slice(0, 1)


def test_a_merge_overtaken_by_a_deletion_does_not_bring_rows_back(tmp_path: Path) -> None:
    location = filled(tmp_path)
    table = location.open("readings")
    files = tuple(live_files(table))
    location.open("readings").delete("device_id = 'karcher:3'")
    assert not merge_files(table, location, files, 3)
    assert count(tmp_path, "readings") == 240


def test_rows_that_are_too_old_expire_without_being_read(tmp_path: Path) -> None:
    location = filled(tmp_path, commits=2, days_ago=10)
    assert maintain(location, "readings", DeltaSettings(expire_days={"readings": 30}), vacuum=False).expired == 0
    assert maintain(location, "readings", DeltaSettings(expire_days={"readings": 5}), vacuum=False).expired == 2
    assert count(tmp_path, "readings") == 0


def test_a_file_without_a_commit_is_deleted_when_it_is_old(tmp_path: Path) -> None:
    import os

    location = filled(tmp_path, commits=1)
    [live] = live_files(location.open("readings"))
    stray = tmp_path / "lake" / "readings" / Path(live.path).parent / "merged-of-a-killed-process.parquet"
    stray.write_bytes(b"PAR1")
    maintain(location, "readings", DeltaSettings(), vacuum=True)
    assert stray.exists(), "somebody may be about to commit it"
    os.utime(stray, (0, 0))
    maintain(location, "readings", DeltaSettings(), vacuum=True)
    assert not stray.exists() and count(tmp_path, "readings") == 14


def test_only_maintenance_deletes_old_log_entries_and_two_at_once_do_no_harm(tmp_path: Path) -> None:
    """Left to deltalake, every commit deletes them, and of two that do so at once one fails."""
    location = filled(tmp_path, commits=1)
    table = location.open("readings")
    table.alter.set_table_properties({"delta.logRetentionDuration": "interval 1 millisecond"})
    log = tmp_path / "lake" / "readings" / "_delta_log"
    row = rows_of_another(location)
    for _ in range(60):
        write_deltalake(table, row, mode="append")
    table.create_checkpoint()
    write_deltalake(table, row, mode="append")
    entries = len(list(log.glob("*.json")))
    assert entries > 60
    table.create_checkpoint()  # so that none of them reads an older one, which another may delete
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: clean_log(location.open("readings")), range(8)))
    maintain(location, "readings", DeltaSettings(), vacuum=True)
    assert len(list(log.glob("*.json"))) < 5
    assert count(tmp_path, "readings") == 14 + 61


def test_a_lake_of_an_older_version_leaves_its_log_to_maintenance(tmp_path: Path) -> None:
    location = filled(tmp_path, commits=1)
    location.open("readings").alter.set_table_properties({LOG_CLEANUP: "true"})
    LakeWriter(tmp_path, DeltaSettings(), {table.topic: "1" for table in TABLES}).open()
    assert location.open("readings").metadata().configuration[LOG_CLEANUP] == "false"


def test_what_is_not_of_the_product_is_merged_too(tmp_path: Path) -> None:
    """A column of a newer version, or one a user added, stays."""
    location = filled(tmp_path, commits=16)
    table = location.open("readings")
    more = table.to_pyarrow_table().slice(0, 3).append_column("site", [["a", "b", None]])
    write_deltalake(table, more, mode="append", schema_mode="merge")
    maintain(location, "readings", DeltaSettings(), vacuum=False)
    merged = rows(tmp_path, "readings")
    assert Counter(row["site"] for row in merged) == {None: 16 * 14 + 1, "a": 1, "b": 1}
    assert len(location.open("readings").file_uris()) == 1


def test_raw_records_are_kept_byte_by_byte(tmp_path: Path) -> None:
    tables = [*TABLES, *raw_tables()]
    lake = LakeWriter(tmp_path, DeltaSettings(), {table.topic: f"id of {table.topic}" for table in tables}, tables)
    lake.open()
    for vendor in ("karcher", "ogmen"):
        topic = raw_topic(vendor)
        record = record_of(b"\x00\xff not text", key=f"{vendor}:1".encode(), topic=topic, offset=4, headers=HEADERS)
        lake.write(topic, [Slice(0, None, 5, [record])])
        assert lake.stored(topic, [0]) == {0: 5}
    raw = {row["vendor"]: row for row in rows(tmp_path, "raw")}
    assert raw["karcher"]["value"] == b"\x00\xff not text"
    assert json.loads(raw["ogmen"]["headers"]) == [["ce_id", "m1"], ["ce_type", "x"]]
    assert (raw["ogmen"]["origin_topic"], raw["ogmen"]["origin_offset"]) == (raw_topic("ogmen"), 4)
    LakeWriter(tmp_path, DeltaSettings(), {table.topic: f"id of {table.topic}" for table in tables}, tables).open()


@pytest.mark.parametrize("sync", [True, False])
def test_a_commit_is_on_the_disk_before_the_next(tmp_path: Path, sync: bool) -> None:
    synced: list[Path] = []
    with (
        mock.patch("sinks.delta.durability.sync_file", synced.append),
        mock.patch("sinks.delta.durability.sync_folder", synced.append),
    ):
        lake = LakeWriter(tmp_path, DeltaSettings(sync=sync), {table.topic: "1" for table in TABLES})
        lake.open()
        made = tmp_path / "lake" / "devices" / "_delta_log"
        assert set(synced) >= {made, made / f"{0:020}.json"} if sync else not synced
        synced.clear()
        lake.write(READINGS, [Slice(0, None, 1, [record_of(wire.encode(observation(1)))])])
    table = DeltaTable(tmp_path / "lake" / "readings")
    [file] = [Path(uri.removeprefix("file://")) for uri in table.file_uris()]
    log = tmp_path / "lake" / "readings" / "_delta_log"
    want = {file, file.parent, log, log / f"{table.version():020}.json"} if sync else set()
    assert set(synced) == want
