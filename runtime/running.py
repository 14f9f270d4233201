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
    host: str = "127.0.0.1"
    """Where this machine reaches the health servers; an IPv6 address in brackets."""

    def health_url(self, stage: str) -> str:
        """The base URL of a stage's health server."""
        return f"http://{self.host}:{self.ports[stage]}"


def write_stages(data: Path, vendors: list[str], ports: dict[str, int], host: str = "127.0.0.1") -> None:
    """Note where the stages of this pipeline serve their health."""
    write_atomically(data / _FILE, json.dumps(asdict(RunningStages(vendors, ports, time.time(), host))))


def forget_stages(data: Path) -> None:
    """The pipeline stops: no stage can be asked any more."""
    (data / _FILE).unlink(missing_ok=True)


def noted_stages(data: Path) -> RunningStages | None:
    """The stages that were noted, also by a pipeline that was killed; None where none are, or they cannot be read."""
    try:
        return RunningStages(**json.loads((data / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def read_stages(data: Path) -> RunningStages | None:
    """The stages of the pipeline that runs on the folder; None where none runs, or it has not started them yet."""
    stages = noted_stages(data)
    if stages is None:
        return None
    lock = FileLock(data / ".lock", shared=True, create=False)
    try:
        if lock.try_acquire():
            lock.close()
            return None  # nobody holds the folder: the file is left by a killed pipeline
    except FileNotFoundError:
        return None
    return stages


async def sampled(stages: RunningStages) -> tuple[list[str], list[Sample]]:
    """The stages that are not ready, and the metrics of all that answer."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        answers = await asyncio.gather(*(_ask(session, stages.health_url(stage)) for stage in stages.ports))
    down = [name for name, (ready, _) in zip(stages.ports, answers, strict=True) if not ready]
    return down, [sample for _, samples in answers for sample in samples]


async def _ask(session: aiohttp.ClientSession, base: str) -> tuple[bool, list[Sample]]:
    try:
        async with session.get(f"{base}/readyz") as answer:
            ready = answer.status == 200
        async with session.get(f"{base}/metrics") as answer:
            return ready, parse_samples(await answer.text())
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False, []
