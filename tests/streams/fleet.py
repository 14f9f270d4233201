"""Stream workers as the product runs them, on a Kafka of their own, and the alarms that they report."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from aiokafka import AIOKafkaProducer
from typer.testing import CliRunner

from fleetlake.cli.main import app
from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from schemas import wire
from schemas.coverage import coverage_key, vendor_subject
from schemas.topics import ALARMS, COVERAGE, raw_topic, topic_specs
from tests.streams.scripted_day import ALLOWANCE, ATTRIBUTES, GROUPS, RULES, VENDOR_ALARM, Sent, Told
from tests.support.kafka import read_all
from tests.support.paths import ROOT
from tests.support.waiting import eventually

RAW = raw_topic("wayscloud")
PARTITIONS = 2
SESSION = 3.0


@dataclass
class Fleet:
    """A Kafka of its own, and stream workers on it as the product runs them."""

    kafka: str
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    told_to: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), -1))
    coverage_to: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), -1))
    """Offset of the last report of coverage, by partition."""
    started: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the product's commands here."""
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": self.kafka,
            "FLEETLAKE_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION),
            "FLEETLAKE_PIPELINE__DATA": str(self.folder / f"data-{self.started}"),
            "FLEETLAKE_PIPELINE__HEALTH_PORT": "0",
            "FLEETLAKE_STREAM__RULES_FILE": str(self.folder / "rules.json"),
            "FLEETLAKE_STREAM__TICK_SECONDS": "0",  # the script has its own
            "FLEETLAKE_STREAM__LATE_ALLOWANCE_SECONDS": str(ALLOWANCE),
            "FLEETLAKE_STREAM__GROUPS": json.dumps(GROUPS),
            "FLEETLAKE_STREAM__ATTRIBUTES": json.dumps(ATTRIBUTES),
        }

    async def rules(self, *arguments: str) -> str:
        """What `fleetlake rules` says."""
        runner = CliRunner()
        done = await asyncio.to_thread(runner.invoke, app, ["rules", *arguments], env=self.environment)
        assert done.exit_code == 0, done.output
        return done.output

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        """One more `fleetlake stream`."""
        self.started += 1
        with (self.folder / f"worker-{self.started}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "fleetlake", "stream"],
                cwd=ROOT,
                env={**self.environment, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.send_signal(signal.SIGCONT)
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    async def stop(self, worker: subprocess.Popen[bytes]) -> None:
        worker.terminate()
        await asyncio.to_thread(worker.wait, 30)
        self.workers.remove(worker)

    def mend(self, wanted: int) -> None:
        """Start what has ended: a worker that was frozen for too long finds itself fenced, and ends."""
        self.workers = [worker for worker in self.workers if worker.poll() is None]
        while len(self.workers) < wanted:
            self.start()


@asynccontextmanager
async def fleet_on(folder: Path) -> AsyncIterator[Fleet]:
    folder.mkdir()
    async with EmbeddedKafka(folder) as broker:
        fleet = Fleet(broker.bootstrap, folder)
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap, partitions=PARTITIONS)
        await declare_topics(settings, topic_specs())
        (folder / "rules.json").write_text(json.dumps(RULES))
        try:
            yield fleet
        finally:
            for worker in list(fleet.workers):
                fleet.kill(worker)


def partition_of(device: str) -> int:
    return crc32(device.encode()) % PARTITIONS


async def write_sent(producer: AIOKafkaProducer, fleet: Fleet, sent: list[Sent]) -> None:
    deliveries = [
        await producer.send(
            RAW,
            each.envelope.data,
            key=each.envelope.key,
            partition=partition_of(each.envelope.device_id),
            headers=each.envelope.headers(),
        )
        for each in sent
    ]
    for each, delivery in zip(sent, deliveries, strict=True):
        written = await delivery
        if each.envelope.type == VENDOR_ALARM:
            continue  # gives no readings
        fleet.told_to[written.partition] = max(written.offset, fleet.told_to[written.partition])


async def write_coverage(producer: AIOKafkaProducer, fleet: Fleet, report: wire.Coverage) -> None:
    subject = vendor_subject(report.vendor)
    key = coverage_key(subject, report.channel, "0").encode()
    written = await producer.send_and_wait(COVERAGE, wire.encode(report), key=key, partition=partition_of(subject))
    fleet.coverage_to[written.partition] = written.offset


async def told(kafka: str) -> list[Told]:
    found = await read_all(kafka, ALARMS, PARTITIONS)
    events = [wire.decode_alarm_event(record.value or b"") for records in found.values() for record in records]
    return sorted(
        Told(
            event.alarm.device_id,
            event.alarm.rule_id,
            event.alarm.alarm_id,
            event.sequence,
            event.event_type,
            event.created_at,
            event.alarm.status,
            event.alarm.occurrence_count,
            event.actor,
            event.alarm.flapping,
        )
        for event in events
    )


LIVE = {
    "FLEETLAKE_STREAM__TICK_SECONDS": "0.3",
    "FLEETLAKE_STREAM__CLOCK_ALLOWANCE_SECONDS": "0.5",
    "FLEETLAKE_STREAM__LATE_ALLOWANCE_SECONDS": "0",
}


async def until_told(fleet: Fleet, device: str, event_type: str, seconds: float = 60) -> Told:
    async def matching() -> list[Told]:
        return [each for each in await told(fleet.kafka) if (each.device, each.event_type) == (device, event_type)]

    return (await eventually(matching, seconds))[0]
