"""A small JSON file for state of a connector that must survive a restart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.files import write_atomically


@dataclass(frozen=True)
class StateFile:
    """Read and replaced as a whole: a crash leaves the old content or the new one."""

    path: Path

    def read(self) -> dict[str, Any]:
        """The content; empty where there is no file, or where it cannot be read."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, content: dict[str, Any]) -> None:
        """Replace the content, durably."""
        write_atomically(self.path, json.dumps(content))
