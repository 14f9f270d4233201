"""WAYSCloud: MQTT through the embedded broker with a real client, and the REST API."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import SimulatorSettings, WaysCloudSimulator
from simulators.wayscloud import BrokerOptions, SensorFleet, WaysCloud, run_mqtt_broker
from tests.simulators.clock import Clock, Truth
from tests.support.waiting import eventually, passing


@contextmanager
def subscriber(
    port: int, login: tuple[str, str] | None = None, manual_ack: bool = False
) -> Iterator[tuple[list[mqtt.MQTTMessage], list[str]]]:
    """What arrives on `devices/+/sensors/#`, and how the connection went."""
    messages: list[mqtt.MQTTMessage] = []
    results: list[str] = []
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="test", clean_session=False, manual_ack=manual_ack)
    if login is not None:
        client.username_pw_set(*login)

    def on_connect(client: mqtt.Client, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        results.append(str(reason))
        client.subscribe("devices/+/sensors/#", 1)

    client.on_connect = on_connect
    client.on_subscribe = lambda *a: results.append("subscribed")
    client.on_message = lambda c, u, message: messages.append(message)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    try:
        yield messages, results
    finally:
        client.disconnect()
        client.loop_stop()


@contextmanager
def publisher(port: int) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="publisher")
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def settings(port: int = 1883, faults: FaultSettings | None = None, **wayscloud: Any) -> SimulatorSettings:
    given = {"devices": 3, "rate": 30, "mqtt_port": port, "embedded_broker": False} | wayscloud
    return SimulatorSettings(faults=faults or FaultSettings.none(), wayscloud=WaysCloudSimulator(**given))


async def test_sensors_publish_in_three_styles(clock: Clock, truth: Truth) -> None:
    async with run_mqtt_broker() as port:
        fleet = SensorFleet(settings(port), clock, truth.append)
        with subscriber(port) as (messages, results):
            await eventually(lambda: "subscribed" in results)
            async with fleet.publishing():
                await eventually(lambda: len(messages) > 100)
    assert {message.qos for message in messages} == {1} and not any(message.retain for message in messages)
    payloads: dict[tuple[str, str], bytes] = {}
    for message in messages:
        _, device, _, datapoint = message.topic.split("/")
        payloads[device, datapoint] = bytes(message.payload)
    assert {datapoint for device, datapoint in payloads if device == "sensor-003"} == {"all"}
    assert set(json.loads(payloads["sensor-001", "temperature"])) == {"value", "timestamp"}
    assert 10 < float(payloads["sensor-002", "temperature"]) < 32
    assert payloads["sensor-002", "mode"] in (b"eco", b"comfort")
    assert payloads["sensor-002", "door_open"] in (b"true", b"false")
    assert set(json.loads(payloads["sensor-003", "all"])) == {
        *("temperature", "humidity", "battery_level", "pressure", "signal_strength", "door_open", "mode"),
        "timestamp",
    }


async def test_planted_faults_are_what_arrives(clock: Clock, truth: Truth) -> None:
    planted = FaultSettings(start_after=0.3, spacing=0.1, crossing_seconds=1)
    async with run_mqtt_broker() as port:
        fleet = SensorFleet(settings(port, planted, devices=6, client_per_device=True), clock, truth.append)
        with subscriber(port) as (messages, results):
            await eventually(lambda: "subscribed" in results)
            async with fleet.publishing():
                await eventually(lambda: len(truth) == 16)
                await passing(2.5, "the sensor whose connection was cut comes back")
    kinds = Counter(line["kind"] for line in truth)
    assert kinds == {"crossing": 4, "malformed": 6, "duplicate": 3, "late": 2, "disconnect": 1}
    digests = Counter(hashlib.sha256(message.payload).hexdigest() for message in messages)
    for line in truth:
        if "sha256" in line["detail"]:
            assert digests[line["detail"]["sha256"]] >= (2 if line["kind"] == "duplicate" else 1), line
    crossed = {line["device_id"] for line in truth if line["kind"] == "crossing"}
    assert crossed == shows_beyond(messages) and len(crossed) == 2
    cut = next(line["device_id"] for line in truth if line["kind"] == "disconnect").partition(":")[2]
    assert any(message.topic.split("/")[1] == cut for message in messages[-60:])


def shows_beyond(messages: list[mqtt.MQTTMessage]) -> set[str]:
    """Devices with a temperature above 40 or a battery below 15, in any style of payload."""
    beyond = set()
    for message in messages:
        _, device, _, datapoint = message.topic.split("/")
        try:
            payload = json.loads(message.payload)
        except ValueError:
            continue
        values = payload if datapoint == "all" else {datapoint: payload}
        for name, value in values.items():
            number = value.get("value") if isinstance(value, dict) else value
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if (name == "temperature" and number > 40) or (name == "battery_level" and number < 15):
                beyond.add(f"wayscloud:{device}")
    return beyond


async def test_the_broker_keeps_messages_for_an_absent_client(clock: Clock, truth: Truth) -> None:
    async with run_mqtt_broker() as port:
        with subscriber(port) as (_, results):
            await eventually(lambda: "subscribed" in results)
        async with SensorFleet(settings(port), clock, truth.append).publishing():
            await passing(0.5, "some seconds' worth of messages, which nobody hears")
        with subscriber(port) as (missed, _):
            await eventually(lambda: len(missed) > 5)
            assert not any(message.retain for message in missed)


async def test_the_broker_keeps_messages_until_they_are_acknowledged() -> None:
    async with run_mqtt_broker() as port:
        with subscriber(port, manual_ack=True) as (held, results):
            await eventually(lambda: "subscribed" in results)
            with publisher(port) as client:
                for number in range(20):
                    client.publish("devices/a/sensors/count", str(number), qos=1)
                await eventually(lambda: len(held) == 20)
                await passing(6, "longer than stock amqtt waits for an acknowledgement")
        with subscriber(port) as (again, _):
            await eventually(lambda: len(again) == 20)
        assert [message.payload for message in again] == [message.payload for message in held]
        assert all(message.dup and not message.retain for message in again)
        for _ in range(5):  # an acknowledgement may have been on its way when the connection ended
            with subscriber(port) as (rest, results):
                await eventually(lambda: "subscribed" in results)
                await passing(0.5, "time in which the rest may come")
            if not rest:
                break
        assert not rest, "what was acknowledged comes again and again"


async def test_sensors_wait_until_they_are_heard(clock: Clock, truth: Truth) -> None:
    heard = asyncio.Event()
    at_once = FaultSettings.none().model_copy(update={"duplicates": 1, "start_after": 0})
    async with run_mqtt_broker(subscribed=heard) as port:
        fleet = SensorFleet(settings(port, at_once), clock, truth.append, heard)
        async with fleet.publishing():
            await passing(0.5, "time in which they might begin too early")
            assert not truth and not heard.is_set()
            with subscriber(port) as (messages, _):
                await eventually(lambda: truth and messages)


async def test_the_broker_wants_the_password_it_was_given() -> None:
    async with run_mqtt_broker(BrokerOptions(username="sensors", password="secret")) as port:
        with subscriber(port, ("sensors", "wrong")) as (_, results):
            await eventually(lambda: results)
        assert results[0] != "Success"
        with subscriber(port, ("sensors", "secret")) as (_, results):
            await eventually(lambda: results)
        assert results[0] == "Success"


async def test_rest_is_paged_guarded_and_as_documented(clock: Clock, truth: Truth) -> None:
    chosen = settings(devices=45, api_key=SecretStr("key"))
    api = WaysCloud(chosen, clock, SensorFleet(chosen, clock, truth.append).sensors)
    async with serve(api.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as session:
        base = api.endpoints("127.0.0.1", port)["wayscloud.rest_url"] + "/v1/iot"

        async def get(path: str, key: str = "key", status: int = 200) -> Any:
            async with session.get(base + path, headers={"X-API-Key": key}) as response:
                assert response.status == status, path
                return await response.json()

        assert await get("/devices", key="wrong", status=401) == {"detail": "Invalid API key"}
        pages = [await get(f"/devices?page={number}") for number in (1, 2, 3)]
        assert [len(page["devices"]) for page in pages] == [20, 20, 5]
        assert [page["has_more"] for page in pages] == [True, True, False]
        devices = [device for page in pages for device in page["devices"]]
        assert len({device["device_id"] for device in devices}) == 45
        assert any("last_seen" not in device for device in devices)
        await get("/devices?page=0", status=422)
        device = await get("/devices/sensor-001")
        assert device["tags"] == (await get("/devices/sensor-001/tags"))["tags"]
        assert (await get("/devices/sensor-001/health"))["components"]["uptime"] <= 100
        await get("/devices/nobody", status=404)
        definitions = {each["id"]: each for each in (await get("/datapoints"))["datapoints"]}
        latest = await get("/devices/sensor-001/telemetry/latest")
        assert {row["datapoint_id"] for row in latest} == definitions.keys()
        rows = await get("/devices/sensor-001/telemetry?datapoint=temperature")
        assert len(rows) == 10 and {row["name"] for row in rows} == {"temperature"}
        rules = (await get("/rules"))["rules"]
        assert all("config" not in rule for rule in rules)
        assert (await get(f"/rules/{rules[0]['id']}"))["config"]["datapoint_id"] in definitions
        alarms = await get("/alarms?status=resolved")
        assert alarms["page_size"] == 50 and {alarm["status"] for alarm in alarms["alarms"]} == {"resolved"}
        timeline = await get(f"/alarms/{alarms['alarms'][0]['id']}/timeline")
        assert [(step["id"], step["event_type"]) for step in timeline] == [(1, "triggered"), (2, "resolved")]
        for path in ("/groups", "/profiles", "/subscription", "/usage", "/stats", "/alarms/summary"):
            await get(path)
        assert (await get("/credentials"))["mqtt_broker"]["port"] == 1883
        assert (await get("/notifications/deliveries"))["limit"] == 50
