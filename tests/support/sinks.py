"""Delta sinks as processes of their own, with topics of their own."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.delta.tables import TABLES, Table
from tests.support.kafka import MakeTopics
from tests.support.paths import ROOT
from tests.support.records import DEVICE

PARTITIONS = 4


def tables_of(topics: dict[str, str]) -> tuple[Table, ...]:
    """The product's tables, fed by a test's own topics."""
    return tuple(replace(table, topic=topics[table.topic]) for table in TABLES)


async def own_topics(make_topics: MakeTopics, partitions: int = PARTITIONS) -> dict[str, str]:
    names = [READINGS, EVENTS, ALARMS, DEVICES, DEAD_LETTER]
    return dict(zip(names, await make_topics(names, partitions=partitions), strict=True))


async def produce(
    kafka: str, topic: str, values: Sequence[bytes | None], partition: int = 0, key: bytes | None = None
) -> None:
    """One transaction, so that transaction markers lie between the batches."""
    async with AIOKafkaProducer(bootstrap_servers=kafka, transactional_id=uuid.uuid4().hex, linger_ms=5) as producer:
        async with producer.transaction():
            sends = [await producer.send(topic, value, key or DEVICE.encode(), partition) for value in values]
        await asyncio.gather(*sends)


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

    def fetched(self, process: subprocess.Popen[bytes]) -> int:
        """Records that a process has read from Kafka."""
        return sum(map(int, re.findall(r": (\d+) records of .* fetched", self.log(process))))

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
