"""What a reading costs the stream worker as the fleet grows at the same total rate, and as the rate grows.

One alarm rule is in force that concerns every message and fires seldom, so that each device has a state. CPU seconds of
the worker over the readings it made; memory after every device has been heard.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.fleet import Meter, Site, consumed, detected, feed, prime
from bench.job import READINGS_A_MESSAGE, Job
from bench.kafka import Kafka, broker
from bench.part import Bench, progress
from bench.results import Samples
from schemas.topics import raw_topic

NAME = "growth"
PARTITIONS = 2
SECONDS = 8.0
_TIMEOUT = 120.0
RULES = """\
rules:
  - id: far-out
    name: Far out
    rule_type: threshold
    config: { metric: position.x, operator: gt, value: 40.99 }
"""


@dataclass(frozen=True)
class Point:
    """A number of devices, and the messages per second of all of them together."""

    system: str
    devices: int
    rate: int


POINTS = (
    *(Point(f"{devices} devices, 1000/s", devices, 1000) for devices in (100, 1_000, 10_000)),
    *(Point(f"1000 devices, {rate}/s", 1_000, rate) for rate in (500, 2_000, 4_000, 8_000)),
)


async def run(bench: Bench, samples: Samples) -> None:
    """Run all points in turn, repeatedly."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            for index, point in enumerate(POINTS):
                metrics = await _run_once(kafka, bench, point, f"growth-{number}-{index}")
                samples.add(NAME, point.system, **metrics)
                progress(f"{NAME}: {point.system}: " + ", ".join(f"{m} {v:,.1f}" for m, v in metrics.items()))


async def _run_once(kafka: Kafka, bench: Bench, point: Point, name: str) -> dict[str, float]:
    await kafka.declare_pipeline(PARTITIONS)
    site = Site(kafka, bench.folder / name, name, PARTITIONS)
    site.folder.mkdir()
    rules = site.folder / "rules.yaml"
    rules.write_text(RULES)
    with site.stage("stream", extra=f'[stream]\nrules_file = "{rules}"\n') as worker:
        await prime(site, worker)
        job = Job(1 << 30, point.devices, 0)
        await feed(site, job, point.rate, point.devices / point.rate)  # every device once
        await detected(site, worker)
        meter = Meter([worker])
        meter.start()
        sent = await feed(site, job, point.rate, bench.seconds(SECONDS))
        await consumed(site, raw_topic("karcher"), await kafka.ends(raw_topic("karcher"), PARTITIONS), meter, _TIMEOUT)
        await detected(site, worker)
        readings = sent * READINGS_A_MESSAGE
        return {
            "cpu_us_per_reading": 1e6 * meter.cpu() / readings,
            "readings_per_second": readings / meter.wall(),
            "rss_bytes": worker.rss(),
        }
