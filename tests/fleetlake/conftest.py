"""The command as its user runs it, in this process."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Protocol

import pytest

from fleetlake.cli.main import main


class Run(Protocol):
    """Type of the fixture `run`."""

    def __call__(self, *arguments: str, status: int = 0) -> str: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in a folder of its own; all that it says."""
    for name in [name for name in os.environ if name.startswith("FLEETLAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["fleetlake", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == status, said.err
        return said.out + said.err

    return run_command
