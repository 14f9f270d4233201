"""Stream workers as processes of their own, which a test starts, kills and stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.kafka import lag
from tests.support.paths import ROOT
from tests.support.waiting import eventually


@dataclass
class Workers:
    """Worker processes of one application; all are killed at the end of the test."""

    kafka: str
    folder: Path
    step: str
    inputs: str
    out: str
    state: str = "none"
    env: dict[str, str] = field(default_factory=dict)
    application: str = field(default_factory=lambda: f"app-{uuid.uuid4().hex[:8]}")
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start one more worker. Its log is `worker-<n>.log`."""
        number = len(self.started)
        settings = {"SESSION": "3", "DATADIR": str(self.folder / f"faust-{number}"), **self.env, **env}
        arguments = [self.kafka, self.application, self.step, self.inputs, self.out, self.state]
        with (self.folder / f"worker-{number}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.streams.worker", *arguments],
                cwd=ROOT,
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(worker)
        return worker

    def log(self, number: int = -1) -> str:
        """What a worker printed."""
        number %= len(self.started)
        return (self.folder / f"worker-{number}.log").read_text()

    async def exit_code(self, worker: subprocess.Popen[bytes], seconds: float = 30) -> int:
        """Wait for a worker to end."""
        return await asyncio.to_thread(worker.wait, seconds)

    async def stop(self, worker: subprocess.Popen[bytes]) -> int:
        """Stop a worker as its supervisor would, and return its exit code."""
        await eventually(lambda: worker.poll() is not None or _listens_to(worker.pid, signal.SIGTERM))  # once it can
        worker.send_signal(signal.SIGTERM)
        return await self.exit_code(worker)

    def kill_all(self) -> None:
        """Leave nothing behind."""
        for worker in self.started:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()


def _listens_to(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (Linux; true elsewhere)."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return True
    caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


async def until_processed(workers: Workers, topic: str, partitions: int, seconds: float = 60) -> None:
    """Wait until the group has committed the whole topic. A worker that ends by itself meanwhile fails the test."""

    async def done() -> bool:
        assert any(w.poll() is None for w in workers.started), workers.log()
        return await lag(workers.kafka, workers.application, topic, partitions) == 0

    await eventually(done, seconds, workers.log)
