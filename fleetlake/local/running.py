"""The stages of the pipeline that runs on a data folder, as another process finds and asks them."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from runtime.files import write_atomically
from runtime.locks import FileLock
from runtime.metrics import Sample, parse_samples

_FILE = "running.json"


@dataclass(frozen=True)
class RunningStages:
    """The vendors, the port of each stage's health server, and when the pipeline started (seconds since the epoch)."""

    vendors: list[str]
    ports: dict[str, int]
    started_at: float


def write_stages(data: Path, vendors: list[str], ports: dict[str, int]) -> None:
    """Note where the stages of this pipeline serve their health."""
    write_atomically(data / _FILE, json.dumps(asdict(RunningStages(vendors, ports, time.time()))))


def forget_stages(data: Path) -> None:
    """The pipeline stops: no stage can be asked any more."""
    (data / _FILE).unlink(missing_ok=True)


def read_stages(data: Path) -> RunningStages | None:
    """The stages of the pipeline that runs on the folder; None where none runs, or it has not started them yet."""
    try:
        stages = RunningStages(**json.loads((data / _FILE).read_text(encoding="utf-8")))
        lock = FileLock(data / ".lock", shared=True, create=False)
        if lock.try_acquire():
            lock.close()
            return None  # nobody holds the folder: the file is left by a killed pipeline
        return stages
    except FileNotFoundError:
        return None


async def sampled(stages: RunningStages) -> tuple[list[str], list[Sample]]:
    """The stages that are not ready, and the metrics of all that answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        answers = await asyncio.gather(*(_ask(session, port) for port in stages.ports.values()))
    down = [name for name, (ready, _) in zip(stages.ports, answers, strict=True) if not ready]
    return down, [sample for _, samples in answers for sample in samples]


async def _ask(session: aiohttp.ClientSession, port: int) -> tuple[bool, list[Sample]]:
    try:
        async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
            ready = answer.status == 200
        async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return ready, parse_samples(await answer.text())
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False, []
