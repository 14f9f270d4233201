"""What the transport tests need: worker processes, producing, reading everything back, a group's lag."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

ROOT = Path(__file__).parents[2]

Pair = tuple[bytes, bytes | None]


@dataclass
class Workers:
    """Worker processes of one application; all are killed at the end of the test."""

    kafka: str
    folder: Path
    step: str
    inputs: str
    out: str
    state: str = "none"
    env: dict[str, str] = field(default_factory=dict)
    application: str = field(default_factory=lambda: f"app-{uuid.uuid4().hex[:8]}")
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start one more worker. Its log is `worker-<n>.log`."""
        number = len(self.started)
        settings = {"SESSION": "3", "DATADIR": str(self.folder / f"faust-{number}"), **self.env, **env}
        arguments = [self.kafka, self.application, self.step, self.inputs, self.out, self.state]
        with (self.folder / f"worker-{number}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.streams.worker", *arguments],
                cwd=ROOT,
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(worker)
        return worker

    def log(self, number: int = -1) -> str:
        """What a worker printed."""
        number %= len(self.started)
        return (self.folder / f"worker-{number}.log").read_text()

    async def exit_code(self, worker: subprocess.Popen[bytes], seconds: float = 30) -> int:
        """Wait for a worker to end."""
        return await asyncio.to_thread(worker.wait, seconds)

    async def stop(self, worker: subprocess.Popen[bytes]) -> int:
        """Stop a worker as its supervisor would, and return its exit code."""
        while worker.poll() is None and not _listens_to(worker.pid, signal.SIGTERM):  # it may have just begun
            await asyncio.sleep(0.05)
        worker.send_signal(signal.SIGTERM)
        return await self.exit_code(worker)

    def kill_all(self) -> None:
        """Leave nothing behind."""
        for worker in self.started:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


def _listens_to(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (Linux; true elsewhere)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@asynccontextmanager
async def producer(kafka: str, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_request_size=16 << 20, **options) as started:
        yield started


async def produce(client: AIOKafkaProducer, topic: str, partition: int, pairs: Iterable[Pair]) -> int:
    """Write the pairs in order, in as few requests as they need, and wait for the broker's acknowledgement."""
    sent, batch = 0, client.create_batch()

    async def send() -> None:
        batch.close()
        await (await client.send_batch(batch, topic, partition=partition))

    for key, value in pairs:
        if batch.append(key=key, value=value, timestamp=None) is None:
            await send()
            batch = client.create_batch()
            batch.append(key=key, value=value, timestamp=None)
        sent += 1
    if batch.record_count():
        await send()
    return sent


async def read_all(kafka: str, topic: str, partitions: int) -> dict[int, list[ConsumerRecord[bytes, bytes]]]:
    """Every committed record of a topic, by partition, up to the log's end (the high watermark) as it is now."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=kafka) as plain:
        ends = await plain.end_offsets(tps)
    found: dict[int, list[ConsumerRecord[bytes, bytes]]] = {tp.partition: [] for tp in tps}
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed", fetch_max_wait_ms=50)
    async with consumer:
        consumer.assign(tps)
        await consumer.seek_to_beginning()
        async with asyncio.timeout(60):
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for tp, records in (await consumer.getmany(timeout_ms=100, max_records=5000)).items():
                    found[tp.partition] += records
    return found


async def committed(kafka: str, group: str) -> dict[tuple[str, int], int]:
    """The committed offsets of a group."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:  # a new broker has no offsets topic before the first group
        return {}
    finally:
        await admin.close()
    return {(tp.topic, tp.partition): at.offset for tp, at in offsets.items()}


async def lag(kafka: str, group: str, topic: str, partitions: int) -> int:
    """How many offsets of the topic the group has not committed."""
    tps = [TopicPartition(topic, number) for number in range(partitions)]
    done = await committed(kafka, group)
    async with AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed") as consumer:
        ends = await consumer.end_offsets(tps)
    return sum(ends[tp] - max(0, done.get((topic, tp.partition), 0)) for tp in tps)


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: Callable[[], str] = str) -> None:
    """Wait until the condition holds; fail with `what()` after so many seconds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline, f"still not so after {seconds} s: {what()}"
        await asyncio.sleep(0.2)


async def until_processed(workers: Workers, topic: str, partitions: int, seconds: float = 60) -> None:
    """Wait until the group has committed the whole topic. A worker that ends by itself meanwhile fails the test."""

    async def done() -> bool:
        assert any(w.poll() is None for w in workers.started), workers.log()
        return await lag(workers.kafka, workers.application, topic, partitions) == 0

    await until(done, seconds, workers.log)


def numbers(records: Sequence[ConsumerRecord[bytes, bytes]]) -> list[list[int]]:
    """Values `1:2:3` as lists of integers."""
    return [[int(part) for part in (record.value or b"").split(b":")] for record in records]
