"""Children are restarted when they fail, stopped on request, and do not outlive their supervisor."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetlake.local.liveness import LivenessLimits
from fleetlake.local.supervisor import ChildSpec, Supervisor
from tests.support.waiting import eventually


async def test_a_killed_child_is_started_again_and_then_stopped(tmp_path: Path, unused_port: Callable[[], int]) -> None:
    supervisor = Supervisor(tmp_path)
    child = supervisor.start(ChildSpec("simulate", ["simulate", "karcher"], unused_port()))
    assert await supervisor.wait_until(lambda: child.up, 60), (tmp_path / "simulate.log").read_text()
    first = child.pid
    assert first is not None
    child.read([("fleetlake_things_total", {"stage": "x"}, 5.0), ("fleetlake_lag", {}, 3.0)])
    os.kill(first, signal.SIGKILL)
    assert await supervisor.wait_until(lambda: child.up and child.pid not in (None, first), 60)
    assert child.restarts == 1
    assert ("fleetlake_things_total", {"stage": "x"}, 5.0) in child.samples, "counters go on"
    assert not [name for name, _, _ in child.samples if name == "fleetlake_lag"]
    assert await child.stop() == 0
    assert child.pid is None


async def test_a_child_that_could_not_be_started_is_tried_until_it_can(
    tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    logs = tmp_path / "logs"
    logs.write_text("a file where the folder should be")
    supervisor = Supervisor(logs)
    child = supervisor.start(ChildSpec("simulate", ["simulate", "karcher"], unused_port()))
    await eventually(lambda: child.restarts >= 2)
    assert child.pid is None
    logs.unlink()
    assert await supervisor.wait_until(lambda: child.up, 60)
    shutil.rmtree(logs)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await eventually(lambda: not child.up or child.pid is None)
    assert await supervisor.wait_until(lambda: child.up, 60), "the folder is made again"
    assert await child.stop() == 0


async def test_a_frozen_child_is_killed_and_started_again(
    tmp_path: Path, unused_port: Callable[[], int], caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = Supervisor(tmp_path, LivenessLimits(interval_seconds=0.2, timeout_seconds=1, failures=3))
    child = supervisor.start(ChildSpec("simulate", ["simulate", "karcher"], unused_port()))
    assert await supervisor.wait_until(lambda: child.up, 60)
    frozen = child.pid
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    assert await supervisor.wait_until(lambda: child.up and child.pid not in (None, frozen), 60)
    assert not _alive(frozen)
    assert child.restarts == 1
    assert "simulate is not live (/livez does not answer within 1 s): killing it" in caplog.text
    assert await child.stop() == 0


async def test_children_end_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "supervise.py"
    script.write_text(
        "import asyncio\n"
        "from pathlib import Path\n"
        "from fleetlake.local.supervisor import ChildSpec, Supervisor\n"
        "async def main():\n"
        f"    supervisor = Supervisor(Path({str(tmp_path)!r}))\n"
        "    child = supervisor.start(ChildSpec('simulate', ['simulate', 'karcher']))\n"
        f"    log = Path({str(tmp_path)!r}) / 'simulate.log'\n"
        "    while child.pid is None or 'simulating' not in log.read_text():\n"
        "        await asyncio.sleep(0.1)\n"
        "    print(child.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(sys.executable, str(script), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await eventually(lambda: not _alive(pid))


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
