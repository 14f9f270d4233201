"""Vendors' clouds on loopback that send only what the benchmark asks for, and how a connector reaches them.

The clouds are the simulators' (real sockets, real REST); their own devices keep silent. Each message carries a number,
which is the number in the raw topic, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.process import Process
from simulators.faults import FaultSettings
from simulators.karcher import KarcherCloud
from simulators.karcher import payloads as karcher_payloads
from simulators.net import serve
from simulators.ogmen import OgmenCloud
from simulators.ogmen import payloads as ogmen_payloads
from simulators.settings import KarcherSimulator, OgmenSimulator, SimulatorSettings
from simulators.wayscloud import run_mqtt_broker

_HOST = "127.0.0.1"
_SILENT = 1e-6  # messages per second
_NO_LIMIT = 1e9
_DEVICES = 100


class Cloud(ABC):
    """One vendor's end of the sockets."""

    vendor: str

    @abstractmethod
    def configuration(self) -> str:
        """The connector's section."""

    @abstractmethod
    def connected(self) -> bool:
        """Whether the connector listens to everything."""

    @abstractmethod
    async def say(self, number: int) -> None:
        """Send message `number`; waits where the socket is full."""

    @abstractmethod
    def number(self, record: dict[str, Any]) -> int | None:
        """The number in a raw record of this vendor; None for other records."""


class Karcher(Cloud):
    """A WebSocket for each of a hundred machines."""

    vendor = "karcher"

    def __init__(self, cloud: KarcherCloud, port: int) -> None:
        self._urls = cloud.endpoints(_HOST, port)
        self._sockets, self._robots = cloud.sockets, cloud.fleet.robots

    def configuration(self) -> str:
        """See `Cloud`."""
        urls = self._urls
        return (
            f'[karcher]\ntoken_url = "{urls["karcher.token_url"]}"\napi_url = "{urls["karcher.rest_url"]}"\n'
            f'socket_url = "{urls["karcher.ws_url"]}"\nclient_id = "fleetlake-demo"\n'
            f'client_secret = "karcher-demo-secret"\nmessages_per_second = {_NO_LIMIT}\n'
        )

    def connected(self) -> bool:
        """See `Cloud`."""
        return all(map(self._sockets.listeners, self._robots))

    async def say(self, number: int) -> None:
        """See `Cloud`."""
        place = {"coordinateX": number, "coordinateY": 6355, "mapId": "124b7f11-3d80-4a2b-b5a7-345835b2f465"}
        message = karcher_payloads.message({"location": place}, time.time())
        await self._sockets.send(self._robots[number % len(self._robots)], msgspec.json.encode(message))

    def number(self, record: dict[str, Any]) -> int | None:
        """See `Cloud`."""
        place = record.get("data", {}).get("location") if record.get("type") == "datapoints" else None
        return None if place is None or place.get("coordinateY") != 6355 else int(place["coordinateX"])


class Ogmen(Cloud):
    """A WebSocket for each of a hundred robots; odometry, all of it kept."""

    vendor = "ogmen"

    def __init__(self, cloud: OgmenCloud, port: int) -> None:
        self._urls = cloud.endpoints(_HOST, port)
        self._sockets, self._robots = cloud.sockets, cloud.fleet.robots

    def configuration(self) -> str:
        """See `Cloud`."""
        names = ", ".join(f'"{robot.device_id}"' for robot in self._robots)
        return (
            f'[ogmen]\nsocket_url = "{self._urls["ogmen.ws_url"]}"\napi_url = "{self._urls["ogmen.rest_url"]}"\n'
            f"devices = [{names}]\nwebhook_port = -1\nodometry_hz = 0\nmessages_per_second = {_NO_LIMIT}\n"
            "state_seconds = 3600\nlog_seconds = 3600\nslow_seconds = 3600\n"
        )

    def connected(self) -> bool:
        """See `Cloud`."""
        return len(self._sockets.listening) == len(self._robots)

    async def say(self, number: int) -> None:
        """See `Cloud`."""
        robot = self._robots[number % len(self._robots)]
        message = ogmen_payloads.odom(robot, time.time())
        message["pose"]["pose"]["position"] = {"x": float(number), "y": 6.355, "z": 0.0}
        await self._sockets.send(robot.device_id, msgspec.json.encode(message))

    def number(self, record: dict[str, Any]) -> int | None:
        """See `Cloud`."""
        pose = record.get("pose", {})
        place = pose.get("pose", {}).get("position", {}) if isinstance(pose, dict) else {}
        return int(place["x"]) if place.get("y") == 6.355 else None


class Wayscloud(Cloud):
    """An MQTT broker; one client publishes at QoS 1 for a hundred sensors."""

    vendor = "wayscloud"

    def __init__(self, port: int, version: str) -> None:
        self._port, self._version = port, version
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "bench", protocol=mqtt.MQTTv311)
        self._client.max_inflight_messages_set(1000)
        self._client.connect(_HOST, port)
        self._client.loop_start()
        self._published: list[mqtt.MQTTMessageInfo] = []

    def configuration(self) -> str:
        """See `Cloud`."""
        return (
            f'[wayscloud]\nmqtt_host = "{_HOST}"\nmqtt_port = {self._port}\nmqtt_tls = false\n'
            f'mqtt_version = "{self._version}"\n'
        )

    def connected(self) -> bool:
        """See `Cloud`."""
        return self._client.is_connected()

    async def say(self, number: int) -> None:
        """See `Cloud`."""
        payload = msgspec.json.encode({"value": number, "timestamp": _iso_now(), "bench": True})
        self._client.publish(f"devices/sensor-{number % _DEVICES:03d}/sensors/co2", payload, qos=1)

    def number(self, record: dict[str, Any]) -> int | None:
        """See `Cloud`."""
        return int(record["value"]) if record.get("bench") else None

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


@asynccontextmanager
async def karcher(folder: Path) -> AsyncIterator[Cloud]:
    """Kärcher's cloud."""
    simulator = KarcherSimulator(devices=_DEVICES + 1, rate=_SILENT)  # one more: it is not robotic
    cloud = KarcherCloud(_settings(karcher=simulator), time.time, lambda line: None)
    async with serve(cloud.app(), _HOST, 0) as port:
        yield Karcher(cloud, port)


@asynccontextmanager
async def ogmen(folder: Path) -> AsyncIterator[Cloud]:
    """Ogmen's cloud."""
    cloud = OgmenCloud(_settings(ogmen=OgmenSimulator(devices=_DEVICES, rate=_SILENT)), time.time, lambda line: None)
    async with serve(cloud.app(), _HOST, 0) as port:
        yield Ogmen(cloud, port)


@asynccontextmanager
async def wayscloud(folder: Path) -> AsyncIterator[Cloud]:
    """Mosquitto where it is installed, else the simulators' own MQTT broker, which is several times slower."""
    binary = mosquitto()
    async with _mosquitto(binary, folder) if binary else run_mqtt_broker() as port:
        cloud = await asyncio.to_thread(Wayscloud, port, "5" if binary else "3.1.1")
        try:
            yield cloud
        finally:
            await asyncio.to_thread(cloud.close)


def mosquitto() -> str | None:
    """Path of Mosquitto, which Debian keeps out of a user's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@asynccontextmanager
async def _mosquitto(binary: str, folder: Path) -> AsyncIterator[int]:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} {_HOST}\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 0\n"
        "set_tcp_nodelay true\n"
    )
    with Process([binary, "-c", str(config)], folder / "mosquitto.log") as process:
        while not _listening(port):
            process.check()
            await asyncio.sleep(0.02)
        yield port


def _listening(port: int) -> bool:
    with contextlib.closing(socket.socket()) as probe:
        return probe.connect_ex((_HOST, port)) == 0


def _settings(**sections: Any) -> SimulatorSettings:
    return SimulatorSettings(faults=FaultSettings.none(), cycle_seconds=3600, **sections)


def _iso_now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


CLOUDS = {"karcher": karcher, "ogmen": ogmen, "wayscloud": wayscloud}
