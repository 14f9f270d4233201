"""WAYSCloud end to end: real MQTT brokers (amqtt always, Mosquitto where it is installed), real Kafka."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from connectors.common import STAGE
from connectors.common.publisher import Publisher
from connectors.wayscloud.checks import check
from runtime.kafka import KafkaSettings
from runtime.metrics import LEFT_OUT
from simulators.wayscloud import BrokerOptions, run_mqtt_broker
from tests.connectors.wayscloud import mosquitto_broker, running, sensors, settings_for, subscribed
from tests.support.tails import RawTail, Tail
from tests.support.waiting import eventually, passing


class RunningBroker(NamedTuple):
    port: int
    version: str
    """What it speaks; told, for finding out takes a second (see the test of that)."""


@pytest.fixture(params=["amqtt", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
async def broker(
    request: pytest.FixtureRequest, tmp_path: Path, unused_port: Callable[[], int]
) -> AsyncIterator[RunningBroker]:
    if request.param == "amqtt":
        async with run_mqtt_broker() as port:
            yield RunningBroker(port, "3.1.1")
    else:
        async with mosquitto_broker(tmp_path, unused_port()) as port:
            yield RunningBroker(port, "5")


async def test_payloads_of_every_shape_arrive_verbatim(
    broker: RunningBroker, publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    shapes = [
        b"22.5",
        b"0012",
        "früh".encode(),
        b'{"value":22.5,"timestamp":"2026-03-30T09:55:00Z"}',
        b'{"temperature": 22.5, "humidity":45.2}',
    ]
    async with (
        running(settings_for(broker.port, mqtt_version=broker.version), publisher, tmp_path),
        sensors(broker.port) as send,
    ):
        await subscribed(send, raw)
        await send("devices/sensor 1/sensors/temperature", *shapes)
        await send("devices/s2/sensors/mode", b'{"value": ', b"\xff\xfe", b"")
        big = b'{"value":"' + b"word " * 200_000 + b'"}'
        await send("devices/s3/sensors/mode", big)
        await raw.envelopes(lambda found: any(len(e.data) > 900_000 for e in found))
        found = await raw.envelopes(lambda found: sum(e.device_id == "wayscloud:sensor 1" for e in found) >= 5)
        letters = await dead_tail.dead_letters(3)
    mine = [e for e in found if e.device_id == "wayscloud:sensor 1"]
    assert [e.data for e in mine] == shapes
    assert {e.attributes["mqtttopic"] for e in mine} == {"devices/sensor 1/sensors/temperature"}
    assert {e.type for e in found} == {"wayscloud.publish"}
    assert Counter(p.reason for d in letters if d.device_id == "wayscloud:s2" for p in d.problems) == Counter(
        ["not_json", "not_utf8", "missing"]
    )


async def test_what_came_while_we_were_away_is_delivered(
    broker: RunningBroker, publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    settings = settings_for(broker.port, "fleetlake-away", mqtt_version=broker.version)
    async with sensors(broker.port) as send:
        async with running(settings, publisher, tmp_path):
            await subscribed(send, raw, "devices/probe/sensors/mode")
        await send("devices/a/sensors/temperature", *(str(n).encode() for n in range(50)))
        async with running(settings, publisher, tmp_path):
            found = await raw.envelopes(lambda found: sum(e.device_id == "wayscloud:a" for e in found) >= 50)
    values = [int(e.data) for e in found if e.device_id == "wayscloud:a"]
    assert values == list(range(50)), "order and number"


async def test_nothing_is_acknowledged_while_kafka_is_away(
    broker: RunningBroker, kafka_settings: KafkaSettings, publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    settings = settings_for(broker.port, "fleetlake-kafka-away", mqtt_version=broker.version)
    async with sensors(broker.port) as send:
        async with running(settings, publisher, tmp_path):
            await subscribed(send, raw)
        nowhere = Publisher(KafkaSettings(bootstrap_servers="127.0.0.1:9"))
        await nowhere.start()
        async with running(settings, nowhere, tmp_path):
            await send(
                "devices/b/sensors/temperature",
                *(b'{"value":%d,"timestamp":"2026-03-30T09:55:00Z"}' % n for n in range(10)),
            )
            await eventually(lambda: nowhere.problem is not None)
            await passing(0.5, "time in which it might acknowledge them")
        await nowhere.stop(0.1)
        assert nowhere.problem
        async with running(settings, publisher, tmp_path):
            found = await raw.envelopes(lambda found: len({e.id for e in found if e.device_id == "wayscloud:b"}) >= 10)
    assert sorted({json.loads(e.data)["value"] for e in found if e.device_id == "wayscloud:b"}) == list(range(10))


async def test_a_retained_message_is_counted_and_left_out(
    broker: RunningBroker, publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("wayscloud")
    counter = LEFT_OUT.labels(STAGE, "wayscloud", "retained")
    before = counter._value.get()
    async with sensors(broker.port) as send:
        await send("devices/c/sensors/temperature", b"11", retain=True)
        async with running(
            settings_for(broker.port, "fleetlake-retained", mqtt_version=broker.version), publisher, tmp_path
        ):
            await subscribed(send, raw)
            await send("devices/c/sensors/temperature", b"12")
            await raw.envelopes(lambda found: any(e.device_id == "wayscloud:c" for e in found))
            found = await raw.envelopes(lambda found: True)
    assert [e.data for e in found if e.device_id == "wayscloud:c"] == [b"12"]
    assert counter._value.get() == before + 1


async def test_a_broker_that_is_not_there_is_retried_and_reported(
    unused_port: Callable[[], int],
    publisher: Publisher,
    raw_tail: RawTail,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = await raw_tail("wayscloud")
    caplog.set_level("INFO")
    port = unused_port()
    settings = settings_for(port, mqtt_version="3.1.1")
    results = await check(settings, tmp_path)
    assert not results[-1].ok and "refused" in results[-1].detail
    async with running(settings, publisher, tmp_path):
        await eventually(lambda: any("no connection" in r.getMessage() for r in caplog.records))
        async with run_mqtt_broker(BrokerOptions(port=port)), sensors(port) as send:
            await subscribed(send, raw)
            assert all(r.ok for r in await check(settings, tmp_path))
    lines = [r.getMessage() for r in caplog.records if r.name == "connectors.common.connection_log"]
    assert [line.split(": ")[1][:13] for line in lines[:2]] == ["no connection", "connected aga"]
