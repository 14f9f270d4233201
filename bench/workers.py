"""One stream worker against two on the same flood: all is written at once to four partitions that wait for it."""

from __future__ import annotations

import time
from contextlib import ExitStack

from bench.decoders import fleetlake as decode
from bench.fleet import Meter, Site, consumed, flood, prime
from bench.job import Job, envelopes, verify
from bench.kafka import Kafka, broker, raw_record, read_all
from bench.part import Bench, progress
from bench.results import Samples
from schemas.topics import READINGS, raw_topic

NAME = "workers"
MESSAGES = 200_000
MACHINES = 1_000
PARTITIONS = 4
COUNTS = (1, 2)
_TIMEOUT = 120.0


async def run(bench: Bench, samples: Samples) -> None:
    """One and two workers in turn."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            for count in COUNTS:
                job = Job(bench.scaled(MESSAGES), MACHINES, int(time.time() * 1000) - 3_600_000)
                await kafka.declare_pipeline(PARTITIONS)
                site = Site(kafka, bench.folder / f"{number}-{count}", f"workers-{number}-{count}", PARTITIONS)
                metrics = await _run_once(kafka, site, job, count)
                samples.add(NAME, f"{count} worker{'s' if count > 1 else ''}", **metrics)
                progress(f"{NAME}: {count}: " + ", ".join(f"{m} {value:,.0f}" for m, value in metrics.items()))


async def _run_once(kafka: Kafka, site: Site, job: Job, count: int) -> dict[str, float]:
    with ExitStack() as stack:
        workers = [stack.enter_context(site.stage("stream", name=f"worker-{n}")) for n in range(count)]
        for worker in workers:
            await prime(site, worker)
        primed = await site.consumed(raw_topic("karcher"))
        meter = Meter(workers)
        await flood(site, map(raw_record, envelopes(job)), meter.start)
        await consumed(site, raw_topic("karcher"), primed + job.messages, meter, _TIMEOUT)
        wall, cpu = meter.wall(), meter.cpu()
    outputs = [decode(r.key, r.value or b"") async for r in read_all(kafka.bootstrap, READINGS)]
    verdict = verify(job, [output for output in outputs if output.time_ms < job.start_ms + 3_000_000])
    if not verdict:
        raise RuntimeError(str(verdict))
    return {"records_per_second": job.messages / wall, "records_per_cpu_second": job.messages / cpu}
