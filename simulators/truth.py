"""The truth file: what was planted, one JSON object a line, written when it happens."""

import json
from pathlib import Path
from typing import Any, Self


class TruthLog:
    """Appends records to a file, or to nowhere if there is none; remembers how many of each kind it has seen.

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
        """No records are taken after this."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
