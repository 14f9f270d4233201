"""Parts of the WAYSCloud connector on their own: known devices, logins, definitions, connection memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.reasoncodes import ReasonCode

from connectors.common.byte_budget import ByteBudget
from connectors.common.state_file import StateFile
from connectors.wayscloud import mqtt_connection
from connectors.wayscloud.datapoints import DatapointDefinitions
from connectors.wayscloud.known_devices import KnownDevices
from connectors.wayscloud.logins import Login, logins
from connectors.wayscloud.mqtt_client import V5, V311, MqttError, because
from connectors.wayscloud.mqtt_connection import ConnectionMemory, MqttConnection, Outage
from connectors.wayscloud.mqtt_session import MqttSilentError
from connectors.wayscloud.objects import BrokerAddress, Datapoint
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings

T0 = datetime(2026, 3, 16, tzinfo=UTC)
BROKER = BrokerAddress("broker", 1883)


def test_processes_that_share_the_file_add_to_each_others_devices(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "devices.json")
    one, two = KnownDevices(file), KnownDevices(file)
    one.add("a", "b")
    one.write()
    two.add("c")
    assert two.all() == {"a", "b", "c"}
    two.write()
    assert file.read() == {"devices": ["a", "b", "c"]}
    assert one.all() == {"a", "b", "c"}


def test_the_file_is_written_only_when_a_device_is_new(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "devices.json")
    devices = KnownDevices(file)
    devices.add("a")
    devices.write()
    file.path.unlink()
    devices.add("a")
    devices.write()
    assert not file.path.exists()
    devices.add("b")
    devices.write()
    assert file.read() == {"devices": ["a", "b"]}


def test_the_shared_login_is_there_unless_only_devices_have_credentials() -> None:
    (shared,) = logins(WayscloudSettings(topics=["devices/+/#"]), "fleetlake")
    assert shared == Login("fleetlake", "", "", ("devices/+/#",))
    own = {"device_id": "s1", "username": "u", "password": "p"}
    (single,) = logins(WayscloudSettings.model_validate({"device_credentials": [own]}), "fleetlake")
    assert single == Login("fleetlake-s1", "u", "p", ("devices/s1/sensors/#",), "s1")
    both = logins(
        WayscloudSettings.model_validate(
            {"device_credentials": [own | {"client_id": "mine"}], "mqtt_username": "all", "share_group": "g"}
        ),
        "fleetlake",
    )
    assert [(login.client_id, login.username, login.device) for login in both] == [
        ("mine", "u", "s1"),
        ("fleetlake", "all", ""),
    ]
    assert both[1].topics == ("$share/g/devices/+/sensors/#",)


class Api:
    def __init__(self, items: list[dict[str, Any]], full: dict[str, dict[str, Any]]) -> None:
        self._items, self._full = items, full

    async def items(self, name: str) -> list[dict[str, Any]]:
        assert name == "datapoints"
        return self._items

    async def read(self, name: str, identity: str) -> dict[str, Any]:
        return self._full[identity]


async def test_definitions_are_completed_kept_and_replaced(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "datapoints.json")
    definitions = DatapointDefinitions(file)
    shared = definitions.by_name
    brief = {"id": "d1", "name": "temperature"}
    await definitions.read(Api([brief], {"d1": {"unit": "°F", "data_type": "number"}}))  # type: ignore[arg-type]
    assert shared == {"temperature": Datapoint("d1", "°F", "number")}
    assert DatapointDefinitions(file).by_name == shared
    assert definitions.used_in(b'{"datapoint_id": "d1"}') == {
        "d1": {"name": "temperature", "unit": "°F", "type": "number"}
    }
    assert definitions.used_in(b'{"datapoint_id": "d2"}') == {}
    await definitions.read(Api([], {}))  # type: ignore[arg-type]
    assert shared == {}


def test_the_memory_keeps_times_and_drops_what_is_none(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "mqtt.json")
    memory = ConnectionMemory(file)
    memory.alive["fleetlake"] = T0
    memory.old_brokers["broker:1883"] = T0
    memory.write()
    assert file.read() == {
        "alive": {"fleetlake": "2026-03-16T00:00:00Z"},
        "old_brokers": {"broker:1883": "2026-03-16T00:00:00Z"},
    }
    file.write({"alive": {"a": "yesterday", "b": "2026-03-16T00:00:00Z"}, "old_brokers": []})
    assert ConnectionMemory(file).alive == {"b": T0}


Session = Callable[[Callable[[Packet], Awaitable[Any]], Callable[[bool], Awaitable[None]]], Awaitable[None]]


class Receiver:
    def __init__(self) -> None:
        self.intake = ByteBudget()
        self.outages: list[Outage] = []
        self.packets: list[Packet] = []
        self.changes: list[str] = []

    async def find_broker(self) -> BrokerAddress:
        return BROKER

    async def receive(self, packet: Packet) -> list[asyncio.Future[None]]:
        self.packets.append(packet)
        return []

    async def connected(self, device: str) -> None:
        self.changes.append(f"up {device}")

    def lost(self, device: str) -> None:
        self.changes.append(f"down {device}")

    async def outage_ended(self, outage: Outage) -> None:
        self.outages.append(outage)


async def _connect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sessions: list[Session], login: Login | None = None, **more: Any
) -> tuple[Receiver, list[Any], ConnectionMemory]:
    """Run a connection through scripted sessions; the versions that were tried."""
    versions: list[Any] = []
    done = asyncio.Event()

    class Scripted:
        def __init__(self, _: Any, __: Any, version: Any, ___: Any) -> None:
            versions.append(version)

        async def run(self, address: BrokerAddress, publish: Any, on_connected: Any) -> None:
            assert address == BROKER
            if not sessions:
                done.set()
                await asyncio.Event().wait()
            await sessions.pop(0)(publish, on_connected)

        def safe_until(self) -> datetime:
            return T0

    monkeypatch.setattr(mqtt_connection, "MqttSession", Scripted)
    receiver = Receiver()
    settings = WayscloudSettings(mqtt_host="broker", reconnect_seconds=0.001, reconnect_cap_seconds=0.002, **more)
    memory = ConnectionMemory(StateFile(tmp_path / "mqtt.json"))
    connection = MqttConnection(settings, login or Login("fleetlake", "", "", ()), memory, receiver)
    task = asyncio.create_task(connection.run())
    await asyncio.wait_for(done.wait(), 10)
    connection.note_alive()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return receiver, versions, memory


def connected_then(error: Exception, session_present: bool = True) -> Session:
    async def session(_: Any, on_connected: Callable[[bool], Awaitable[None]]) -> None:
        await on_connected(session_present)
        raise error

    return session


def refused(unsupported: bool) -> Session:
    async def session(_: Any, __: Any) -> None:
        raise MqttError("refused", unsupported)

    return session


async def test_a_broker_that_refuses_mqtt_5_gets_the_old_version_and_is_remembered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sessions = [refused(True), connected_then(MqttError("lost"))]
    _, versions, memory = await _connect(monkeypatch, tmp_path, sessions)
    assert versions == [V5, V311, V311]
    assert list(memory.old_brokers) == ["broker:1883"]


async def test_other_refusals_and_a_chosen_version_try_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _, versions, _ = await _connect(monkeypatch, tmp_path, [refused(False)])
    assert versions == [V5, V5]
    _, versions, _ = await _connect(monkeypatch, tmp_path, [refused(True)], mqtt_version="5")
    assert versions == [V5, V5]


async def test_an_outage_says_whether_the_session_was_kept_and_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sessions = [
        connected_then(MqttError("first")),
        connected_then(MqttError("second"), session_present=True),
        connected_then(MqttError("third"), session_present=False),
    ]
    receiver, _, _ = await _connect(monkeypatch, tmp_path, sessions, Login("fleetlake-s1", "", "", (), "s1"))
    assert [(outage.session_kept, outage.gap.reason, outage.device) for outage in receiver.outages] == [
        (True, "first; the broker kept our session", "s1"),
        (False, "second; the broker has forgotten our session", "s1"),
    ]


async def test_silence_is_one_gap_until_a_message_arrives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def with_message(publish: Any, on_connected: Callable[[bool], Awaitable[None]]) -> None:
        await on_connected(True)
        await publish(Packet("t", b"1", retain=False, dup=False))
        raise MqttSilentError("no message")

    async def with_retained(publish: Any, on_connected: Callable[[bool], Awaitable[None]]) -> None:
        await on_connected(True)
        await publish(Packet("t", b"1", retain=True, dup=False))
        raise MqttSilentError("no message")

    silent = connected_then(MqttSilentError("no message"))
    receiver, _, _ = await _connect(monkeypatch, tmp_path, [with_message, silent, with_retained, with_message, silent])
    assert len(receiver.packets) == 3
    assert [outage.gap.reason for outage in receiver.outages] == ["no message; the broker kept our session"] * 2


async def test_an_earlier_process_leaves_an_outage_where_the_session_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    StateFile(tmp_path / "mqtt.json").write({"alive": {"fleetlake": "2026-03-16T00:00:00Z"}})
    receiver, _, _ = await _connect(monkeypatch, tmp_path, [connected_then(MqttError("x"), session_present=False)])
    first = receiver.outages[0]
    assert (first.gap.start, first.gap.reason) == (T0, "not running; the broker has forgotten our session")
    receiver, _, _ = await _connect(monkeypatch, tmp_path, [connected_then(MqttError("x"), session_present=True)])
    assert [outage.gap.reason for outage in receiver.outages] == []


def test_an_end_without_a_reason_is_said_as_such() -> None:
    end = ReasonCode(PacketTypes.DISCONNECT, "Unspecified error")
    assert because("connection lost", end) == "connection lost, no reason given"
    assert because("refused", ReasonCode(PacketTypes.CONNACK, "Not authorized")) == "refused: Not authorized"
