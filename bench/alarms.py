"""What alarm detection costs: readings of 10,000 devices that rarely fire, with no, few and many rules.

The readings are in their topic beforehand; the real worker takes them. `rules-1000` is one rule for each of some
devices and ten for the whole fleet, all on the metric every reading has; `rules-1000-fleet` are a thousand rules that
all concern every message: the worst case.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

from bench.fleet import Meter, Site, consumed, flood, prime
from bench.job import READINGS_A_MESSAGE, Job, device_of, observation
from bench.kafka import Kafka, NewRecord, broker
from bench.part import Bench, progress
from bench.results import Samples
from connectors.common.publishing.partitioner import partition_of
from schemas import wire
from schemas.topics import READINGS

NAME = "alarms"
DEVICES = 10_000
OBSERVATIONS = 60_000
PARTITIONS = 2
_HIGHEST = 40.99  # metres; one message in some 4,000 is above
_TIMEOUT = 300.0


@dataclass(frozen=True)
class Case:
    """So many rules for the fleet and for single devices, on so much of the readings."""

    system: str
    fleet: int
    devices: int
    share: float = 1.0


CASES = (
    Case("rules-0", 0, 0),
    Case("rules-10", 10, 0),
    Case("rules-1000", 10, 990),
    Case("rules-1000-fleet", 1000, 0, 0.1),
)


async def run(bench: Bench, samples: Samples) -> None:
    """Run all cases in turn, repeatedly."""
    async with broker(bench.folder) as kafka:
        for number in range(bench.runs):
            for case in CASES:
                metrics = await _run_once(kafka, bench, case, f"{case.system}-{number}")
                samples.add(NAME, case.system, **metrics)
                progress(f"{NAME}: {case.system}: " + ", ".join(f"{m} {v:,.1f}" for m, v in metrics.items()))


async def _run_once(kafka: Kafka, bench: Bench, case: Case, name: str) -> dict[str, float]:
    await kafka.declare_pipeline(PARTITIONS)
    site = Site(kafka, bench.folder / name, name, PARTITIONS)
    site.folder.mkdir()
    job = Job(bench.scaled(int(OBSERVATIONS * case.share)), DEVICES, int(time.time() * 1000))
    rules = site.folder / "rules.yaml"
    rules.write_text(json.dumps({"rules": _rules(case, job)}))
    extra = f'[stream]\nrules_file = "{rules}"\n' if case.fleet else ""
    with site.stage("stream", extra=extra) as worker:
        await prime(site, worker)
        meter = Meter([worker])
        await flood(site, _records(job), meter.start)
        await consumed(site, READINGS, await kafka.ends(READINGS, PARTITIONS), meter, _TIMEOUT)
        readings = job.messages * READINGS_A_MESSAGE
        return {
            "cpu_us_per_reading": 1e6 * meter.cpu() / readings,
            "readings_per_second": readings / meter.wall(),
        }


def _records(job: Job) -> Iterator[NewRecord]:
    for number in range(job.messages):
        key = device_of(job, number).encode()
        made = observation(job, number, partition_of(key, PARTITIONS))
        yield READINGS, key, wire.encode(made), [("content-type", b"application/json"), ("ce_id", made.id.encode())]


def _rules(case: Case, job: Job) -> list[dict[str, object]]:
    rules = [_rule(f"fleet-{number}", number) for number in range(case.fleet)]
    for number in range(case.devices):
        scope = {"scope_type": "device", "scope_device_id": device_of(job, number)}
        rules.append({**_rule(f"device-{number}", number), **scope})
    return rules


def _rule(name: str, number: int) -> dict[str, object]:
    value = _HIGHEST + number / 1e6
    config = {"metric": "position.x", "operator": "gt", "value": value}
    return {"id": name, "name": name, "rule_type": "threshold", "config": config, "auto_resolve": True}
