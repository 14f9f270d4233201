"""The arguments of a part, and its progress messages."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Bench:
    """One invocation of one part."""

    runs: int
    folder: Path
    """Empty, removed afterwards."""
    scale: float = 1.0
    readings: int = 10_000_000
    """So many are generated where a part asks a lake of that size."""
    lake: Path | None = None
    """Generate it here and keep it, or take what is here."""

    def scaled(self, number: int) -> int:
        """A number of records, smaller in a trial."""
        return max(1000, int(number * self.scale))

    def seconds(self, seconds: float) -> float:
        """How long to go on, shorter in a trial."""
        return max(2.0, seconds * self.scale)


def progress(line: str) -> None:
    """One line to standard error, with the seconds since the start."""
    print(f"[{time.monotonic() - _STARTED:6.1f}] {line}", file=sys.stderr, flush=True)
