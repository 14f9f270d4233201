"""Running one system as a process: its CPU seconds and memory, those of its children included, and its certain end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

_GRACE_SECONDS = 20.0
_LAST_LINES = 15


class ProcessEnded(RuntimeError):
    """The process ended by itself; the message has its last words."""


@dataclass
class Process:
    """One process in a session of its own. Use as a context: at its end nothing of it is left.

    What it prints goes to `log`.
    """

    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    peak_rss: int = 0
    """Most bytes of resident memory that `sample` saw."""

    def __enter__(self) -> Self:
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                list(self.command),
                env={**os.environ, **self.env},
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._root = psutil.Process(self._popen.pid)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop(_GRACE_SECONDS if kind is None else 0)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._popen.pid

    def check(self) -> None:
        """Raise ProcessEnded unless it runs."""
        if (status := self._popen.poll()) is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
            raise ProcessEnded(f"{self.command[0]} ended with status {status}:\n" + "\n".join(lines))

    def sample(self) -> float:
        """CPU seconds so far; notes the memory it takes."""
        seconds, resident = 0.0, 0
        for process in self._tree():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    seconds += times.user + times.system
                    resident += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak_rss = max(self.peak_rss, resident)
        return seconds

    def rss(self) -> int:
        """Bytes of resident memory now."""
        return sum(process.memory_info().rss for process in self._tree())

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def stop(self, grace: float = _GRACE_SECONDS) -> None:
        """Ask it to end, and end it and all it started if it does not within `grace` seconds."""
        if grace and self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + grace
            while self._popen.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    """Wait until `condition` is true; TimeoutError with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        await asyncio.sleep(0.05)
