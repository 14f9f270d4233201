"""Commands in messages, as the user can paste them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path


def command(*arguments: str | Path) -> str:
    """The command line that runs `fleetlake` with these arguments, named as this process was started, quoted."""
    return f"{_program()} {shlex.join(map(str, arguments))}"


def _program() -> str:
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m fleetlake"
    if started.name != "fleetlake":  # a test, or a notebook
        return "fleetlake"
    on_path = shutil.which("fleetlake")
    if on_path and Path(on_path).resolve() == started.resolve():
        return "fleetlake"
    near = os.path.relpath(started)
    return shlex.quote(str(started) if near.startswith("..") else near)
