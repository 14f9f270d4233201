"""`fleetlake schemas`: files, and what is said where no registry answers. With one: tests/consumers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from schemas.contract import FOLDER
from tests.fleetlake.command import Run


def test_the_contract_as_files(run: Run, tmp_path: Path) -> None:
    run("schemas", "export", str(tmp_path / "contract"))
    copied = {path.name: path.read_text() for path in (tmp_path / "contract").iterdir()}
    assert copied == {path.name: path.read_text() for path in FOLDER.iterdir()}


def test_no_registry_is_a_message(run: Run, unused_port: Callable[[], int]) -> None:
    shown = run("schemas", "register", "--registry", f"http://127.0.0.1:{unused_port()}", status=1)
    assert "does not answer" in shown and "Traceback" not in shown
    assert "no public topic" in run("schemas", "register", "telemetry.x", "--registry", "http://127.0.0.1:1", status=1)
