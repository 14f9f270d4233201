"""What the Kafka client alone can do: aiokafka takes the job's input and does nothing, or sends ready-made outputs.

Nothing on this client can be faster. All in this process; CPU seconds are its own.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition

from bench.job import Job, envelopes, observation
from bench.kafka import Kafka, batches, broker, fill, producer, raw_record, send
from bench.part import Bench, progress
from bench.results import Samples
from bench.systems import COMPRESSION
from schemas import wire
from schemas.topics import raw_topic

NAME = "ceiling"
MESSAGES = 300_000
MACHINES = 1_000
PARTITIONS = 2
_INPUT = raw_topic("karcher")
_POLL_RECORDS = 5000  # as the transport polls
_BATCHES_A_TRANSACTION = 8

Ceiling = Callable[[Kafka, Job, str], Awaitable[tuple[float, float]]]
"""Measures once, on an empty topic; wall and CPU seconds."""


async def run(bench: Bench, samples: Samples) -> None:
    """Each ceiling in turn."""
    job = Job(bench.scaled(MESSAGES), MACHINES, int(time.time() * 1000))
    ceilings: dict[str, Ceiling] = {
        "aiokafka consume": _consume,
        "aiokafka produce": _produce,
        "aiokafka produce in transactions": _produce_in_transactions,
    }
    async with broker(bench.folder) as kafka:
        await kafka.declare_pipeline(PARTITIONS)
        await fill(kafka, map(raw_record, envelopes(job)), PARTITIONS)
        for number in range(bench.runs):
            for index, (name, ceiling) in enumerate(ceilings.items()):
                topic = f"ceiling.{number}.{index}"
                await kafka.create(topic, PARTITIONS)
                wall, cpu = await ceiling(kafka, job, topic)
                await kafka.delete([topic])
                rates = {"records_per_second": job.messages / wall, "records_per_cpu_second": job.messages / cpu}
                samples.add(NAME, name, **rates)
                progress(f"{NAME}: {name}: " + ", ".join(f"{m} {value:,.0f}" for m, value in rates.items()))


async def _consume(kafka: Kafka, job: Job, _: str) -> tuple[float, float]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap, isolation_level="read_committed", max_partition_fetch_bytes=1 << 20
    )
    async with consumer:
        consumer.assign([TopicPartition(_INPUT, number) for number in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        wall, cpu, taken = time.monotonic(), time.process_time(), 0
        while taken < job.messages:
            fetched = await consumer.getmany(timeout_ms=1000, max_records=_POLL_RECORDS)
            taken += sum(map(len, fetched.values()))
        return time.monotonic() - wall, time.process_time() - cpu


async def _produce(kafka: Kafka, job: Job, topic: str) -> tuple[float, float]:
    records = _outputs(job, topic)
    async with producer(kafka, compression_type=_codec()) as client:
        wall, cpu = time.monotonic(), time.process_time()
        for delivery in [await send(client, batch) for batch in batches(client, records, PARTITIONS)]:
            await delivery
        return time.monotonic() - wall, time.process_time() - cpu


async def _produce_in_transactions(kafka: Kafka, job: Job, topic: str) -> tuple[float, float]:
    records = _outputs(job, topic)
    async with producer(kafka, compression_type=_codec(), transactional_id=topic) as client:
        wall, cpu = time.monotonic(), time.process_time()
        ready = list(batches(client, records, PARTITIONS))
        for start in range(0, len(ready), _BATCHES_A_TRANSACTION):
            async with client.transaction():
                sent = [await send(client, batch) for batch in ready[start : start + _BATCHES_A_TRANSACTION]]
                for delivery in sent:
                    await delivery
        return time.monotonic() - wall, time.process_time() - cpu


def _outputs(job: Job, topic: str) -> list[tuple[str, bytes, bytes, list[tuple[str, bytes]]]]:
    """What fleetlake would send for the job, encoded beforehand."""
    observations = [observation(job, number, 0) for number in range(job.messages)]
    headers = [("content-type", b"application/json")]
    return [
        (topic, one.device_id.encode(), wire.encode(one), [*headers, ("ce_id", one.id.encode())])
        for one in observations
    ]


def _codec() -> str | None:
    return None if COMPRESSION == "none" else COMPRESSION
