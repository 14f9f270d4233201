"""The truth file: what was planted, as one JSON object per line, written when it happens."""

import json
from pathlib import Path
from typing import Any, Self


class TruthLog:
    """Appends records to a file, if there is one, and counts them by kind.

    Each line is one unbuffered write in append mode, so several processes may share a file.
    """

    def __init__(self, path: Path | None) -> None:
        self.counts: dict[str, int] = {}
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0) if path is not None else None

    def record(self, line: dict[str, Any]) -> None:
        """Append one record."""
        self.counts[line["kind"]] = self.counts.get(line["kind"], 0) + 1
        if self._file is not None:
            self._file.write(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Close the file; no records may follow."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
