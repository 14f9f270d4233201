"""Devices that vanish from their vendor's lists, also while the connector is down, are registered no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.common.registry_topic import KafkaRegistryTopic
from connectors.common.runner import Connector
from connectors.common.vanished_devices import VanishedDevices
from connectors.karcher.connector import KarcherConnector
from connectors.ogmen.connector import OgmenConnector
from connectors.wayscloud.connector import WayscloudConnector
from connectors.wayscloud.settings import WayscloudSettings
from runtime.kafka import KafkaSettings
from schemas.topics import DEVICES
from schemas.wire import Device, decode_device
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import SimulatorSettings, WaysCloudSimulator
from simulators.wayscloud import SensorFleet, WaysCloud
from tests.connectors import karcher, ogmen
from tests.connectors.recording import PartialOwnership, RecordingPublisher, recording_context
from tests.support.tails import OpenTail, Tail

NOW = 1_790_000_000.0


@asynccontextmanager
async def running(connector: Connector) -> AsyncIterator[None]:
    task = asyncio.create_task(connector.run())
    try:
        yield
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Restarted:
    """A vendor's connector that is stopped, and started when something has vanished."""

    def __init__(self, context: Context, devices: Tail, vendor: str, make: Callable[[Context], Connector]) -> None:
        self._context, self._devices, self._vendor, self._make = context, devices, vendor, make

    async def runs_until(self, expected: dict[str, bool]) -> None:
        """Run a new connector until the registry holds this of these devices."""

        def is_reached(records: object) -> bool:
            latest = {
                device.device_id: device.registered
                for record in self._devices.records
                if record.value and (device := decode_device(record.value)).vendor == self._vendor
            }
            return expected.items() <= latest.items()

        async with running(self._make(self._context)):
            await self._devices.until(is_reached, 30)


@pytest.fixture
async def context(publisher: Publisher, kafka_settings: KafkaSettings, tmp_path: Path) -> Context:
    return Context(publisher, tmp_path, registry=KafkaRegistryTopic(kafka_settings))


async def test_a_machine_of_kaercher(context: Context, tail: OpenTail) -> None:
    devices = await tail(DEVICES)
    async with karcher.cloud(devices=3) as (cloud, settings):
        settings = settings.model_copy(update={"registry_seconds": 0.5})
        listed = [machine for machine in cloud.fleet.machines if not machine.retired]
        names = [f"karcher:{machine.native_id}" for machine in listed]
        connector = Restarted(context, devices, "karcher", lambda context: KarcherConnector(settings, context))
        await connector.runs_until(dict.fromkeys(names, True))
        cloud.fleet.unregister(listed[0])
        await connector.runs_until({**dict.fromkeys(names, True), names[0]: False})
        cloud.fleet.register(listed[0])
        await connector.runs_until(dict.fromkeys(names, True))


async def test_a_robot_of_ogmen(context: Context, tail: OpenTail) -> None:
    devices = await tail(DEVICES)
    async with ogmen.cloud(devices=4) as (cloud, urls):
        account = cloud.fleet.robots[0].account_id
        robots = [robot.device_id for robot in cloud.fleet.robots if robot.account_id == account]
        names = [f"ogmen:{robot}" for robot in robots]
        settings = ogmen.settings_for(accounts=[account], account_seconds=0.2, **urls)
        connector = Restarted(context, devices, "ogmen", lambda context: OgmenConnector(settings, context))
        await connector.runs_until(dict.fromkeys(names, True))
        cloud.fleet.remove(robots[0])
        await connector.runs_until({**dict.fromkeys(names, True), names[0]: False})


async def test_a_device_of_wayscloud(context: Context, tail: OpenTail, unused_port: Callable[[], int]) -> None:
    """One that the list lacks, and that can be read all the same, stays registered."""
    devices = await tail(DEVICES)
    simulator = SimulatorSettings(
        faults=FaultSettings.none(), wayscloud=WaysCloudSimulator(devices=12, embedded_broker=False, mqtt_port=1)
    )
    sensors = SensorFleet(simulator, lambda: NOW, lambda _: None).sensors
    api = WaysCloud(simulator, lambda: NOW, sensors)
    names = [f"wayscloud:{sensor.device_id}" for sensor in sensors]
    async with serve(api.app(), "127.0.0.1", 0) as port:
        settings = WayscloudSettings(
            api_url=f"http://127.0.0.1:{port}",
            api_key=simulator.wayscloud.api_key,
            requests_per_second=500,
            registry_seconds=0.3,
            mqtt_host="127.0.0.1",
            mqtt_port=unused_port(),
            mqtt_tls=False,
        )
        connector = Restarted(context, devices, "wayscloud", lambda context: WayscloudConnector(settings, context))
        await connector.runs_until(dict.fromkeys(names, True))
        removed = api.account.sensors.pop(sensors[0].device_id)
        await connector.runs_until({**dict.fromkeys(names, True), names[0]: False})
        api.account.sensors[removed.device_id] = removed
        await connector.runs_until(dict.fromkeys(names, True))


def device(name: str) -> Device:
    return Device(f"karcher:{name}", "karcher", datetime(2026, 1, 1, tzinfo=UTC))


class Registry:
    """What the topic holds; None: Kafka is away."""

    def __init__(self, *names: str) -> None:
        self.names: tuple[str, ...] | None = names

    async def registered(self, vendor: str) -> dict[str, Device]:
        if self.names is None:
            raise TimeoutError
        return {f"{vendor}:{name}": device(name) for name in self.names}


async def test_each_process_publishes_its_own_and_reads_the_topic_when_they_change(tmp_path: Path) -> None:
    publisher, ownership, registry = RecordingPublisher(), PartialOwnership(["karcher:a"]), Registry("a", "b", "c")
    base = recording_context(publisher, tmp_path, ownership)
    vanished = VanishedDevices("karcher", Context(base.publisher, tmp_path, ownership=ownership, registry=registry))
    registry.names = None
    assert await vanished.publish({"karcher:c"}) == [], "the topic cannot be read yet"
    registry.names = ("a", "b", "c")
    assert await vanished.publish({"karcher:c"}) == ["karcher:a"]
    registry.names = ("c",)  # the other process has published b, too
    ownership.set(["karcher:b"])
    assert await vanished.publish({"karcher:c"}) == []
    vanished.note(device("b"))
    assert await vanished.publish({"karcher:c"}) == ["karcher:b"]
    assert [(each.device_id, each.registered) for each in publisher.devices] == [
        ("karcher:a", False),
        ("karcher:b", False),
    ]
    assert all(each.updated_at > device("a").updated_at for each in publisher.devices)


async def test_the_vendor_has_the_last_word(tmp_path: Path) -> None:
    publisher = RecordingPublisher()
    vanished = VanishedDevices("karcher", recording_context(publisher, tmp_path))
    for name in ("a", "b"):
        vanished.note(device(name))

    async def is_gone(device: Device) -> bool:
        return device.device_id == "karcher:b"

    assert await vanished.publish([], is_gone) == ["karcher:b"]
    assert await vanished.publish([], is_gone) == [], "once"
