"""Ten readers beside writers: does any of them ever meet an error, or a count that is not true?

`python -m tests.load.readers [MINUTES] [RATE]` (`make lake-readers MINUTES=60`): so many observations a second of
numbered readings go into a real Kafka, some of them at first in a transaction that is aborted. Two Delta sinks and
the DuckDB sink run as processes, with upkeep and publishing many times a minute; files that a merge has replaced are
deleted after two minutes, and so is the log. Ten processes read all that while, each in one of five ways
(`tests.load.reader`). In the end everything has to be there once. Prints a line each minute, then the figures; status 1
if anything was wrong.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from deltalake import DeltaTable

from fleetlake.local.broker import EmbeddedKafka
from runtime.kafka import KafkaSettings, declare_topics
from schemas import wire
from schemas.topics import READINGS, topic_specs
from sinks.delta.log_reader import MARK
from sinks.delta.maintenance.vacuum import clean_log
from tests.load.process import Stage, cpu_seconds, memory_mib
from tests.load.snapshots import METRICS
from tests.support.waiting import passing

KINDS = ("published", "published", "held", "files", "files", "polars", "polars", "polars", "deltalake", "deltalake")
LOOK_SECONDS = 4
RETENTION = "interval 2 minutes"
ABORT_EVERY = 10
PARTITIONS = 4
DEVICES = [f"{vendor}:numbered-{number:02}" for number in range(10) for vendor in ("karcher", "climasense")]
PATIENCE_SECONDS = 120

CONFIG = """
[pipeline]
data = "{folder}/data"
[kafka]
bootstrap_servers = "{bootstrap}"
partitions = 4
[sink.delta]
flush_seconds = 1
maintenance_seconds = 5
compact_files = 6
[sink.duckdb]
publish_seconds = 1
"""


class Numbers:
    """What is produced: each device's own numbers, by turns."""

    def __init__(self) -> None:
        self.last: Counter[str] = Counter()
        self._turn = 0

    def following(self, count: int) -> list[tuple[str, int, bytes]]:
        """Device, partition and record of the next observations."""
        records = []
        for _ in range(count):
            index = self._turn % len(DEVICES)
            self._turn += 1
            self.last[DEVICES[index]] += 1
            records.append((DEVICES[index], index % PARTITIONS, _record(index, self.last[DEVICES[index]])))
        return records

    @property
    def readings(self) -> int:
        """All that were produced."""
        return self.last.total() * len(METRICS)


def _record(index: int, number: int) -> bytes:
    device, now = DEVICES[index], datetime.now(UTC)
    vendor = device.partition(":")[0]
    return wire.encode(
        wire.Observation(
            id=f"{device}/{number}",
            device_id=device,
            vendor=vendor,
            received_at=now,
            origin=wire.Origin(f"telemetry.raw.{vendor}.v1", index % PARTITIONS, number * len(DEVICES) + index),
            readings=[wire.Reading(metric, now, value_number=float(number), unit="s") for metric in METRICS],
        )
    )


async def produce(bootstrap: str, numbers: Numbers, rate: int, seconds: float) -> None:
    """One transaction a second; each tenth is aborted first and then made again."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="lake-readers")
    async with producer:
        started, done = time.monotonic(), 0
        while time.monotonic() - started < seconds:
            records = numbers.following(rate)
            done += 1
            for abort in [True, False] if done % ABORT_EVERY == 0 else [False]:
                await producer.begin_transaction()
                sent = [await producer.send(READINGS, value, key.encode(), p) for key, p, value in records]
                await asyncio.gather(*sent)
                await (producer.abort_transaction() if abort else producer.commit_transaction())
            await asyncio.sleep(max(0.0, started + done - time.monotonic()))


class Reader:
    """A reader as a process."""

    def __init__(self, number: int, kind: str, data: Path) -> None:
        self._out = data.parent / f"reader-{number}-{kind}.jsonl"
        with self._out.open("w") as out, self._out.with_suffix(".log").open("w") as log:
            command = [sys.executable, "-m", "tests.load.reader", kind, str(data), str(LOOK_SECONDS)]
            self.process = subprocess.Popen(command, stdout=out, stderr=log)

    def report(self) -> dict[str, Any]:
        """Its report so far."""
        lines = self._out.read_text().rpartition("\n")[0].splitlines()
        report: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return report

    def stop(self) -> int:
        """Its exit status."""
        self.process.terminate()
        return self.process.wait(60)


@dataclass
class Upkeep:
    """What upkeep did to the table of readings, from its log; and the vacuum, with a short retention."""

    table: DeltaTable
    merges: int = 0
    commits: int = 0
    vacuumed: int = 0
    live: int = 0
    version: int = field(init=False)

    def __post_init__(self) -> None:
        short = {f"delta.{kind}RetentionDuration": RETENTION for kind in ("deletedFile", "log")}
        self.table.alter.set_table_properties(short)
        self.version = self.table.version()

    def run(self) -> None:
        """Note what is new in the log, and delete what is old."""
        self.table.update_incremental()
        for entry in self.table.history(self.table.version() - self.version):
            self.commits += 1
            self.merges += entry.get(MARK) == "merge"
        self.version = self.table.version()
        self.vacuumed += len(self.table.vacuum(None, dry_run=False, full=True))
        clean_log(self.table)
        self.table.update_incremental()
        self.live = len(self.table.file_uris())


class Watch:
    """Looks at everything once a minute, and tells."""

    def __init__(self, broker: EmbeddedKafka, sinks: dict[str, Stage], readers: list[Reader], upkeep: Upkeep) -> None:
        self._sinks = sinks
        self._pids = {name: sink.process.pid for name, sink in sinks.items()}
        self._all = [broker.pid or 0, *self._pids.values(), *(reader.process.pid for reader in readers)]
        self._readers = readers
        self._upkeep = upkeep
        self._before = self._cpu_seconds(), time.monotonic()
        self._memory: dict[str, list[int]] = {name: [] for name in sinks}
        self._cpu: list[float] = []

    def _cpu_seconds(self) -> float:
        return sum(map(cpu_seconds, self._all)) + time.process_time()

    def look(self, numbers: Numbers) -> None:
        """A line. RuntimeError if a sink has ended."""
        for name, sink in self._sinks.items():
            if sink.process.poll() is not None:
                raise RuntimeError(f"sink {name} ended: see {name}.log")
        for name, pid in self._pids.items():
            self._memory[name].append(round(memory_mib(pid)))
        cpu, now = self._cpu_seconds(), time.monotonic()
        self._cpu.append(round((cpu - self._before[0]) / (now - self._before[1]), 2))
        self._before = cpu, now
        reports = [reader.report() for reader in self._readers]
        line = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "produced": numbers.readings,
            "read": [one.get("readings", 0) for one in reports],
            "looks": sum(one.get("looks", 0) for one in reports),
            "wrong": sum(one.get("wrong", 0) for one in reports),
            "errors": sum(one.get("errors", 0) for one in reports),
            "commits": self._upkeep.commits,
            "merges": self._upkeep.merges,
            "vacuumed": self._upkeep.vacuumed,
            "live_files": self._upkeep.live,
            "memory_mib": {name: taken[-1] for name, taken in self._memory.items()},
            "cpu_of_one_core": self._cpu[-1],
        }
        print(json.dumps(line), flush=True)

    def figures(self) -> dict[str, Any]:
        """What was seen in the end."""
        reports = [reader.report() for reader in self._readers]
        return {
            "commits": self._upkeep.commits,
            "merges": self._upkeep.merges,
            "files_vacuumed": self._upkeep.vacuumed,
            **{name: sum(one[name] for one in reports) for name in ("looks", "wrong", "errors")},
            "said": [said for one in reports for said in one["said"]],
            "readers": [{name: one[name] for name in ("kind", "looks", "news", "slowest")} for one in reports],
            "memory_mib_first_last_most": {name: [m[0], m[-1], max(m)] for name, m in self._memory.items()},
            "cpu_of_one_core": statistics.median(self._cpu),
        }


async def read_beside_writing(minutes: float, rate: int, folder: Path) -> dict[str, Any]:
    """The whole of it; the figures."""
    data, config = folder / "data", folder / "fleetlake.toml"
    with ExitStack() as stack:
        broker = EmbeddedKafka(folder / "broker")
        stack.callback(broker.stop)
        await asyncio.to_thread(broker.start)
        await declare_topics(KafkaSettings(bootstrap_servers=broker.bootstrap, partitions=PARTITIONS), topic_specs())
        config.write_text(CONFIG.format(folder=folder, bootstrap=broker.bootstrap))
        sinks = {}
        for name in ("delta-1", "delta-2", "duckdb"):
            sinks[name] = Stage(["sink", name.partition("-")[0]], config, folder / f"{name}.log")
            stack.callback(sinks[name].process.kill)
        numbers = Numbers()
        await produce(broker.bootstrap, numbers, len(DEVICES), 2)
        if not await _until(lambda: _published_readings(data) == numbers.readings):
            raise TimeoutError(f"the first readings are not published after {PATIENCE_SECONDS} s")
        upkeep = Upkeep(DeltaTable(data / "lake" / "readings"))
        readers = {f"reader {number}": Reader(number, kind, data) for number, kind in enumerate(KINDS)}
        for reader in readers.values():
            stack.callback(reader.process.kill)
        watch = Watch(broker, sinks, list(readers.values()), upkeep)
        async with asyncio.TaskGroup() as group:  # so that what fails beside ends it all
            beside = [group.create_task(_each(60, watch.look, numbers)), group.create_task(_each(20, upkeep.run))]
            await produce(broker.bootstrap, numbers, rate, minutes * 60)
            seen = await _until(lambda: all(r.report().get("readings") == numbers.readings for r in readers.values()))
            for task in beside:
                task.cancel()
        watch.look(numbers)
        ended = {name: process.stop() for name, process in {**readers, **sinks}.items()}
        verified = Stage(["lake", "verify"], config, folder / "verify.log")
        recount = await asyncio.to_thread(verified.process.wait)
    return {
        "minutes": minutes,
        "readings": numbers.readings,
        **watch.figures(),
        "all_saw_all_in_the_end": seen,
        "ended_with": {name: status for name, status in ended.items() if status},
        "verify": [recount, (folder / "verify.log").read_text().splitlines()[-1]],
    }


def _published_readings(data: Path) -> int:
    import fleetlake

    if not (data / "fleet.duckdb").exists():
        return 0
    with fleetlake.connect(data) as connection:
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
    return int(row[0]) if row else 0


async def _each(seconds: float, work: Callable[..., None], *given: Any) -> None:
    while True:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(work, *given)


async def _until(done: Callable[[], bool]) -> bool:
    """Whether it comes true while we are patient."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(done):
        if time.monotonic() > deadline:
            return False
        await passing(0.5, "between two looks into the lake, which cost a process")
    return True


def main() -> int:
    """Status 1 if anything was wrong; what there is to look at then stays."""
    numbers = [float(text) for text in sys.argv[1:]] + [5, 40][len(sys.argv) - 1 :]
    folder = Path(tempfile.mkdtemp(prefix="lake-readers-"))
    result = asyncio.run(read_beside_writing(numbers[0], int(numbers[1]), folder))
    print(json.dumps(result, indent=1))
    if (
        result["wrong"]
        or result["errors"]
        or result["ended_with"]
        or result["verify"][0]
        or not result["all_saw_all_in_the_end"]
    ):
        print(f"something was wrong; logs and data: {folder}", file=sys.stderr)
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
