"""The job against the peers: a preloaded raw topic of two partitions in, normalised records on another topic out.

One process of each system (and two of fleetlake's beside that), each in its turn, run after run, on one broker. Times
are the broker's: output topics bear LogAppendTime. From the first stamp to the last (fleetlake: until its commit is
seen), counted are the records after the first stamp, so that start-up is nobody's burden and a large first batch
nobody's gain. CPU seconds are taken over the same stretch, of the process and its children.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.job import Job, Output, envelopes, verify
from bench.kafka import APPEND_TIME, Kafka, broker, fill, raw_record, read_all
from bench.part import Bench, progress
from bench.process import Process, until
from bench.results import Samples
from bench.systems import SYSTEMS, Place, System
from schemas.topics import raw_topic

NAME = "normalise"
MESSAGES = 300_000
MACHINES = 1_000
PARTITIONS = 2
INPUT = raw_topic("karcher")
_POLL_SECONDS = 0.05
_START_TIMEOUT = 60.0
_STALL_TIMEOUT = 60.0
_COMMIT_TIMEOUT = 30.0


class WrongResult(RuntimeError):
    """A system's output is not as expected."""


@dataclass(frozen=True)
class Window:
    """Seen from outside: output records and CPU seconds at the first record, and when all were there."""

    first_records: int
    first_cpu: float
    last_cpu: float
    done_ms: float
    """When the last was seen to be there, epoch milliseconds."""


async def run(bench: Bench, samples: Samples) -> None:
    """Measure every system that can be installed."""
    systems = list(_installed(samples))
    job = Job(bench.scaled(MESSAGES), MACHINES, int(time.time() * 1000))
    async with broker(bench.folder) as kafka:
        await kafka.declare_pipeline(PARTITIONS)
        await fill(kafka, map(raw_record, envelopes(job)), PARTITIONS)
        for number in range(bench.runs):
            for system in systems:
                name = f"{system.name}-{number}"
                output = system.output or f"bench.out.{name}"
                place = Place(kafka.bootstrap, name, INPUT, output, PARTITIONS, bench.folder / name)
                await _measure(Run(kafka, system, place, job), samples)


def _installed(samples: Samples) -> Iterator[System]:
    for system in SYSTEMS:
        try:
            system.install()
        except Exception as error:
            samples.failed(NAME, system.name, error)
        else:
            yield system


@dataclass(frozen=True)
class Run:
    """One run of one system: the broker, its place there, and the job."""

    kafka: Kafka
    system: System
    place: Place
    job: Job


async def _measure(run: Run, samples: Samples) -> None:
    """Measure one run. A failure is noted, and the other runs go on."""
    system, name = run.system, run.place.group
    run.place.folder.mkdir()
    try:
        metrics = await _run_once(run)
    except Exception as error:
        samples.failed(NAME, system.name, error)
        progress(f"{NAME}: {name} failed: {error}")
    else:
        samples.add(NAME, system.name, **metrics)
        progress(f"{NAME}: {name} " + ", ".join(f"{metric} {value:,.0f}" for metric, value in metrics.items()))
    finally:
        if system.output is None:
            await run.kafka.delete([run.place.output])
        shutil.rmtree(run.place.folder, ignore_errors=True)


async def _run_once(run: Run) -> dict[str, float]:
    kafka, system, place, job = run.kafka, run.system, run.place, run.job
    if system.output is None:
        await kafka.create(place.output, PARTITIONS, APPEND_TIME)
    else:
        await kafka.declare_pipeline(PARTITIONS, keep=[INPUT])
    start = system.start(place)
    with Process(start.command, place.folder / "log", start.env, start.cwd) as process:
        window = await _watch(run, process)
        if system.commits_to_kafka:
            await _commits(run)
        process.check()
    outputs, stamps = await _outputs(system, place)
    if not (verdict := verify(job, outputs)):
        raise WrongResult(str(verdict))
    return {
        "records_per_second": _rate(stamps, window.done_ms if system.transactional else 0.0),
        "records_per_cpu_second": (job.messages - window.first_records) / (window.last_cpu - window.first_cpu),
        "peak_rss_bytes": process.peak_rss,
    }


async def _watch(run: Run, process: Process) -> Window:
    """Watch the output topic until it is complete, and the process's CPU seconds meanwhile."""
    first: tuple[int, float] | None = None
    before, deadline = 0, time.monotonic() + _START_TIMEOUT
    while True:
        process.check()
        records, cpu = await run.kafka.ends(run.place.output, PARTITIONS), process.sample()
        if records and first is None:
            first = records, cpu
        if first and await _is_complete(run, records):
            return Window(*first, process.sample(), time.time() * 1000)
        if records > before:
            before, deadline = records, time.monotonic() + _STALL_TIMEOUT
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {records} of {run.job.messages} records arrived")
        await asyncio.sleep(_POLL_SECONDS)


async def _is_complete(run: Run, records: int) -> bool:
    """Whether all outputs can be read: fleetlake commits its input offsets with them, others are counted."""
    if records < run.job.messages:
        return False
    return not run.system.transactional or await _committed(run) == run.job.messages


async def _committed(run: Run) -> int:
    return await run.kafka.group_position(run.place.group, run.place.input)


async def _commits(run: Run) -> None:
    async def committed() -> bool:
        return await _committed(run) >= run.job.messages

    await until(committed, _COMMIT_TIMEOUT, "input offsets committed")


async def _outputs(system: System, place: Place) -> tuple[list[Output], list[int]]:
    outputs, stamps = [], []
    async for record in read_all(place.bootstrap, place.output):
        outputs.append(system.decode(record.key, record.value or b""))
        stamps.append(record.timestamp)
    return outputs, stamps


def _rate(stamps: list[int], done_ms: float) -> float:
    """Records per second after the first stamp."""
    first, last = min(stamps), max(max(stamps), done_ms)
    return (len(stamps) - stamps.count(first)) / (last - first) * 1000
