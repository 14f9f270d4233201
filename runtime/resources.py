"""What a process is given of its machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

BUFFER_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """The data folder and the memory of one process."""

    data_dir: Path
    buffer_bytes: int = BUFFER_BYTES
    """Bytes of messages that the process may hold; then it takes no more from its source."""
