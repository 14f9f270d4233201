"""Simulated ClimaSense devices against the product's own server, with a real Kafka behind it."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import pytest

from connectors.climasense.connector import ClimasenseConnector, store_of
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.store import Store
from connectors.common.context import Context
from connectors.common.publisher import Publisher
from runtime.kafka import KafkaSettings, declare_topics
from schemas.topics import topic_specs
from simulators.climasense import ClimaSenseFleet, devices, write_keys
from simulators.climasense.management import Misbehaviour
from simulators.faults import FaultSettings
from simulators.settings import ClimaSenseSimulator, SimulatorSettings
from tests.simulators.clock import Clock, Truth
from tests.support.waiting import eventually

DEVICES = 6  # a hub, three devices, two sensors


@asynccontextmanager
async def simulated(
    kafka: str, folder: Path, clock: Clock, truth: Truth, *misbehave: Misbehaviour, **limits: int
) -> AsyncIterator[tuple[ClimaSenseFleet, Store]]:
    kafka_settings = KafkaSettings(bootstrap_servers=kafka)
    await declare_topics(kafka_settings, topic_specs())
    write_keys(folder / "keys.json", DEVICES, 1)
    generous = {"settings_per_minute": 10_000, "commands_per_minute": 10_000, "checks_per_minute": 10_000} | limits
    settings = ClimasenseSettings(port=0, keys_file=folder / "keys.json", **generous)  # type: ignore[arg-type]
    async with Publisher(kafka_settings) as publisher:
        connector = ClimasenseConnector(settings, Context(publisher, folder))
        task = asyncio.create_task(connector.run())
        await eventually(lambda: connector.port)
        store = store_of(settings, folder)
        simulator = ClimaSenseSimulator(
            devices=DEVICES,
            rate=1.0,
            url=f"http://127.0.0.1:{connector.port}",
            retry_seconds=0.05,
            poll_seconds=0.3,
            misbehave=list(misbehave),
        )
        fleet = ClimaSenseFleet(
            SimulatorSettings(faults=FaultSettings.none(), climasense=simulator), clock, truth.append
        )
        try:
            async with fleet.posting():
                yield fleet, store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()


def now() -> datetime:
    return datetime.now(UTC)


def answers(truth: Truth, what: str) -> Counter[int]:
    return Counter(line["detail"]["status"] for line in truth if line["detail"].get("what") == what)


async def test_devices_do_what_they_are_told(kafka: str, tmp_path: Path, clock: Clock, truth: Truth) -> None:
    image = os.urandom(1_000_000)
    async with simulated(kafka, tmp_path, clock, truth) as (fleet, store):
        hub, device, other = (key.device_id for key in fleet.keys[:3])
        await eventually(lambda: {d.hub for d in store.devices.all() if d.role == "sensor"} == {hub})
        store.commands.queue(device, "config_update", {"reporting_interval_seconds": 120}, now())
        store.commands.queue(device, "config_update", {"reporting_interval_seconds": 1}, now())
        store.commands.queue(device, "diagnostics", {}, now())
        store.commands.queue(other, "factory_reset", {}, now(), confirmed=True)
        store.firmware.add("1.1.0", BytesIO(image), "", now())
        store.firmware.release("1.1.0", ["demo"], now())
        await eventually(lambda: all(c.status for c in store.commands.all()), 20)
        await eventually(lambda: [u.version for u in fleet.managements] == ["1.1.0"] * 4, 20)
        await eventually(lambda: sum(d.firmware_version == "1.1.0" for d in store.devices.all()) == 4)
        outcomes = Counter((c.type, c.status) for c in store.commands.all())
        assert outcomes == {
            ("config_update", "acked"): 1,
            ("config_update", "failed"): 1,
            ("diagnostics", "acked"): 1,
            ("factory_reset", "acked"): 1,
        }
        assert store.devices.get(device).settings == {"reporting_interval_seconds": 120}
        await eventually(lambda: fleet.managements[1].settings["reporting_interval_seconds"] == 120)
    assert truth == []


async def test_a_device_that_is_cut_off_resumes_its_download(
    kafka: str, tmp_path: Path, clock: Clock, truth: Truth
) -> None:
    async with simulated(kafka, tmp_path, clock, truth, "break_download") as (fleet, store):
        store.firmware.add("1.1.0", BytesIO(os.urandom(3_000_000)), "", now())
        store.firmware.release("1.1.0", ["*"], now())
        await eventually(lambda: [u.version for u in fleet.managements] == ["1.1.0"] * 4, 30)
    assert answers(truth, "break_download") == {0: 4}


async def test_an_image_that_does_not_match_its_checksum_is_not_applied(
    kafka: str, tmp_path: Path, clock: Clock, truth: Truth
) -> None:
    async with simulated(kafka, tmp_path, clock, truth) as (fleet, store):
        store.firmware.add("1.1.0", BytesIO(b"good" * 1000), "", now())
        with store._write.begin() as tx:
            tx.exec_driver_sql("UPDATE firmware_chunks SET data = zeroblob(4000)")
        store.firmware.release("1.1.0", ["*"], now())
        await eventually(lambda: all(u._gave_up == {"1.1.0"} for u in fleet.managements), 20)
        assert {u.version for u in fleet.managements} == {"1.0.0"}


async def test_misbehaving_devices_are_refused_and_go_on(
    kafka: str,
    tmp_path: Path,
    clock: Clock,
    truth: Truth,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "POST_INTERVAL", 0.05)
    kinds: tuple[Misbehaviour, ...] = ("bad_json", "wrong_key", "flood", "repeat_results")
    async with simulated(kafka, tmp_path, clock, truth, *kinds, commands_per_minute=30) as (fleet, store):
        store.commands.queue(fleet.keys[0].device_id, "reboot", {}, now())
        await eventually(lambda: all(answers(truth, kind) for kind in kinds), 30)
        assert len(fleet.managements[0].done) == 1
    assert set(answers(truth, "bad_json")) <= {400, 429} and answers(truth, "bad_json")[400] > 0
    assert set(answers(truth, "wrong_key")) == {401} and answers(truth, "repeat_results") == {200: 1}
    assert set(answers(truth, "flood")) == {200, 429}
