"""A stage of `fleetlake` as a process, and what it costs (Linux)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


class Stage:
    """`fleetlake COMMAND` as a process."""

    def __init__(
        self, command: Sequence[str], config: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = log.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fleetlake", *command, "--config", str(config)],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **(environment or {})},
        )

    def memory_mib(self) -> float:
        """Resident memory."""
        return memory_mib(self.process.pid)

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system."""
        return cpu_seconds(self.process.pid)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal and wait for the end; the exit status."""
        self.process.send_signal(how)
        status = self.process.wait(30)
        self._log.close()
        return status


class Connector(Stage):
    """`fleetlake connect VENDORS` as a process."""

    def __init__(
        self, vendors: Sequence[str], config: Path, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(["connect", *vendors], config, log, environment)


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
