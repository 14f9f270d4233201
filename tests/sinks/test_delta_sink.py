"""The Delta sink on real Kafka and real files: each record's rows once, whatever dies, freezes or is replaced."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from deltalake import DeltaTable

from runtime import topic_watch
from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.topic_ids import topic_ids
from runtime.topic_watch import PartitionsAddedError
from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.sink import DeltaSink
from sinks.delta.tables import TABLES
from sinks.settings import DeltaSettings
from sinks.writer import SinkError, Slice
from tests.support.kafka import MakeTopics
from tests.support.lake import count, rows
from tests.support.records import record_of
from tests.support.samples import alarm_event, dead_letter, device, event_set, observation
from tests.support.sinks import PARTITIONS, Sinks, own_topics, produce, tables_of
from tests.support.waiting import eventually, passing

QUICK = DeltaSettings(flush_seconds=0.2)


def origins(data: Path) -> Counter[tuple[int, int]]:
    return Counter((row["origin_partition"], row["origin_offset"]) for row in rows(data, "readings"))


def numbered(first: int, last: int, partition: int) -> list[bytes | None]:
    return [wire.encode(observation(n, partition)) for n in range(first, last)]


def twice_each(per_partition: int) -> Counter[tuple[int, int]]:
    """Each observation of the tests holds two readings."""
    return Counter({(p, n): 2 for p in range(PARTITIONS) for n in range(per_partition)})


async def run_until(
    kafka: str, topics: dict[str, str], data: Path, done: Callable[[], bool], settings: DeltaSettings = QUICK
) -> None:
    """Run the sink in this process until `done()`, or until it fails."""
    stop = asyncio.Event()
    options = KafkaSettings(bootstrap_servers=kafka, application_id=topics[READINGS], session_timeout_seconds=2)
    task = asyncio.create_task(DeltaSink(settings, options, data, tables_of(topics)).run(stop, Health("delta")))
    try:
        await eventually(lambda: task.done() or done(), 60)
    finally:
        stop.set()
        await asyncio.wait({task})
    await task


async def test_every_kind_of_record_reaches_its_table_once(kafka: str, make_topics: MakeTopics, tmp_path: Path) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 50, 1), 1)
    await produce(kafka, topics[EVENTS], [wire.encode(event_set(n)) for n in range(3)])
    await produce(kafka, topics[ALARMS], [wire.encode(alarm_event(1, "active", "triggered"))])
    await produce(kafka, topics[DEVICES], [wire.encode(device("Robot 5")), None])
    await produce(kafka, topics[DEAD_LETTER], [wire.encode(dead_letter(1)), wire.encode(dead_letter(2, False))])
    want = {"readings": 100, "events": 3, "alarm_events": 1, "devices": 2, "dead_letters": 2}

    def complete() -> bool:
        return {name: count(tmp_path, name) for name in want} == want

    await asyncio.wait_for(run_until(kafka, topics, tmp_path, complete), 30)
    await run_until(kafka, topics, tmp_path, lambda: True)  # a second life finds it all written
    assert complete()
    assert all(number == 2 for number in origins(tmp_path).values())


async def test_what_is_buffered_at_a_clean_stop_is_written(kafka: str, make_topics: MakeTopics, tmp_path: Path) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 200, 0))
    with Sinks(kafka, topics, tmp_path / "data") as sinks:
        process = sinks.start(flush_seconds=3600)
        await eventually(lambda: sinks.fetched(process) == 200)
        assert count(sinks.data, "readings") == 0
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0, sinks.log(process)
        assert count(sinks.data, "readings") == 400


async def test_kills_and_rebalances_lose_and_double_nothing(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    per_partition, rounds = 3000, 30
    step = per_partition // rounds
    with Sinks(kafka, topics, tmp_path / "data", {"flush_seconds": 0.05, "maintenance_seconds": 0.3}) as sinks:
        running = [sinks.start(), sinks.start()]
        chance = random.Random(4)
        for index in range(rounds):
            for partition in range(PARTITIONS):
                first = index * step
                await produce(kafka, topics[READINGS], numbered(first, first + step, partition), partition)
            if index in (8, 15, 22):  # in the middle of writing, as both always are
                await _more_rows(sinks.data)
                victim = running.pop(chance.randrange(2))
                victim.kill()
                running.append(sinks.start())
        want = 2 * PARTITIONS * per_partition
        await eventually(lambda: count(sinks.data, "readings") >= want, 40)
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            assert await asyncio.to_thread(process.wait, 20) == 0, sinks.log(process)
        assert origins(sinks.data) == twice_each(per_partition)
        assert len(DeltaTable(sinks.data / "lake" / "readings").file_uris()) < 100


async def _more_rows(data: Path) -> None:
    before = count(data, "readings")
    await eventually(lambda: count(data, "readings") != before)


async def test_a_zombie_that_wakes_with_a_full_buffer_writes_nothing_twice(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    with Sinks(kafka, topics, tmp_path / "data", {"flush_seconds": 4}) as sinks:
        zombie = sinks.start()
        await produce(kafka, topics[READINGS], numbered(0, 10, 0))
        # its partitions are assigned now, and it writes 4 s after it has read
        await eventually(lambda: count(sinks.data, "readings") == 20)
        for partition in range(PARTITIONS):
            await produce(kafka, topics[READINGS], numbered(10 if partition == 0 else 0, 100, partition), partition)
        await eventually(lambda: sinks.fetched(zombie) == PARTITIONS * 100)
        zombie.send_signal(signal.SIGSTOP)
        assert count(sinks.data, "readings") == 20
        heir = sinks.start(flush_seconds=0.1)
        await eventually(lambda: count(sinks.data, "readings") == 2 * PARTITIONS * 100)
        zombie.send_signal(signal.SIGCONT)
        await eventually(lambda: "re-reading from the stored offsets" in sinks.log(zombie))
        for partition in range(PARTITIONS):
            await produce(kafka, topics[READINGS], numbered(100, 200, partition), partition)
        await eventually(lambda: count(sinks.data, "readings") >= 2 * PARTITIONS * 200)
        for process in (zombie, heir):
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 20) == 0, sinks.log(process)
        assert origins(sinks.data) == twice_each(200)


async def _recreate(kafka: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_topics([topic])

        async def created() -> bool:
            response = await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
            return bool(response.topic_errors[0][1] == 0)

        await eventually(created, what=lambda: "the topic is still being deleted")
    finally:
        await admin.close()


async def test_a_topic_that_was_created_again_stops_the_sink_until_accepted(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 10, 0))
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 20)
    await _recreate(kafka, topics[READINGS])
    await produce(kafka, topics[READINGS], numbered(50, 53, 0))

    with pytest.raises(SinkError, match=r"deleted and created again[^*]*accept_new_topics"):
        await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: False), 20)
    assert count(tmp_path, "readings") == 20

    accepting = QUICK.model_copy(update={"accept_new_topics": True})
    await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 26, accepting), 20)


async def test_a_topic_that_is_created_again_under_a_running_sink_stops_it_before_it_writes(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 10, 0))

    async def recreated() -> None:
        await eventually(lambda: count(tmp_path, "readings") == 20)
        await _recreate(kafka, topics[READINGS])
        await produce(kafka, topics[READINGS], numbered(50, 90, 0))  # more than there were: the old offset exists again

    making = asyncio.create_task(recreated())
    with pytest.raises(SinkError, match=r"was deleted"):
        await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: False), 60)
    await making
    assert count(tmp_path, "readings") == 20
    accepting = QUICK.model_copy(update={"accept_new_topics": True})
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 100, accepting)
    assert count(tmp_path, "readings") == 100


async def test_a_deleted_topic_stops_a_sink_that_has_nothing_to_write(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_watch, "CHECK_SECONDS", 0.5)
    topics = await own_topics(make_topics)

    async def deleted() -> None:
        await eventually(lambda: (tmp_path / "lake" / "readings").exists())
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.delete_topics([topics[EVENTS]])
        await admin.close()

    deleting = asyncio.create_task(deleted())
    with pytest.raises(SinkError, match=r"was deleted while the sink read it: no such topics: telemetry.events"):
        await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: False), 60)
    await deleting


async def test_partitions_that_are_added_end_the_sink_and_are_read_by_the_next(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_watch, "CHECK_SECONDS", 0.5)
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 10, 0))

    async def added() -> None:
        await eventually(lambda: count(tmp_path, "readings") == 20)
        admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        await admin.start()
        await admin.create_partitions({topics[READINGS]: NewPartitions(PARTITIONS + 1)})
        await admin.close()

    adding = asyncio.create_task(added())
    with pytest.raises(PartitionsAddedError, match="has 5 partitions instead of 4"):
        await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: False), 60)
    await adding
    await produce(kafka, topics[READINGS], numbered(0, 5, PARTITIONS), PARTITIONS)
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 30)
    assert count(tmp_path, "readings") == 30


async def test_two_lakes_of_one_application_id_are_both_complete(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    for partition in range(PARTITIONS):
        await produce(kafka, topics[READINGS], numbered(0, 10, partition), partition)
    lakes = [tmp_path / "first", tmp_path / "second"]

    def complete() -> bool:
        return all(count(lake, "readings") >= 2 * 10 * PARTITIONS for lake in lakes)

    await asyncio.wait_for(asyncio.gather(*(run_until(kafka, topics, lake, complete) for lake in lakes)), 90)
    assert [origins(lake) for lake in lakes] == [twice_each(10)] * 2


async def test_a_stored_offset_past_the_logs_end_stops_the_sink(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 10, 0))
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 20)
    tables = tables_of(topics)
    options = KafkaSettings(bootstrap_servers=kafka)
    ahead = LakeWriter(tmp_path, QUICK, await topic_ids(options, [table.topic for table in tables]), tables)
    ahead.open()
    ahead.write(topics[READINGS], [Slice(0, 10, 5000, [record_of(wire.encode(observation(4999)), offset=4999)])])

    with pytest.raises(SinkError, match="but offset 5000 is stored as the next to write"):
        await asyncio.wait_for(run_until(kafka, topics, tmp_path, lambda: False), 20)


async def _expire(kafka: str, topic: str, before: int) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before)})
    finally:
        await admin.close()


async def test_records_that_expired_before_they_were_written_are_logged_and_skipped(
    kafka: str, make_topics: MakeTopics, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], numbered(0, 10, 0))
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 20)
    await produce(kafka, topics[READINGS], numbered(11, 51, 0))  # offset 10 is the marker of the transaction before
    await _expire(kafka, topics[READINGS], 31)
    await run_until(kafka, topics, tmp_path, lambda: count(tmp_path, "readings") == 60)
    assert "up to 21 records expired in Kafka before they were written" in caplog.text
    assert set(origins(tmp_path)) == {(0, n) for n in [*range(10), *range(31, 51)]}


async def test_records_that_expire_under_a_running_sink_are_logged_and_skipped(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    with Sinks(kafka, topics, tmp_path / "data", session_seconds=30) as sinks:
        process = sinks.start()
        await produce(kafka, topics[READINGS], numbered(0, 10, 0))
        await eventually(lambda: count(sinks.data, "readings") == 20)
        process.send_signal(signal.SIGSTOP)
        await passing(0.5, "its fetch that waits at the broker comes back empty")
        await produce(kafka, topics[READINGS], numbered(11, 51, 0))
        await _expire(kafka, topics[READINGS], 31)
        process.send_signal(signal.SIGCONT)
        await eventually(lambda: count(sinks.data, "readings") == 60)
        assert "records expired in Kafka" in sinks.log(process)
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == 0, sinks.log(process)


async def test_poison_goes_to_the_dead_letters_once_and_stops_nothing(
    kafka: str, make_topics: MakeTopics, tmp_path: Path
) -> None:
    topics = await own_topics(make_topics)
    await produce(kafka, topics[READINGS], [*numbered(0, 5, 0), b"not json", b'{"id": 5}', *numbered(5, 10, 0)])
    await produce(kafka, topics[DEAD_LETTER], [b"nor this"])
    await run_until(
        kafka, topics, tmp_path, lambda: (count(tmp_path, "readings"), count(tmp_path, "dead_letters")) == (20, 3)
    )
    letters = {(row["origin_topic"], row["origin_offset"]): row for row in rows(tmp_path, "dead_letters")}
    assert set(letters) == {(topics[READINGS], 5), (topics[READINGS], 6), (topics[DEAD_LETTER], 0)}
    assert letters[topics[READINGS], 5]["payload"] == "not json"


async def test_topics_that_are_not_there_are_named(kafka: str, tmp_path: Path) -> None:
    topics = {table.topic: f"{table.topic}-undeclared" for table in TABLES}
    with pytest.raises(RuntimeError, match=r"readings\.v1-undeclared .*`fleetlake topics` declares them"):
        await run_until(kafka, topics, tmp_path, lambda: False)
