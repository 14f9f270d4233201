"""What the sink tests share: records of every kind, topics of their own, sink processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable

from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.tables import TABLES, Table
from tests.conftest import MakeTopics

ROOT = Path(__file__).parents[2]
NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)
DEVICE = "karcher:1.454-500.0/002005"
PARTITIONS = 4


def tables_of(topics: dict[str, str]) -> tuple[Table, ...]:
    """The product's tables, fed by a test's own topics."""
    return tuple(replace(table, topic=topics[table.topic]) for table in TABLES)


async def own_topics(make_topics: MakeTopics, partitions: int = PARTITIONS) -> dict[str, str]:
    names = [READINGS, EVENTS, ALARMS, DEVICES, DEAD_LETTER]
    return dict(zip(names, await make_topics(names, partitions=partitions), strict=True))


@dataclass(frozen=True)
class Record:
    """A Kafka record without Kafka."""

    value: bytes | None
    key: bytes | None = DEVICE.encode()
    topic: str = READINGS
    partition: int = 0
    offset: int = 0
    timestamp: int = 1795262400000


def origin(offset: int = 0, partition: int = 0) -> wire.Origin:
    return wire.Origin("telemetry.raw.karcher.v1", partition, offset)


def observation(
    number: int,
    partition: int = 0,
    device: str = DEVICE,
    at: datetime = NOON,
    received: datetime | None = None,
    readings: list[wire.Reading] | None = None,
) -> wire.Observation:
    """Two readings, numbered."""
    return wire.Observation(
        id=f"m{partition}-{number}",
        device_id=device,
        vendor=device.partition(":")[0],
        received_at=received or at,
        origin=origin(number, partition),
        readings=readings
        or [
            wire.Reading(metric="battery.level", observed_at=at, value_number=float(number % 100), unit="%"),
            wire.Reading(metric="device.state", observed_at=at, value_text="idle"),
        ],
    )


def event_set(number: int) -> wire.EventSet:
    return wire.EventSet(
        id=f"e{number}",
        device_id=DEVICE,
        vendor="karcher",
        received_at=NOON,
        origin=origin(number),
        events=[
            wire.Event(
                event_id=str(uuid.UUID(int=number)), type="cleaning_report", occurred_at=NOON, data='{"area": 12}'
            )
        ],
    )


def alarm_event(sequence: int, status: str, event_type: str, alarm: int = 1) -> wire.AlarmEvent:
    moment = NOON + timedelta(minutes=sequence)
    return wire.AlarmEvent(
        event_id=str(uuid.UUID(int=alarm * 1000 + sequence)),
        sequence=sequence,
        event_type=event_type,
        actor="rule_engine",
        created_at=moment,
        metadata={"value": 12.5},
        origin=origin(sequence),
        alarm=wire.Alarm(
            alarm_id=str(uuid.UUID(int=alarm)),
            device_id=DEVICE,
            vendor="karcher",
            rule_id="low-battery",
            rule_name="Low battery",
            severity="major",
            title="Low battery",
            message="battery.level below 15 %",
            status=status,
            metric="battery.level",
            triggered_at=NOON,
            last_triggered_at=moment,
            resolved_at=moment if status == "resolved" else None,
            occurrence_count=sequence,
        ),
    )


def device(name: str, registered: bool = True) -> wire.Device:
    return wire.Device(
        device_id=DEVICE,
        vendor="karcher",
        updated_at=NOON,
        registered=registered,
        name=name,
        attributes={"site": "Winnenden"},
    )


def dead_letter(number: int, with_origin: bool = True) -> wire.DeadLetter:
    return wire.DeadLetter(
        id=f"d{number}",
        stage="normalise",
        received_at=NOON,
        problems=[wire.Problem("data.location", "wrong_type", "expected object")],
        payload='{"data": 1}',
        payload_bytes=11,
        payload_sha256="0" * 64,
        vendor="karcher",
        origin=origin(number) if with_origin else None,
    )


async def produce(
    kafka: str, topic: str, values: Sequence[bytes | None], partition: int = 0, key: bytes | None = None
) -> None:
    """One transaction, so that transaction markers lie between the batches."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=uuid.uuid4().hex, linger_ms=5) as producer:
        async with producer.transaction():
            sends = [await producer.send(topic, value, key or DEVICE.encode(), partition) for value in values]
        await asyncio.gather(*sends)


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DeltaTable(data / "lake" / table).to_pyarrow_table().to_pylist()
    return found


def count(data: Path, table: str) -> int:
    try:
        return int(DeltaTable(data / "lake" / table).count())
    except Exception:
        return 0


async def until(done: Callable[[], bool], seconds: float = 30, every: float = 0.1) -> None:
    """Wait for it; AssertionError when it takes too long."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "took too long"
        await asyncio.sleep(every)


@dataclass
class Sinks:
    """Delta sink processes on the same topics, data folder and group. All are killed at the end."""

    kafka: str
    topics: dict[str, str]
    data: Path
    delta: dict[str, Any] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    session_seconds: float = 2
    group: str = field(default_factory=lambda: uuid.uuid4().hex)

    def start(self, **delta: Any) -> subprocess.Popen[bytes]:
        job = {
            "kafka": {
                "bootstrap_servers": self.kafka,
                "application_id": self.group,
                "session_timeout_seconds": self.session_seconds,
            },
            "delta": {"flush_seconds": 0.3} | self.delta | delta,
            "data": str(self.data),
            "topics": self.topics,
        }
        log = (self.data.parent / f"sink-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sinks.worker", json.dumps(job)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            env=os.environ,
        )
        self.processes.append(process)
        return process

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.data.parent / f"sink-{self.processes.index(process)}.log").read_text()

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
