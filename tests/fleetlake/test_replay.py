"""`fleetlake replay` on a real Kafka: what it makes anew is what was made before, and `lake diff` says so."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fleetlake.cli.options import parse_time
from fleetlake.errors import UserError
from schemas.topics import raw_topic
from sinks.delta.diff import Scope, diff
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.tables import TABLES, raw_tables
from sinks.settings import DeltaSettings
from sinks.writer import Slice
from tests.fleetlake.raw_records import START, replay
from tests.support.lake import rows


async def test_replayed_tables_are_the_same_and_drop_the_same_repeats(kafka: str, vendor: str, tmp_path: Path) -> None:
    whole, part, other = tmp_path / "whole", tmp_path / "part", tmp_path / "other"
    [all_of_it] = await replay(kafka, whole, tmp_path, 0).run([vendor], print)
    assert (all_of_it.raw, len(rows(whole, "readings")), len(rows(whole, "dead_letters"))) == (13, 10, 1)
    [later] = await replay(kafka, part, tmp_path, 60).run([vendor], print)
    assert later.raw == 8
    assert len(rows(part, "readings")) == 5, "the message from before the hour was sent twice more after it"

    one, two = LakeLocation(str(whole / "lake")), LakeLocation(str(part / "lake"))
    difference = diff(one, two, "readings", Scope())
    assert (difference.missing, difference.extra, difference.differing) == (5, 0, 0)
    assert diff(one, two, "readings", Scope(since=START + timedelta(minutes=60))).alike
    assert diff(one, two, "readings", Scope(common=True)).alike
    assert diff(one, two, "dead_letters", Scope()).alike and diff(one, two, "events", Scope()).alike

    await replay(kafka, other, tmp_path, 60, cv50_coordinate_unit="cm").run([vendor], print)
    difference = diff(two, LakeLocation(str(other / "lake")), "readings", Scope())
    assert (difference.missing, difference.extra, difference.differing) == (0, 0, 5)
    example = next(e for e in difference.examples if json.loads(e["first"])["value_number"] == 9.0)
    assert json.loads(example["second"])["value_number"] == 90.0 and example["what"] == "differs"
    with pytest.raises(UserError, match="exists already"):
        await replay(kafka, part, tmp_path, 60).run([vendor], print)


async def test_what_kafka_has_let_go_comes_from_the_raw_table(kafka: str, vendor: str, tmp_path: Path) -> None:
    live = tmp_path / "live"
    tables = [*TABLES, *raw_tables((vendor,))]
    lake = LakeWriter(live, DeltaSettings(), {table.topic: "1" for table in tables}, tables)
    lake.open()
    topic = raw_topic(vendor)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    for number in (0, 1):
        records = await consumer.getmany(TopicPartition(topic, number), timeout_ms=10_000)
        consumed = records[TopicPartition(topic, number)]
        lake.write(topic, [Slice(number, None, len(consumed), list(consumed))])
    await consumer.stop()
    whole, rebuilt = tmp_path / "whole", tmp_path / "rebuilt"
    await replay(kafka, whole, tmp_path, 0).run([vendor], print)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, n): RecordsToDelete(4) for n in (0, 1)})
    await admin.close()

    [done] = await replay(kafka, rebuilt, live, 0).run([vendor], print)
    assert (done.from_table, done.raw) == (8, 13)
    for table in ("readings", "dead_letters"):
        difference = diff(LakeLocation(str(whole / "lake")), LakeLocation(str(rebuilt / "lake")), table, Scope())
        assert difference.alike and difference.first_rows > 0, difference


def test_times_are_written_as_people_do() -> None:
    assert parse_time("2026-11-21T08:00") == datetime(2026, 11, 21, 8, tzinfo=UTC)
    ago = parse_time("90m")
    assert ago is not None and abs(datetime.now(UTC) - timedelta(minutes=90) - ago) < timedelta(seconds=5)
    assert parse_time(None) is None
    with pytest.raises(UserError, match="is not a time"):
        parse_time("yesterday")
