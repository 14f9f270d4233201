"""WAYSCloud through thick and thin: share groups, restarts, lost sessions, silence, real processes, real brokers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from connectors.common.publisher import Publisher
from connectors.wayscloud.checks import check
from connectors.wayscloud.settings import DeviceCredentials, WayscloudSettings
from schemas import wire
from schemas.envelope import GAP, Envelope
from schemas.topics import READINGS, raw_topic
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import SimulatorSettings, WaysCloudSimulator
from simulators.wayscloud import BrokerOptions, Manners, SensorFleet, WaysCloud, run_mqtt_broker
from tests.connectors.wayscloud import listening, mosquitto_broker, running, sensors, settings_for, subscribed
from tests.support.normalising import normalise_step, raw
from tests.support.tails import RawTail
from tests.support.waiting import eventually, passing

TOPIC = raw_topic("wayscloud")


@contextmanager
def workers(kafka: str, data: Path) -> Iterator[Callable[[WayscloudSettings], subprocess.Popen[bytes]]]:
    """Starts connector processes on one state folder; all are gone at the end. Logs: `worker-<n>.log`."""
    started: list[subprocess.Popen[bytes]] = []

    def start(settings: WayscloudSettings) -> subprocess.Popen[bytes]:
        with (data / f"worker-{len(started)}.log").open("wb") as log:
            text = settings.model_dump_json(exclude={"api_key", "mqtt_password"})
            arguments = [sys.executable, "-m", "tests.connectors.wayscloud_worker", kafka, str(data), text]
            started.append(subprocess.Popen(arguments, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def timed(number: int) -> bytes:
    return b'{"value":%d,"timestamp":"2026-03-30T09:00:00Z"}' % number


def by_value(found: list[Envelope], device: str) -> Counter[int]:
    """How often each number came, each envelope id once: what the normaliser drops is not counted."""
    mine = [e for e in found if e.device_id == f"wayscloud:{device}" and e.type == "wayscloud.publish"]
    ids = {e.id: json.loads(e.data) for e in mine if e.data != b"hello"}
    return Counter(body["value"] if isinstance(body, dict) else body for body in ids.values())


@pytest.mark.mosquitto
async def test_a_share_group_splits_the_load_and_a_killed_member_loses_nothing(
    kafka: str, publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    total = 3000
    tail = await raw_tail("wayscloud")

    def all_there(found: list[Envelope]) -> bool:
        return len(found) >= total and len(by_value(found, "a")) == total

    async with mosquitto_broker(tmp_path, unused_port()) as port:
        settings = settings_for(port, "fleetlake-share", share_group="fleet")
        with workers(kafka, tmp_path) as start:
            first, _ = start(settings), start(settings)
            async with sensors(port) as send:
                for _ in range(100):
                    await send("devices/probe/sensors/mode", b"hello", b"hello")
                    owners = {e.attributes["mqttpacket"].split("/")[0] for e in await tail.envelopes(lambda _: True)}
                    await tail.quiet(0.2)
                    if len(owners) == 2:
                        break
                assert owners == {"fleetlake-share-0", "fleetlake-share-1"}
                await send("devices/a/sensors/t", *map(timed, range(total // 3)))
                sending = asyncio.create_task(send("devices/a/sensors/t", *map(timed, range(total // 3, total))))
                await passing(0.05, "some of the messages have been sent, and not all")
                first.send_signal(signal.SIGKILL)
                first.wait(10)
                await sending
                killed_at = time.monotonic()
                start(settings)
                found = await tail.envelopes(all_there, 60)
    print(f"all {total} there {time.monotonic() - killed_at:.1f} s after the restart")
    assert set(by_value(found, "a").values()) == {1}
    before = Counter(
        e.attributes["mqttpacket"].split("/")[0]
        for e in {e.id: e for e in found}.values()
        if e.device_id == "wayscloud:a" and json.loads(e.data)["value"] < total // 3
    )
    print(f"shares before the kill: {dict(before)}; records for {total} messages: {len(found)}")
    assert min(before.values()) > total // 3 * 0.3 and len(before) == 2


@pytest.mark.mosquitto
@pytest.mark.parametrize(("total", "restarts"), [(3000, 1), pytest.param(60_000, 6, marks=pytest.mark.chaos)])
async def test_a_broker_restarted_in_mid_flow_loses_nothing(
    total: int,
    restarts: int,
    publisher: Publisher,
    raw_tail: RawTail,
    tmp_path: Path,
    unused_port: Callable[[], int],
) -> None:
    port = unused_port()
    found_tail = await raw_tail("wayscloud")

    values: set[int] = set()
    looked_at = 0

    def all_there(found: list[Envelope]) -> bool:
        """Looks at what is new only: the connector shares this loop, and there are a hundred thousand."""
        nonlocal looked_at
        values.update(by_value(found[looked_at:], "a"))
        looked_at = len(found)
        return len(values) == total

    settings = settings_for(port, "fleetlake-restart")

    async def received(part: int) -> None:
        """Until the middle of this part of the messages is in Kafka."""
        enough = total * (2 * part + 1) // (2 * restarts)
        found = await found_tail.envelopes(lambda found: len(found) > enough, 60)
        assert len(by_value(found, "a")) < total, "the broker goes down in mid flow"

    async with contextlib.AsyncExitStack() as life:
        async with mosquitto_broker(tmp_path, port):
            await life.enter_async_context(running(settings, publisher, tmp_path))
            send = await life.enter_async_context(sensors(port))
            await subscribed(send, found_tail, "devices/a/sensors/mode")  # so that a is known, and has a gap
            sending = asyncio.create_task(send("devices/a/sensors/t", *map(timed, range(total))))
            await received(0)
        for part in range(1, restarts):
            async with mosquitto_broker(tmp_path, port):
                await received(part)
        down = time.monotonic()
        async with mosquitto_broker(tmp_path, port):
            await sending
            await found_tail.envelopes(all_there, 60)
            print(f"all {total} there {time.monotonic() - down:.1f} s after the broker went down")
            found = await found_tail.envelopes(lambda found: len(_gaps(found)) >= restarts)
    counts = by_value(found, "a")
    assert set(counts) == set(range(total)) and set(counts.values()) == {1}
    reasons = [json.loads(gap.data)["reason"] for gap in _gaps(found)]
    assert len(reasons) == restarts and all("kept our session" in reason for reason in reasons)
    readings = [r for device, r in readings_of(found) if device == "wayscloud:a" and r.metric == "wayscloud.t"]
    records = sum(e.device_id == "wayscloud:a" and e.attributes.get("mqtttopic", "").endswith("/t") for e in found)
    print(
        f"sent {total}, {restarts} restarts; in Kafka {records} records, {len(counts)} messages; told {len(readings)}"
    )
    assert sorted(r.value_number or 0 for r in readings) == list(range(total))


@pytest.mark.mosquitto
@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_a_backlog_that_the_broker_sends_before_its_suback_is_taken(
    version: str, publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    """A persistent session's messages come right after CONNACK, more of them than the connector takes at once."""
    total = 6000
    tail = await raw_tail("wayscloud")
    settings = settings_for(unused_port(), f"fleetlake-backlog-{version}", mqtt_version=version, max_in_flight=100)
    async with (
        mosquitto_broker(tmp_path, settings.mqtt_port, more="max_inflight_messages 0\n"),
        sensors(settings.mqtt_port) as send,
    ):
        async with running(settings, publisher, tmp_path):
            await subscribed(send, tail)
        await send("devices/a/sensors/t", *map(timed, range(total)))
        async with running(settings, publisher, tmp_path):
            envelopes = await tail.envelopes(lambda envelopes: len(by_value(envelopes, "a")) == total, 60)
    assert set(by_value(envelopes, "a").values()) == {1}


def _gaps(found: list[Envelope]) -> list[Envelope]:
    return list({e.id: e for e in found if e.type == GAP and e.device_id == "wayscloud:a"}.values())


def readings_of(found: list[Envelope]) -> list[tuple[str, wire.Reading]]:
    """What the normaliser makes of raw records in the order they came."""
    step = normalise_step(TOPIC)
    outputs = step.process([raw(envelope, number, TOPIC) for number, envelope in enumerate(found)], 0)
    observations = [wire.decode_observation(o.value or b"") for o in outputs if o.topic == READINGS]
    return [(o.device_id, reading) for o in observations for reading in o.readings]


@asynccontextmanager
async def cloud_of(fleet: SensorFleet, settings: SimulatorSettings) -> AsyncIterator[tuple[str, WaysCloud]]:
    api = WaysCloud(settings, time.time, fleet.sensors, fleet.store)
    async with serve(api.app(), "127.0.0.1", 0) as port:
        yield f"http://127.0.0.1:{port}", api


def simulated(port: int, **more: Any) -> SimulatorSettings:
    given: dict[str, Any] = {"devices": 3, "rate": 20, "mqtt_port": port, "embedded_broker": False} | more
    return SimulatorSettings(faults=FaultSettings.none(), wayscloud=WaysCloudSimulator(**given))


def read_text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.mosquitto
async def test_what_a_lost_session_held_is_read_back_and_nothing_is_told_twice(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    """The broker forgets its sessions while we are away; sensors go on. Each stored value must be told exactly once."""
    port = unused_port()
    chosen = simulated(port, fail_every=7)
    fleet = SensorFleet(chosen, time.time, lambda _: None)
    tail = await raw_tail("wayscloud")
    async with cloud_of(fleet, chosen) as (url, _):
        settings = settings_for(
            port,
            "fleetlake-lost",
            api_url=url,
            api_key=chosen.wayscloud.api_key,
            requests_per_second=100,
            backfill_delay_seconds=0.2,
            backfill_overlap_seconds=1,
            backfill_reach_seconds=1,
            keepalive_seconds=5,
        )
        async with contextlib.AsyncExitStack() as life:
            forgetful = mosquitto_broker(tmp_path, port, persistence=False)
            async with forgetful, running(settings, publisher, tmp_path):
                async with sensors(port) as send:
                    while all(e.device_id != "wayscloud:probe" for e in await tail.envelopes(lambda _: True)):
                        await send("devices/probe/sensors/mode", b"hello")
                        await tail.quiet(0.2)
                await life.enter_async_context(fleet.publishing())
                await eventually(lambda: '"probe", "sensor' in read_text(tmp_path / "wayscloud-devices.json"), 20)
                await passing(1, "the sensors publish something that is heard")
            async with mosquitto_broker(tmp_path, port, persistence=False):  # it knows nobody any more
                await passing(1.5, "the sensors publish what nobody hears")
                async with running(settings, publisher, tmp_path):
                    backfill = tmp_path / "wayscloud-backfill-fleetlake-lost.json"
                    await eventually(backfill.exists)
                    await eventually(lambda: json.loads(backfill.read_text()) == {"windows": []}, 25)
                    await life.aclose()  # the sensors stop
                    await passing(0.5, "until what they sent last has arrived")
        found = await tail.envelopes(lambda found: any(e.type == "wayscloud.telemetry.log" for e in found))
        while (count := len(found)) >= 0:
            await tail.quiet(0.5)
            found = await tail.envelopes(lambda _: True)
            if len(found) == count:
                break
    gaps = [json.loads(e.data)["reason"] for e in found if e.type == GAP]
    assert len(gaps) == 4 and all("forgotten our session" in reason for reason in gaps)
    for sensor in fleet.sensors:
        mine = [e for e in found if e.device_id == f"wayscloud:{sensor.device_id}"]
        telling = [e for e in mine if e.type in ("wayscloud.publish", "wayscloud.telemetry.log")]
        readings = [reading for _, reading in readings_of(telling)]
        rows = [str(row) for row in fleet.store.rows(sensor.device_id, 0, time.time())]
        if sensor.style != "scalar":  # the same value at the same millisecond is one reading
            rows = list(set(rows))
        back = sum(json.loads(e.data).__len__() for e in telling if e.type == "wayscloud.telemetry.log")
        print(f"{sensor.style}: {len(rows)} stored, {len(readings)} told, {len(telling)} records, {back} rows read")
        assert len({str(reading) for reading in readings}) == len(readings) == len(rows)
        assert back > len(rows) / 5, "something was read back"


async def test_a_connection_that_falls_silent_is_made_anew_and_told_once(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    manners, tail = Manners(), await raw_tail("wayscloud")
    async with run_mqtt_broker(manners=manners) as port, sensors(port) as send:
        settings = settings_for(port, "fleetlake-silent", silent_seconds=0.5, mqtt_version="3.1.1")
        async with running(settings, publisher, tmp_path):
            await subscribed(send, tail)
            manners.silence()
            connections = len(manners._handlers)
            await send("devices/a/sensors/t", *map(timed, range(5)))
            found = await tail.envelopes(lambda found: len(by_value(found, "a")) == 5)
            await eventually(lambda: len(manners._handlers) >= connections + 3)  # it goes on being silent
    assert all(e.attributes["mqttdup"] == "true" for e in found if e.device_id == "wayscloud:a")
    lines = [r.getMessage() for r in caplog.records if r.name == "connectors.common.connection_log"]
    assert [re.sub(r":\d+", "", line) for line in lines][:3] == [
        "wayscloud mqtt: connected to 127.0.0.1",
        "wayscloud mqtt: no connection to 127.0.0.1 (no message for 0.5 s); trying again",
        "wayscloud mqtt: connected again to 127.0.0.1",
    ]
    assert len(lines) <= 5, "one line down and one up for each silence that news have ended"
    await tail.quiet(0.5)
    gaps = [e for e in await tail.envelopes(lambda _: True) if e.type == GAP]
    assert gaps and "no message for 0.5 s; the broker kept our session" in json.loads(gaps[0].data)["reason"]


async def test_a_broker_that_sends_twice_with_dup_is_told_once(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    manners, tail = Manners(redeliver_every=3), await raw_tail("wayscloud")
    async with (
        run_mqtt_broker(manners=manners) as port,
        sensors(port) as send,
        running(settings_for(port, "fleetlake-dup", mqtt_version="3.1.1"), publisher, tmp_path),
    ):
        await subscribed(send, tail)
        await send("devices/a/sensors/door_open", *[b"true", b"false"] * 30)
        await tail.envelopes(lambda found: sum(e.device_id == "wayscloud:a" for e in found) >= 80)
    found = [e for e in await tail.envelopes(lambda _: True) if e.device_id == "wayscloud:a"]
    assert sum("mqttdup" in e.attributes for e in found) >= 20
    assert Counter(r.value_boolean for _, r in readings_of(found)) == {True: 30, False: 30}


@pytest.mark.mosquitto
async def test_devices_with_credentials_of_their_own(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    names = {"sensor-1": "one", "sensor-2": "two", "all": "secret"}
    tail = await raw_tail("wayscloud")
    async with (
        mosquitto_broker(tmp_path, unused_port(), logins=names) as port,
        sensors(port, ("all", "secret")) as send,
    ):
        each = [
            DeviceCredentials(device_id=name, username=name, password=names[name])  # type: ignore[arg-type]
            for name in ("sensor-1", "sensor-2")
        ]
        settings = settings_for(port, "fleetlake-each", device_credentials=each)
        async with running(settings, publisher, tmp_path):
            await subscribed(send, tail, "devices/sensor-1/sensors/mode")
            await subscribed(send, tail, "devices/sensor-2/sensors/mode")
            await send("devices/sensor-3/sensors/t", b"1")
            await send("devices/sensor-2/sensors/t", b"2")
            found = await tail.envelopes(lambda found: any(e.data == b"2" for e in found))
        owners = {(e.device_id, e.attributes["mqttpacket"].split("/")[0]) for e in found}
        assert owners == {(f"wayscloud:{name}", f"fleetlake-each-{name}") for name in ("sensor-1", "sensor-2")}
        results = {result.name: result.ok for result in await check(settings, tmp_path)}
        assert results == {"wayscloud: MQTT sensor-1": True, "wayscloud: MQTT sensor-2": True}
        wrong = settings.model_copy(
            update={"device_credentials": [each[0].model_copy(update={"username": "sensor-2"})]}
        )
        (refused,) = await check(wrong, tmp_path)
        assert not refused.ok and re.search("(?i)authori|password", refused.detail)


@pytest.mark.mosquitto
async def test_over_tls_with_the_broker_that_rest_names(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    secure, plain, tail = unused_port(), unused_port(), await raw_tail("wayscloud")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    more = f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.pem\nlistener {plain} 127.0.0.1"
    chosen = simulated(plain, mqtt_tls_port=secure)
    fleet = SensorFleet(chosen, time.time, lambda _: None)
    async with mosquitto_broker(tmp_path, secure, more=more), cloud_of(fleet, chosen) as (url, _):
        await eventually(lambda: listening(plain))
        settings = settings_for(
            0,
            "fleetlake-tls",
            mqtt_host="",
            mqtt_tls=True,
            mqtt_ca_file=tmp_path / "authority.pem",
            api_url=url,
            api_key=chosen.wayscloud.api_key,
            requests_per_second=100,
        )
        async with running(settings, publisher, tmp_path), sensors(plain) as send:
            await subscribed(send, tail)
        results = await check(settings, tmp_path)
        assert all(result.ok for result in results), results
        assert results[-1].detail == f"127.0.0.1:{secure} lets us in"
        untrusted = await check(settings.model_copy(update={"mqtt_ca_file": None}), tmp_path)
        assert not untrusted[-1].ok and "certificate is not trusted" in untrusted[-1].detail


@pytest.mark.parametrize("broker", ["amqtt", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
async def test_mqtt_over_websocket(
    broker: str, publisher: Publisher, raw_tail: RawTail, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    tail, plain, web = await raw_tail("wayscloud"), unused_port(), unused_port()
    more = f"listener {web} 127.0.0.1\nprotocol websockets"
    made = (
        run_mqtt_broker(BrokerOptions(port=web, websockets=True))
        if broker == "amqtt"
        else mosquitto_broker(tmp_path, plain, more=more)
    )
    async with made:
        await eventually(lambda: listening(web))
        settings = settings_for(web, "fleetlake-web", mqtt_transport="websockets")
        (result,) = await check(settings, tmp_path)
        assert result.ok, result.detail
        if broker == "mosquitto":
            async with running(settings, publisher, tmp_path), sensors(plain) as send:
                await subscribed(send, tail)


async def test_a_broker_without_mqtt_5_is_known_after_a_restart(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    tail = await raw_tail("wayscloud")
    memory = tmp_path / "wayscloud-mqtt-fleetlake-old.json"
    async with run_mqtt_broker() as port, sensors(port) as send:
        settings = settings_for(port, "fleetlake-old")
        took = []
        for _ in range(2):
            started = time.monotonic()
            async with running(settings, publisher, tmp_path):
                await subscribed(send, tail)
                took.append(time.monotonic() - started)
                await eventually(lambda: memory.exists() and "old_brokers" in memory.read_text(), 20)
    print(f"first {took[0]:.1f} s, then {took[1]:.1f} s")
    assert took[0] < 4
    assert list(json.loads(memory.read_text())["old_brokers"]) == [f"127.0.0.1:{port}"]
