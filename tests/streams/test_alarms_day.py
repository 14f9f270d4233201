"""A scripted day on real Kafka: alarms and timelines equal the truth, undisturbed, under kills, and replayed."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid5

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from fleetlake.ops.replay.rebuild import Replay
from runtime.health import Health
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.derived_ids import NAMESPACE
from schemas.envelope import Envelope
from schemas.timestamps import from_micros, to_micros
from schemas.topics import ALARM_ACTIONS, ALARMS, COVERAGE, INHIBITORS, WATERMARKS
from schemas.vendors import vendor_names
from sinks.delta.diff import Scope, diff
from sinks.delta.location import LakeLocation
from sinks.delta.sink import DeltaSink
from sinks.settings import DeltaSettings
from streams.settings import StreamSettings
from tests.streams.fleet import (
    LIVE,
    PARTITIONS,
    RAW,
    SESSION,
    Fleet,
    fleet_on,
    partition_of,
    told,
    until_told,
    write_coverage,
    write_sent,
)
from tests.streams.scripted_day import ALLOWANCE, ATTRIBUTES, GROUPS, Act, Day, Sent, Told, chunks, day_before
from tests.support.kafka import read_all
from tests.support.lake import count
from tests.support.waiting import eventually, passing


async def write_acts(producer: AIOKafkaProducer, acts: list[Act]) -> None:
    for act in acts:
        name = str(uuid5(NAMESPACE, f"{act.alarm_id} {act.at} {act.action}"))
        action = wire.AlarmAction(name, act.alarm_id, act.device, act.action, "ops@example.com", act.at)
        await producer.send(
            ALARM_ACTIONS,
            wire.encode(action),
            key=act.device.encode(),
            partition=partition_of(act.device),
            timestamp_ms=to_micros(act.at) // 1000,
        )
    await producer.flush()


async def write_covered(producer: AIOKafkaProducer, fleet: Fleet, day: Day, clock: datetime) -> wire.Coverage:
    report = day.covered(clock)
    await write_coverage(producer, fleet, report)
    return report


async def write_ticks(producer: AIOKafkaProducer, fleet: Fleet, day: Day, clock: datetime) -> None:
    """Say that all received before `clock` is in the raw topic; every message of the script gives readings."""
    report = await write_covered(producer, fleet, day, clock)
    for partition, offset in fleet.told_to.items():
        for vendor in vendor_names():  # the others have sent nothing
            ours = vendor == "wayscloud"
            at = min(clock, from_micros(report.reported_until)) if ours else clock
            tick = wire.Watermark(vendor, at, offset if ours else -1, -1, clock, fleet.coverage_to[partition])
            await producer.send_and_wait(WATERMARKS, wire.encode(tick), partition=partition)


async def until_all_is_told(kafka: str, producer: AIOKafkaProducer, fleet: Fleet, day: Day, seconds: float) -> None:
    """Repeat the last tick, as a running pipeline does, until as much is told as is true; then look once more."""
    deadline = asyncio.get_running_loop().time() + seconds
    tps = [TopicPartition(ALARMS, number) for number in range(PARTITIONS)]
    count = 0
    async with AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed") as consumer:
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        wanted = len(fleet.workers)
        while count < len(day.truth) and asyncio.get_running_loop().time() < deadline:
            fleet.mend(wanted)  # on a busy machine one may find itself fenced
            await write_ticks(producer, fleet, day, day.end)
            fetched = await consumer.getmany(timeout_ms=500)
            count += sum(map(len, fetched.values()))
    await write_ticks(producer, fleet, day, day.end + timedelta(seconds=1))
    await passing(1, "time in which too much might be emitted")


async def play(fleet: Fleet, day: Day, disturb: Callable[[int], Any], pause: float, seconds: float) -> list[Told]:
    async with AIOKafkaProducer(bootstrap_servers=fleet.kafka, acks="all", linger_ms=5) as producer:
        for hour, (end, sent, acts) in enumerate(chunks(day)):
            await write_acts(producer, acts)  # they wait for their time
            await write_covered(producer, fleet, day, end)  # a real connector reports every second
            await write_sent(producer, fleet, sent)
            await write_ticks(producer, fleet, day, end)
            await disturb(hour)
            await asyncio.sleep(pause)
        fleet.mend(2)
        await until_all_is_told(fleet.kafka, producer, fleet, day, seconds)
    return await told(fleet.kafka)


def assert_equal(found: list[Told], day: Day) -> None:
    truth = sorted(day.truth)
    assert [each for each in truth if each not in found] == [], "true, but not told"
    assert [each for each in found if each not in truth] == [], "told, but not true"
    assert found == truth, "told twice"


async def copied(old: Fleet, new: Fleet) -> None:
    """The raw topic, operators' actions, what inhibited others and who listened, as they were written."""
    async with AIOKafkaProducer(bootstrap_servers=new.kafka, acks="all", linger_ms=5) as producer:
        for topic in (ALARM_ACTIONS, INHIBITORS, COVERAGE, RAW):
            for records in (await read_all(old.kafka, topic, PARTITIONS)).values():
                for record in records:
                    await producer.send(
                        topic,
                        record.value,
                        key=record.key,
                        partition=record.partition,
                        timestamp_ms=record.timestamp,
                        headers=list(record.headers),
                    )
        await producer.flush()
    new.told_to = old.told_to


async def replayed(old: Fleet, new: Fleet, day: Day, seconds: float) -> list[Told]:
    await copied(old, new)
    new.start()
    async with AIOKafkaProducer(bootstrap_servers=new.kafka) as producer:
        await until_all_is_told(new.kafka, producer, new, day, seconds)
    return await told(new.kafka)


class Chaos:
    """Kills, freezes and rebalances, spread over the hours of the day by a seed."""

    def __init__(self, fleet: Fleet, plan: dict[int, list[str]], seed: int) -> None:
        self.fleet = fleet
        self.plan = plan
        self.random = random.Random(seed)
        self.done: list[str] = []

    async def __call__(self, hour: int) -> None:
        for what in self.plan.get(hour, []):
            self.fleet.mend(2)
            await asyncio.sleep(self.random.uniform(0.1, 1.5))
            worker = self.random.choice(self.fleet.workers)
            if what == "kill":
                self.fleet.kill(worker)
                self.fleet.start()
            elif what == "freeze":
                worker.send_signal(signal.SIGSTOP)
                await passing(SESSION + 2, "longer than the group waits for it")
                worker.send_signal(signal.SIGCONT)
            else:
                self.fleet.start()
                await passing(3, "it takes its share, and works")
                await self.fleet.stop(worker)
            self.done.append(what)


async def test_a_small_day_with_kills_equals_the_truth(tmp_path: Path) -> None:
    day = day_before(datetime.now(UTC), devices=24)
    async with fleet_on(tmp_path / "day") as fleet:
        fleet.mend(2)
        await passing(3, "so that both are at work when the first is killed")
        chaos = Chaos(fleet, {8: ["kill"], 16: ["kill"]}, seed=1)
        found = await play(fleet, day, chaos, pause=0.05, seconds=40)
        assert chaos.done == ["kill", "kill"]
        assert_equal(found, day)
        await made_anew(fleet)
        await lives_on(fleet, day)


async def made_anew(fleet: Fleet) -> None:
    """`fleetlake replay` makes the alarms of the lake anew as they are in it; and says what it would take for that."""
    kafka = KafkaSettings(bootstrap_servers=fleet.kafka)
    live, rebuilt = fleet.folder / "live", fleet.folder / "rebuilt"
    stop = asyncio.Event()
    sink = asyncio.create_task(DeltaSink(DeltaSettings(flush_seconds=0.3), kafka, live).run(stop, Health("delta")))
    wanted = len(await told(fleet.kafka))
    await eventually(lambda: sink.done() or count(live, "alarm_events") >= wanted, 60)
    stop.set()
    await sink
    location = LakeLocation(str(live / "lake"))
    settings = StreamSettings.model_validate(
        {"late_allowance_seconds": ALLOWANCE, "groups": GROUPS, "attributes": ATTRIBUTES}
    )
    since = datetime.now(UTC) - timedelta(days=3)
    said: list[str] = []
    await Replay(kafka, settings, location, rebuilt, since).run(["wayscloud"], said.append)
    again = LakeLocation(str(rebuilt / "lake"))
    for table in ("alarm_events", "readings", "devices"):
        found = diff(location, again, table, Scope())
        assert found.alike, found
    assert f"alarms: {wanted} timeline entries" in said
    admin = AIOKafkaAdminClient(bootstrap_servers=fleet.kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(RAW, 0): RecordsToDelete(5)})
    await admin.close()
    await Replay(kafka, settings, location, fleet.folder / "part", since).run(["wayscloud"], said.append)
    assert [line for line in said if "alarms are not made anew: raw records of wayscloud before offset 5" in line]
    assert not (fleet.folder / "part" / "lake" / "alarm_events").exists()


SILENT = {
    "id": "silent",
    "name": "Silent",
    "rule_type": "offline",
    "scope_type": "device",
    "scope_device_id": "sensor-live",
    "config": {"duration_seconds": 1},
}


async def listen(fleet: Fleet, day: Day, since: datetime) -> None:
    """Report that the connector listens from now on, until cancelled."""
    async with AIOKafkaProducer(bootstrap_servers=fleet.kafka, acks="all") as producer:
        while True:
            report = day.covered(day.end)
            report.spans = [*report.spans[:-1], (report.spans[-1][0], report.reported_until), (to_micros(since), None)]
            report.reported_until = to_micros(datetime.now(UTC))
            await write_coverage(producer, fleet, report)
            await passing(0.3, "the interval of the reports")


async def lives_on(fleet: Fleet, day: Day) -> None:
    """By the clock, now: a worker's own ticks tell of silence, and rules change while it runs."""
    for worker in list(fleet.workers):
        await fleet.stop(worker)
    fleet.start(**LIVE)
    (fleet.folder / "silent.json").write_text(json.dumps([SILENT]))
    applied = await fleet.rules("apply", str(fleet.folder / "silent.json"))
    assert "silent" in applied and "added" in applied
    assert "unchanged" in await fleet.rules("apply", str(fleet.folder / "silent.json"))
    async with AIOKafkaProducer(bootstrap_servers=fleet.kafka, acks="all") as producer:
        now, device = datetime.now(UTC), "wayscloud:sensor-live"
        listening = asyncio.create_task(listen(fleet, day, now))
        topic = {"mqtttopic": "devices/sensor-live/sensors/temperature"}
        sent = Sent(now, Envelope("live", "wayscloud.publish", "wayscloud/mqtt", device, now, b"21", attributes=topic))
        await write_sent(producer, fleet, [sent])
    try:
        triggered = await until_told(fleet, device, "triggered")
        assert triggered.at == now + timedelta(seconds=1)
        await fleet.rules("disable", "silent")
        resolved = await until_told(fleet, device, "resolved")
    finally:
        listening.cancel()
    assert (resolved.alarm_id, resolved.actor) == (triggered.alarm_id, "rule_engine")
    listed = await fleet.rules("list")
    assert "device wayscloud:sensor-live" in listed and "Too hot" not in listed and "cli" in listed


@pytest.mark.alarms_day
@pytest.mark.timeout(1500)
async def test_a_day_of_200_devices_with_kills_freezes_and_rebalances_and_again_from_the_raw_topics(
    tmp_path: Path,
) -> None:
    day = day_before(datetime.now(UTC), devices=200)
    plan = {hour: ["kill"] for hour in range(2, 22)}
    for hour in (4, 8, 12, 16, 20):
        plan[hour] = ["kill", "freeze"]
    for hour in (3, 7, 11, 15, 19):
        plan[hour] = ["kill", "rebalance"]
    async with fleet_on(tmp_path / "day") as fleet:
        fleet.mend(2)
        chaos = Chaos(fleet, plan, seed=7)
        found = await play(fleet, day, chaos, pause=0.5, seconds=300)
        assert [chaos.done.count(what) for what in ("kill", "freeze", "rebalance")] == [20, 5, 5]
        assert_equal(found, day)
        async with fleet_on(tmp_path / "replay") as other:
            assert_equal(await replayed(fleet, other, day, 300), day)
