"""fleetlake's own stages as processes, and feeding them: what all parts but the first share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.job import Job, live_envelope
from bench.kafka import Kafka, NewRecord, batches, fill, producer, raw_record, send
from bench.process import Process, until
from bench.systems import Place, fleetlake_start
from connectors.common.publisher import Publisher
from runtime.kafka import KafkaSettings
from schemas.topics import READINGS, raw_topic

_READY_TIMEOUT = 60.0
_TICK_SECONDS = 0.002


@dataclass(frozen=True)
class Site:
    """One pipeline: a broker, a data folder, an application id, a number of partitions."""

    kafka: Kafka
    folder: Path
    application: str
    partitions: int

    def stage(self, *arguments: str, extra: str = "", name: str = "") -> Process:
        """`fleetlake ARGUMENTS` as a process, with `extra` lines of configuration. To be entered."""
        folder = self.folder / (name or "-".join(arguments))
        folder.mkdir(parents=True, exist_ok=True)
        place = Place(self.kafka.bootstrap, self.application, "", "", self.partitions, folder)
        start = fleetlake_start(place, *arguments, extra=extra, data=self.data)
        return Process(start.command, folder / "log", start.env, start.cwd)

    @property
    def data(self) -> Path:
        """The data folder all its stages share."""
        return self.folder / "data"

    async def consumed(self, topic: str) -> int:
        """How many offsets of a topic the stream workers have committed."""
        return await self.kafka.group_position(self.application, topic)


@dataclass
class Meter:
    """Wall and CPU seconds of some processes since `start`."""

    processes: Sequence[Process]
    _cpu: float = 0.0
    _wall: float = 0.0

    def start(self) -> None:
        """Begin."""
        self._cpu, self._wall = self._cpu_now(), time.monotonic()

    def wall(self) -> float:
        """Seconds since."""
        return time.monotonic() - self._wall

    def cpu(self) -> float:
        """CPU seconds since, of all processes."""
        return self._cpu_now() - self._cpu

    def check(self) -> None:
        """Raise ProcessEnded unless all run."""
        for process in self.processes:
            process.check()

    def _cpu_now(self) -> float:
        return sum(process.sample() for process in self.processes)


async def consumed(site: Site, topic: str, due: int, meter: Meter, seconds: float) -> None:
    """Wait until the stream workers have committed `due` offsets of the topic."""

    async def done() -> bool:
        meter.check()
        return await site.consumed(topic) >= due

    await until(done, seconds, f"{due} offsets of {topic} committed")


async def prime(site: Site, process: Process) -> None:
    """Send one message of each of many devices, and wait until the stream workers have normalised them all."""
    before = await site.kafka.ends(raw_topic("karcher"), site.partitions)
    job = Job(16 * site.partitions, 16 * site.partitions, 0)
    now = time.time_ns() // 1000
    await fill(site.kafka, (raw_record(live_envelope(job, n, now)) for n in range(job.messages)), site.partitions)

    async def done() -> bool:
        process.check()
        return await site.consumed(raw_topic("karcher")) >= before + job.messages

    await until(done, _READY_TIMEOUT, "stream worker ready")
    await detected(site, process)


async def detected(site: Site, process: Process) -> None:
    """Wait until alarm detection has no reading left to take, where it takes any."""
    await asyncio.sleep(0.5)
    for _ in range(200):
        process.check()
        position = await site.consumed(READINGS)
        if not position or position >= await site.kafka.ends(READINGS, site.partitions) - 2 * site.partitions:
            return
        await asyncio.sleep(0.1)


async def flood(site: Site, records: Iterable[NewRecord], begins: Callable[[], None]) -> None:
    """Write records as fast as the broker takes them: encoded before `begins` is called, sent after it."""
    async with producer(site.kafka) as client:
        ready = list(batches(client, records, site.partitions))
        begins()
        for delivery in [await send(client, batch) for batch in ready]:
            await delivery


async def feed(
    site: Site, job: Job, rate: float, seconds: float, stored: Callable[[str], None] = lambda envelope_id: None
) -> int:
    """Write live messages to the raw topic at an even rate, by the connectors' own publisher; returns how many.

    Returns when the broker has all of them; `stored` is called with each when it has it.
    """
    sent, last = 0, None
    async with Publisher(KafkaSettings(bootstrap_servers=site.kafka.bootstrap)) as publisher:
        while publisher.problem:
            await asyncio.sleep(0.01)
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for number in range(sent, int(elapsed * rate) + 1):
                envelope = live_envelope(job, number, time.time_ns() // 1000)
                last = await publisher.publish_soon(envelope)
                last.add_done_callback(partial(_tell, stored, envelope.id))
                sent = number + 1
            await asyncio.sleep(_TICK_SECONDS)
        if last is not None:
            await last  # the context waits for the others
    return sent


def _tell(stored: Callable[[str], None], envelope_id: str, _: asyncio.Future[None]) -> None:
    stored(envelope_id)
