"""ClimaSense's state: what survives, what is refused; on SQLite, and on PostgreSQL where it is installed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from connectors.climasense.protocol import Provisioned
from connectors.climasense.store.firmware import CHUNK_BYTES
from connectors.climasense.store.records import StateError
from connectors.climasense.store.store import Store, open_store
from runtime.api_keys import hash_key
from runtime.errors import StageError
from runtime.kafka import KafkaSettings
from schemas.climasense import OtaStatus
from schemas.envelope import Envelope
from tests.support.tails import RawTail
from tests.support.waiting import eventually

NOW = datetime(2026, 3, 29, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
def store(database_url: str | None, tmp_path: Path) -> Iterator[Store]:
    with contextlib.closing(open_store(database_url, tmp_path)) as opened:
        yield opened


def add(store: Store, device: str, key: str = "", role: str = "device", batch: str | None = None) -> None:
    store.keys.add(Provisioned(device, hash_key(key or device), role, batch), NOW)  # type: ignore[arg-type]


def test_keys_are_created_listed_and_revoked(store: Store) -> None:
    before = store.keys.version()
    add(store, "hub/ä:1", "k1", "hub", "b1")
    add(store, "hub/ä:1", "k2", None)  # type: ignore[arg-type]
    add(store, "s", "k3", "sensor")
    with pytest.raises(StateError, match="provisioned already"):
        add(store, "s", "k1")
    assert store.keys.version() > before
    found = store.keys.identities()
    assert {digest: (i.device, i.role, i.batch) for digest, i in found.items()} == {
        hash_key("k1"): ("hub/ä:1", "hub", "b1"),
        hash_key("k2"): ("hub/ä:1", "hub", "b1"),
        hash_key("k3"): ("s", "sensor", None),
    }
    assert found[hash_key("k1")].has("k1") and not found[hash_key("k1")].has("k2")
    assert [key.created_at for key in store.keys.all()] == [NOW] * 3
    later = NOW + timedelta(seconds=1)
    assert store.keys.revoke("nobody", later) == [] and store.keys.revoke("", later) == []
    assert len(store.keys.revoke(hash_key("k2")[:12], later)) == 1 and len(store.keys.revoke("hub/ä:1", later)) == 1
    assert set(store.keys.identities()) == {hash_key("k3")}
    assert [key.revoked_at for key in store.keys.all()] == [later, later, None]


def test_importing_the_same_keys_changes_nothing_and_gone_ones_are_revoked(store: Store) -> None:
    entries = [Provisioned("a", hash_key("a")), Provisioned("b", hash_key("b"), "hub", "b1")]
    for _ in range(2):
        store.keys.import_entries(entries, NOW)
        assert {i.device: i.role for i in store.keys.identities().values()} == {"a": "device", "b": "hub"}
    store.keys.import_entries(entries[:1], NOW)
    assert {i.device for i in store.keys.identities().values()} == {"a"}
    store.keys.import_entries([Provisioned("b", hash_key("a"))], NOW)  # the key moved to another device
    assert {i.device: i.role for i in store.keys.identities().values()} == {"b": "hub"}


def test_commands_expire_after_24_hours_and_a_reset_must_be_confirmed(store: Store) -> None:
    add(store, "d")
    with pytest.raises(StateError, match="confirmed"):
        store.commands.queue("d", "factory_reset", {}, NOW)
    with pytest.raises(StateError, match="no device"):
        store.commands.queue("x", "reboot", {}, NOW)
    command = store.commands.queue("d", "factory_reset", {"a": [1]}, NOW, confirmed=True)
    assert store.commands.pending("d", NOW + timedelta(hours=23, minutes=59)) == [command]
    assert store.commands.pending("d", NOW + timedelta(hours=24)) == []
    assert (
        store.commands.get("d", command.command_id) == command and store.commands.get("x", command.command_id) is None
    )
    store.commands.finish(command.command_id, "failed", "no", NOW)
    assert store.commands.pending("d", NOW) == []
    assert [(c.status, c.error_message, c.finished_at) for c in store.commands.all()] == [("failed", "no", NOW)]


def test_firmware_is_all_there_or_not_at_all(store: Store) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > CHUNK_BYTES:
                raise OSError("the disk is gone")
            return super().read(size)

    image = os.urandom(2 * CHUNK_BYTES + 1)
    with pytest.raises(OSError, match="gone"):
        store.firmware.add("1.0.0", Broken(image), "", NOW)
    assert store.firmware.all() == []
    for version, content in (("latest", image), ("1.0.0", b"")):
        with pytest.raises(StateError):
            store.firmware.add(version, io.BytesIO(content), "", NOW)
    added = store.firmware.add("1.0.0", io.BytesIO(image), "notes", NOW)
    assert added.checksum == "sha256:" + hashlib.sha256(image).hexdigest() and added.size_bytes == len(image)
    assert (
        b"".join(store.firmware.chunk("1.0.0", n) for n in range(3)) == image
        and store.firmware.chunk("1.0.0", 3) == b""
    )
    with pytest.raises(StateError, match="already"):
        store.firmware.add("1.0.0", io.BytesIO(image), "", NOW)
    with pytest.raises(StateError, match="no firmware"):
        store.firmware.release("2.0.0", ["b"], NOW)


def test_the_newest_release_of_the_batch_is_offered_and_never_an_older_one(store: Store) -> None:
    for version in ("1.9.0", "1.10.0", "2.0.0-rc1"):
        store.firmware.add(version, io.BytesIO(b"x"), "", NOW)
    store.firmware.release("1.9.0", ["*"], NOW)
    store.firmware.release("1.10.0", ["b1", "b2"], NOW)
    store.firmware.release("1.10.0", ["b1"], NOW)  # again
    store.firmware.release("2.0.0-rc1", ["beta"], NOW)

    def offered(batch: str | None, current: str) -> str | None:
        found = store.firmware.update_for(batch, current)
        return found.version if found else None

    assert [offered(b, "1.0.0") for b in ("b1", "b3", None, "beta")] == ["1.10.0", "1.9.0", "1.9.0", "2.0.0-rc1"]
    assert [offered("b1", c) for c in ("1.10.0", "1.10", "1.11.0", "factory")] == [None, None, None, "1.10.0"]
    store.firmware.withdraw("1.10.0", ["b1"])
    assert offered("b1", "1.10.0") is None and offered("b1", "1.0.0") == "1.9.0" and offered("b2", "1.0.0") == "1.10.0"


def test_an_update_that_starts_over_is_another_attempt(store: Store) -> None:
    add(store, "d")
    attempts = []
    for status, percent in (
        ("downloading", 0), ("downloading", 50), ("downloading", 50), ("failed", None), ("failed", None),
        ("downloading", 50), ("completed", None), ("completed", None),
    ):  # fmt: skip
        report = OtaStatus.model_validate({"version": "2", "status": status, "progress_percent": percent})
        update = store.updates.next("d", report)
        assert store.updates.next("d", report) == update, "only reads"
        store.updates.save("d", update, NOW)
        attempts.append(update.attempt)
    assert attempts == [1, 1, 1, 1, 1, 2, 2, 2]
    assert store.devices.get("d").firmware_version == "2"
    other = OtaStatus(version="3", status="downloading")
    assert store.updates.next("d", other).attempt == 3


def test_a_sensor_has_one_hub(store: Store) -> None:
    add(store, "h", role="hub")
    add(store, "s", role="sensor")
    assert store.devices.next_pairing("s", "h") == 1
    assert store.devices.pair("s", "h", "0x00", NOW).hub == "h"
    assert store.devices.next_pairing("s", "h") is None
    with pytest.raises(StateError, match="another hub"):
        store.devices.next_pairing("s", "h2")
    with pytest.raises(StateError, match="belongs to a hub"):
        store.devices.next_pairing("h", "h")
    store.devices.unpair("s")
    assert store.devices.next_pairing("s", "h") == 2


def test_writers_at_once_lose_no_change(store: Store) -> None:
    """Read-modify-write from several threads, each with connections of its own."""
    add(store, "d")

    def work(name: str) -> None:
        for number in range(20):
            store.devices.update_settings("d", {name: {str(number): True}})

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settings = store.devices.get("d").settings
    assert {name: len(settings[name]) for name in settings} == {f"t{n}": 20 for n in range(4)}


def test_sqlite_is_durable_and_another_schema_is_refused(tmp_path: Path) -> None:
    store = open_store(None, tmp_path)
    path = tmp_path / "climasense.db"
    assert path.stat().st_mode & 0o077 == 0
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        connection.exec_driver_sql("UPDATE meta SET value = 99 WHERE name = 'schema'")
        connection.commit()
    store.close()
    with pytest.raises(StageError, match="schema 99"):
        open_store(None, tmp_path)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "climasense.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StageError, match="not a database"):
        open_store(None, tmp_path / "x")


async def test_kill_9_loses_nothing_that_was_answered(
    kafka_settings: KafkaSettings,
    raw_tail: RawTail,
    tmp_path: Path,
    unused_port: Callable[[], int],
) -> None:
    """The real command is killed in the middle of writes, three times; what was answered with 2xx is there."""
    raw = await raw_tail("climasense")
    port = unused_port()
    environment = {n: v for n, v in os.environ.items() if not n.startswith("FLEETLAKE_")} | {
        "FLEETLAKE_KAFKA__BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "FLEETLAKE_CLIMASENSE__PORT": str(port),
        "FLEETLAKE_CLIMASENSE__UPDATES_PER_MINUTE": "100000",
        "FLEETLAKE_CLIMASENSE__RESULTS_PER_MINUTE": "100000",
    }
    store = open_store(None, tmp_path / "state")
    add(store, "hub", "key", "hub")
    commands = [store.commands.queue("hub", "diagnostics", {"n": n}, datetime.now(UTC)) for n in range(300)]
    image = os.urandom(3 * CHUNK_BYTES)
    store.firmware.add("1.0.0", io.BytesIO(image), "", NOW)
    store.firmware.release("1.0.0", ["*"], NOW)
    answered: list[str] = []
    setting = 0
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers={"Authorization": "Bearer key"}) as http:
        for _ in range(3):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "fleetlake", "connect", "climasense", "--data", str(tmp_path)),
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.DEVNULL,
            )
            try:
                await eventually(lambda: _is_ready(http))
                before = len(answered)
                dying = False
                while True:
                    if len(answered) >= before + 30 and not dying:  # at once it would fall between two writes
                        dying = True
                        asyncio.get_running_loop().call_later(random.uniform(0, 0.02), process.kill)
                    left = [c for c in commands if c.command_id not in answered]
                    try:
                        report = {"command_id": left[0].command_id, "status": "acked", "result": {"big": "x" * 2000}}
                        async with http.post("/v1/commands/result", json=report) as response:
                            if response.status == 200:
                                answered.append(left[0].command_id)
                        async with http.patch("/v1/settings", json={"counter": setting + 1}) as response:
                            if response.status == 200:
                                setting += 1
                    except aiohttp.ClientError:
                        break
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
            assert {c.command_id for c in store.commands.all() if c.status == "acked"} >= set(answered)
            assert store.devices.get("hub").settings["counter"] in (setting, setting + 1)
            setting = store.devices.get("hub").settings["counter"]
    assert len(answered) >= 3 * 30
    assert b"".join(store.firmware.chunk("1.0.0", n) for n in range(3)) == image
    store.close()

    def results(envelopes: list[Envelope]) -> list[Envelope]:
        return [envelope for envelope in envelopes if b'"acked"' in envelope.data]

    envelopes = await raw.envelopes(lambda read: {_command(e.data) for e in results(read)} >= set(answered))
    by_command: dict[str, set[str]] = {}
    for envelope in results(envelopes):
        by_command.setdefault(_command(envelope.data), set()).add(envelope.id)
    assert all(len(ids) == 1 for ids in by_command.values()), "a repeat after a kill has the same id"


def _command(data: bytes) -> str:
    match = re.search(rb'"command_id":\s*"([^"]+)"', data)
    assert match and json.loads(data)["status"] == "acked"
    return match[1].decode()


async def _is_ready(http: aiohttp.ClientSession) -> bool:
    with contextlib.suppress(aiohttp.ClientError):
        async with http.get("/readyz") as response:
            return response.status == 200
    return False
