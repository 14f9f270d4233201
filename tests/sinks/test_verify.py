"""`verify` names what is wrong, and finds nothing wrong after any number of kills."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest
from deltalake import DeltaTable, write_deltalake

from fleetlake.ops.erase import erase_rows
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.audit import Problem
from sinks.delta.location import LakeLocation
from sinks.delta.verify import verify
from tests.support.kafka import MakeTopics
from tests.support.lake import count
from tests.support.samples import alarm_event, dead_letter, device, event_set, observation
from tests.support.sinks import PARTITIONS, Sinks, own_topics, produce, tables_of
from tests.support.waiting import eventually


async def audited(kafka: str, topics: dict[str, str], data: Path) -> tuple[int, list[Problem]]:
    """Records that were audited, and what is wrong."""
    audits, problems = await verify(
        LakeLocation(str(data / "lake")), KafkaSettings(bootstrap_servers=kafka), tables_of(topics)
    )
    return sum(one.records for one in audits), problems


async def test_every_kind_of_fault_is_named_and_none_where_there_is_none(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    readings = [wire.encode(observation(n)) for n in range(40)]
    await produce(kafka, topics[READINGS], [*readings[:20], b"not json", b'{"origin": 5}'])
    await produce(kafka, topics[READINGS], readings[20:])
    await produce(kafka, topics[EVENTS], [wire.encode(event_set(n)) for n in range(3)])
    await produce(kafka, topics[ALARMS], [wire.encode(alarm_event(n, "active", "triggered")) for n in (1, 2)])
    await produce(kafka, topics[DEVICES], [wire.encode(device("Robot 5")), None])
    await produce(kafka, topics[DEAD_LETTER], [wire.encode(dead_letter(1)), wire.encode(dead_letter(2, False))])
    with Sinks(kafka, topics, tmp_path / "data") as sinks:
        sinks.start()
        want = {"readings": 80, "events": 3, "alarm_events": 2, "devices": 2, "dead_letters": 4}
        await eventually(lambda: {name: count(sinks.data, name) for name in want} == want)
    data = tmp_path / "data"
    assert await audited(kafka, topics, data) == (42 + 3 + 2 + 2 + 2, [])

    readings_table = DeltaTable(data / "lake" / "readings")
    twice = readings_table.to_pyarrow_table(filters=[("origin_offset", "=", 5)])
    readings_table.delete("origin_offset IN (10, 11, 30)")
    write_deltalake(readings_table, twice, mode="append")
    stray = twice.slice(0, 1).set_column(twice.schema.get_field_index("origin_offset"), "origin_offset", [[999_999]])
    write_deltalake(readings_table, stray.cast(twice.schema), mode="append")
    DeltaTable(data / "lake" / "dead_letters").delete("stage = 'sink' AND origin_offset = 20")
    _, problems = await audited(kafka, topics, data)
    named = {(p.kind, p.table, p.first_offset, p.last_offset, p.count) for p in problems}
    assert named == {
        ("hole", "readings", 10, 11, 4),
        ("hole", "readings", 20, 20, 1),  # the record that cannot be read, its dead letter gone
        ("hole", "readings", 33, 33, 2),  # behind two unreadable records and a transaction's marker
        ("double", "readings", 5, 5, 2),
        ("extra", "readings", None, None, 1),
    }
    [file, *_] = DeltaTable(data / "lake" / "events").file_uris()
    Path(file.removeprefix("file://")).write_bytes(b"PAR1")
    files = [Path(uri.removeprefix("file://")) for uri in DeltaTable(data / "lake" / "readings").file_uris()]
    max(files, key=lambda file: file.stat().st_size).write_bytes(b"PAR1")
    _, problems = await audited(kafka, topics, data)
    assert {(p.kind, p.table) for p in problems if p.table in ("events", "readings")} == {
        ("log", "events"),  # named by the last commit: that can be taken back
        ("file", "readings"),
    }


async def test_what_was_erased_or_has_expired_is_not_missed(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    others = [wire.encode(observation(n, device="karcher:other")) for n in range(10)]
    await produce(kafka, topics[READINGS], others, key=b"karcher:other")
    await produce(kafka, topics[READINGS], [wire.encode(observation(n, 1)) for n in range(10)], 1)
    with Sinks(kafka, topics, tmp_path / "data") as sinks:
        sinks.start()
        await eventually(lambda: count(sinks.data, "readings") == 40)
        done = await asyncio.to_thread(erase_rows, LakeLocation(str(tmp_path / "data" / "lake")), "karcher:other")
        assert done.rows["readings"] == 20
        await produce(kafka, topics[READINGS], [wire.encode(observation(n, 1)) for n in range(10, 15)], 1)
        await eventually(lambda: count(sinks.data, "readings") == 30)  # the sink went on over the change of the table
    assert await audited(kafka, topics, tmp_path / "data") == (25, [])
    table = DeltaTable(tmp_path / "data" / "lake" / "readings")
    table.delete("origin_partition = 1")
    location, options = LakeLocation(str(tmp_path / "data" / "lake")), KafkaSettings(bootstrap_servers=kafka)
    _, problems = await verify(location, options, tables_of(topics))
    assert sum(problem.count for problem in problems if problem.kind == "hole") == 30
    _, problems = await verify(location, options, tables_of(topics), {"readings": 1})
    assert sum(problem.count for problem in problems) == 30, "records of today have not expired"


async def _killed(kafka: str, topics: dict[str, str], data: Path, kills: int, seconds: float) -> None:
    """Records flow into every partition, two sinks share the work, one of them is killed again and again."""
    chance = random.Random(kills)
    produced = 0
    options = {"flush_seconds": 0.05, "maintenance_seconds": 0.2, "compact_files": 4, "sync": False}
    with Sinks(kafka, topics, data, options) as sinks:
        running = [sinks.start(), sinks.start()]
        for kill in range(kills):
            until_kill = time.monotonic() + seconds * chance.uniform(0.5, 1.5)
            while time.monotonic() < until_kill:
                numbers = range(produced, produced + 10)
                await asyncio.gather(
                    *(
                        produce(kafka, topics[READINGS], [wire.encode(observation(n, p)) for n in numbers], p)
                        for p in range(PARTITIONS)
                    ),
                    produce(kafka, topics[EVENTS], [wire.encode(event_set(n)) for n in numbers], kill % PARTITIONS),
                )
                produced += 10
            victim = running.pop(chance.randrange(2))
            victim.kill()
            victim.wait()
            running.append(sinks.start())
        await eventually(lambda: count(data, "readings") >= 2 * PARTITIONS * produced, 60)
        await eventually(lambda: count(data, "events") >= produced, 60)
        for process in running:
            process.kill()
            process.wait()
    records, problems = await audited(kafka, topics, data)
    assert problems == []
    assert records == (PARTITIONS + 1) * produced
    assert count(data, "readings") == 2 * PARTITIONS * produced


async def test_nothing_is_missing_or_double_after_a_few_kills(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    await _killed(kafka, await own_topics(make_topics), tmp_path / "data", kills=2, seconds=1.5)


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_nothing_is_missing_or_double_after_fifty_kills(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    await _killed(kafka, await own_topics(make_topics), tmp_path / "data", kills=50, seconds=4)
