"""`fleetlake keys` and `fleetlake climasense` as an operator runs them."""

from __future__ import annotations

import json
import re
from pathlib import Path

from connectors.climasense.store.store import open_store
from runtime.api_keys import hash_key
from tests.fleetlake.command import Run


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
    output = run("climasense", "command", "d", "reboot", "--payload", '{"delay_seconds": 5}', "-d", "other")
    assert "waits until" in output and output.split()[0] in run("climasense", "commands", "d", "-d", "other")
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
    assert [c.type for c in store.commands.all()] == ["factory_reset", "reboot"]
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
