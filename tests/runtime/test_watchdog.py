"""A stage that stands still ends its process; one that was only frozen goes on. Real processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.waiting import eventually_blocking, passing_blocking

LIMIT = 4.0
HEAD = """
import asyncio, time
from runtime.process import HealthOptions, run_stage
async def stage(stop, health):
    print("running", flush=True)
"""
TAIL = f"""
raise SystemExit(run_stage("test", stage, HealthOptions(watchdog_seconds={LIMIT})))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    started: list[subprocess.Popen[str]] = []

    def run(body: str, **environment: str) -> subprocess.Popen[str]:
        script = tmp_path / "stage.py"
        script.write_text(HEAD + body + TAIL)
        process = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_a_blocked_event_loop_ends_the_process_and_shows_where_it_stood(start) -> None:  # type: ignore[no-untyped-def]
    process = start("    time.sleep(600)\n")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "stands still" in errors
    assert 'stage.py", line' in errors, "the stack names the line that blocks"


def test_a_stage_that_is_not_live_for_the_whole_limit_ends(start) -> None:  # type: ignore[no-untyped-def]
    process = start("    health.live.append(lambda: 'the fetcher is dead')\n    await stop.wait()\n")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "is not live: the fetcher is dead" in errors


def test_a_process_that_was_frozen_longer_than_the_limit_goes_on(start) -> None:  # type: ignore[no-untyped-def]
    process = start("    while not stop.is_set():\n        await asyncio.sleep(0.1)\n")
    process.send_signal(signal.SIGSTOP)
    passing_blocking(2 * LIMIT, "how long it is frozen is what is tested")
    process.send_signal(signal.SIGCONT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5 * LIMIT)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_systemd_is_told_that_the_stage_is_ready_and_then_alive(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(30)
        start("    await stop.wait()\n", NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert [receiver.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_systemd_is_not_told_that_a_stage_is_alive_which_is_not(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        process = start(
            "    health.live.append(lambda: 'broken')\n    await stop.wait()\n", NOTIFY_SOCKET=str(tmp_path / "notify")
        )
        eventually_blocking(lambda: process.poll() is not None, 60)
        assert receiver.recv(100) == b"READY=1"
        with pytest.raises(BlockingIOError):
            receiver.recv(100)
