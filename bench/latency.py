"""How long a message takes from the connector's write to the raw topic until a consumer has the committed reading.

1,000 messages per second of one vendor, four partitions, one worker. The time ends when a `read_committed` consumer of
the readings has it. It begins before the message is handed to the producer (`p50_ms`, `p99_ms`), or when the raw topic
has it for sure, which is when Kafka has acknowledged it (`from_raw_p50_ms`, `from_raw_p99_ms`).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.fleet import Site, feed, prime
from bench.job import Job
from bench.kafka import broker
from bench.part import Bench, progress
from bench.results import OURS, Samples
from schemas import wire
from schemas.topics import READINGS

NAME = "latency"
RATE = 1000
SECONDS = 20
DEVICES = 1000
PARTITIONS = 4
_LATE_SECONDS = 10.0


class Listener:
    """Takes the readings as a downstream team would, and notes how old each observation is."""

    def __init__(self, bootstrap: str) -> None:
        self.ages_ms: list[float] = []
        self.ids: Counter[str] = Counter()
        self.seen_at: dict[str, float] = {}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap, isolation_level="read_committed", fetch_max_wait_ms=500
        )

    async def start(self) -> None:
        """Begin at the topic's end."""
        await self._consumer.start()
        self._consumer.assign([TopicPartition(READINGS, number) for number in range(PARTITIONS)])
        await self._consumer.seek_to_end()

    async def listen(self) -> None:
        """Until cancelled."""
        while True:
            fetched = await self._consumer.getmany(timeout_ms=1000)
            now = time.time()
            for records in fetched.values():
                for record in records:
                    observation = wire.decode_observation(record.value or b"")
                    self.ids[observation.id] += 1
                    self.seen_at[observation.id] = now
                    self.ages_ms.append(1000 * (now - observation.received_at.timestamp()))

    async def stop(self) -> None:
        """Leave."""
        await self._consumer.stop()


async def run(bench: Bench, samples: Samples) -> None:
    """Runs one after the other, one broker, topics made anew for each."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            await kafka.declare_pipeline(PARTITIONS)
            site = Site(kafka, bench.folder / str(number), f"latency-{number}", PARTITIONS)
            metrics = await _run_once(site, bench.seconds(SECONDS))
            samples.add(NAME, OURS, **metrics)
            progress(f"{NAME}: " + ", ".join(f"{metric} {value:.1f}" for metric, value in metrics.items()))


async def _run_once(site: Site, seconds: float) -> dict[str, float]:
    with site.stage("stream") as worker:
        await prime(site, worker)
        listener = Listener(site.kafka.bootstrap)
        await listener.start()
        listening = asyncio.create_task(listener.listen())
        stored_at: dict[str, float] = {}
        try:
            before, started = worker.sample(), time.monotonic()
            job = Job(1 << 30, DEVICES, 0)
            sent = await feed(site, job, RATE, seconds, lambda name: stored_at.update({name: time.time()}))
            share = (worker.sample() - before) / (time.monotonic() - started)
            await _arrived(listener, sent)
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await listener.stop()
        worker.check()
    if len(listener.ids) != sent or max(listener.ids.values()) > 1:
        raise RuntimeError(
            f"{sent} messages gave {len(listener.ids)} observations, {sum(listener.ids.values())} records"
        )
    from_raw = percentiles([1000 * (listener.seen_at[name] - at) for name, at in stored_at.items()])
    return {
        **percentiles(listener.ages_ms),
        **{f"from_raw_{name}": value for name, value in from_raw.items()},
        "cpu_cores": share,
    }


async def _arrived(listener: Listener, sent: int) -> None:
    deadline = time.monotonic() + _LATE_SECONDS
    while len(listener.ids) < sent and time.monotonic() < deadline:
        await asyncio.sleep(0.05)


def percentiles(milliseconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile."""
    hundredths = statistics.quantiles(milliseconds, n=100)
    return {"p50_ms": hundredths[49], "p99_ms": hundredths[98]}
