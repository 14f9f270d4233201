"""`fleetlake keys` and `fleetlake climasense` as an operator runs them."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Protocol

import pytest

from connectors.climasense.store import open_store
from fleetlake.cli import main
from runtime.keys import hash_key


class Run(Protocol):
    def __call__(self, *arguments: str, status: int = 0) -> str: ...


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command in a folder of its own; what it says, on standard error where it fails."""
    for name in [name for name in os.environ if name.startswith("FLEETLAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run_command(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["fleetlake", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert (ended.value.code or 0) == status, said.err
        return said.err if status else said.out

    return run_command


def test_a_key_is_shown_once_and_kept_hashed(run: Run, tmp_path: Path) -> None:
    key = run("keys", "create", "hub-1", "--role", "hub", "--batch", "b1").strip()
    assert re.fullmatch(r"sk_hub_[\w-]{43}", key)
    listed = run("keys", "list")
    assert "hub-1" in listed and "in force" in listed and hash_key(key)[:12] in listed and key not in listed
    for file in (tmp_path / "data" / "state").iterdir():
        assert key.encode() not in file.read_bytes()
    assert "hub-1" in run("keys", "revoke", hash_key(key)[:12])
    assert "in force" not in run("keys", "list")
    assert "no key in force" in run("keys", "revoke", "hub-1", status=1)


def test_an_operator_queues_commands_and_changes_settings(run: Run, tmp_path: Path) -> None:
    run("keys", "create", "d", "--data", "other")
    told = run("climasense", "command", "d", "reboot", "--payload", '{"delay_seconds": 5}', "-d", "other")
    assert "waits until" in told and told.split()[0] in run("climasense", "commands", "d", "-d", "other")
    refused = run("climasense", "command", "d", "factory_reset", "-d", "other", status=1)
    assert "--confirm d" in refused
    run("climasense", "command", "d", "factory_reset", "--confirm", "d", "-d", "other")
    assert "JSON object" in run("climasense", "command", "d", "reboot", "--payload", "[]", status=1)
    assert "no device 'x'" in run("climasense", "command", "x", "reboot", "-d", "other", status=1)
    changed = run("climasense", "settings", "d", "--set", '{"timezone": "Europe/Berlin"}', "-d", "other")
    assert json.loads(changed)["timezone"] == "Europe/Berlin"
    assert run("climasense", "settings", "d", "-d", "other") == changed
    wrong = run("climasense", "settings", "d", "--set", '{"reporting_interval_seconds": 1}', status=1)
    assert "reporting_interval_seconds" in wrong
    store = open_store(None, tmp_path / "other" / "state")
    assert [c.type for c in store.commands()] == ["factory_reset", "reboot"]
    store.close()


def test_firmware_is_added_released_and_withdrawn(run: Run, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"firmware")
    firmware = ("climasense", "firmware")
    assert "8 bytes, sha256:" in run(*firmware, "add", "1.3.0", "image", "--notes", "[fixes]")
    assert "already" in run(*firmware, "add", "1.3.0", "image", status=1)
    run(*firmware, "release", "1.3.0", "--batch", "b1", "--batch", "b2")
    assert "b1, b2" in run(*firmware, "list") and "[fixes]" in run(*firmware, "list")
    run(*firmware, "withdraw", "1.3.0", "--batch", "b1")
    assert "b1" not in run(*firmware, "list")
    assert "no firmware 9" in run(*firmware, "release", "9", "--batch", "b1", status=1)
