"""ClimaSense beside telemetry: settings, commands, firmware, sensors. HTTP on loopback, real Kafka, real databases."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.climasense.connector import ClimasenseConnector, store_of
from connectors.climasense.protocol import Provisioned
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.firmware import CHUNK_BYTES
from connectors.climasense.store.store import Store
from connectors.common.context import Context
from connectors.common.publisher import Publisher
from runtime.api_keys import hash_key
from runtime.kafka import KafkaSettings
from schemas.climasense import ENDPOINTS, openapi
from schemas.envelope import Envelope, dedupe_window_seconds
from schemas.topics import DEVICES
from schemas.wire import Device, Event, Origin, decode_device
from streams.normalise import Options, normalise
from tests.support.tails import OpenTail, RawTail, Tail
from tests.support.waiting import eventually

HUB, SENSOR, OTHER = "sk_hub_1", "sk_sensor_1", "sk_hub_2"
IMAGE = bytes(range(256)) * 3000  # three chunks, the last one short


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Served:
    """A running server, its database, and a client."""

    http: aiohttp.ClientSession
    store: Store
    settings: ClimasenseSettings

    async def ask(self, method: str, path: str, body: object = None, key: str | None = HUB, **headers: str) -> Answer:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = ({"Authorization": f"Bearer {key}"} if key else {}) | headers
        async with self.http.request(method, path, data=data, headers=sent) as response:
            return Answer(response.status, await response.read(), response.headers)


def provision(store: Store) -> None:
    store.keys.add(Provisioned("hub-1", hash_key(HUB), "hub", "b1"), now())
    store.keys.add(Provisioned("hub-2", hash_key(OTHER), "hub", "b2"), now())
    store.keys.add(Provisioned("sensor-1", hash_key(SENSOR), "sensor", "b1", "SN-7"), now())


@asynccontextmanager
async def serve(publisher: Publisher, folder: Path, **options: Any) -> AsyncIterator[Served]:
    settings = ClimasenseSettings(**{"port": 0, "keys_seconds": 0.05, **options})
    store = store_of(settings, folder)
    if not store.keys.all():
        provision(store)
    connector = ClimasenseConnector(settings, Context(publisher, folder))
    task = asyncio.create_task(connector.run())
    await eventually(lambda: connector.port or task.done())
    assert not task.done(), task.exception()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{connector.port}") as http:
            yield Served(http, store, settings)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        store.close()


def events_of(envelope: Envelope) -> list[Event]:
    result = normalise(envelope, Origin("t", 0, 0), Options())
    assert result.dead_letter is None
    return result.events.events if result.events else []


async def devices(tail: Tail, enough: Callable[[dict[str, Device]], bool]) -> dict[str, Device]:
    def latest(records: list[Any]) -> dict[str, Device]:
        return {device.device_id: device for device in (decode_device(r.value or b"") for r in records)}

    return latest(await tail.until(lambda records: enough(latest(records))))


# -- settings


async def test_settings_are_read_and_partly_updated(publisher: Publisher, tail: OpenTail, tmp_path: Path) -> None:
    registry = await tail(DEVICES)
    documented = {
        "reporting_interval_seconds": 60,
        "enabled_sensors": ["string"],
        "location": {"latitude": -90, "longitude": -180, "name": "Marina Berth 12"},
        "timezone": "America/Los_Angeles",
    }
    async with serve(publisher, tmp_path) as served:
        first = await served.ask("GET", "/v1/settings")
        assert (first.status, first.json["reporting_interval_seconds"], first.json["timezone"]) == (200, 60, "UTC")
        assert "location" not in first.json
        whole = await served.ask("PATCH", "/v1/settings", documented)
        assert (whole.status, whole.json) == (200, documented)
        partly = {"location": {"latitude": 48.1}, "timezone": None, "led_brightness": 3}
        merged = await served.ask("PUT", "/v1/settings", partly)
        expected = documented | {"location": {"latitude": 48.1, "longitude": -180, "name": "Marina Berth 12"}}
        assert merged.json == expected | {"led_brightness": 3}
        assert (await served.ask("GET", "/v1/settings")).json == merged.json
        assert (await served.ask("GET", "/v1/settings", key=OTHER)).json == first.json
        latest = expected["location"]
        found = await devices(
            registry, lambda d: d.get("climasense:hub-1", _NOBODY).attributes.get("location") == latest
        )
        served.store.devices.update_settings("hub-2", {"reporting_interval_seconds": 300}, by_operator=True)
        found = await devices(
            registry,
            lambda d: d.get("climasense:hub-2", _NOBODY).attributes.get("reporting_interval_seconds") == 300,
        )
    told = found["climasense:hub-1"].attributes
    assert told["location"] == expected["location"] and told["timezone"] == "America/Los_Angeles"
    assert told["role"] == "hub" and told["batch"] == "b1" and "led_brightness" not in told
    assert found["climasense:sensor-1"].serial_number == "SN-7"


_NOBODY = Device(device_id="climasense:", vendor="climasense", updated_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"reporting_interval_seconds": 59}, "reporting_interval_seconds: should be greater than or equal to 60"),
        ({"reporting_interval_seconds": "60"}, "reporting_interval_seconds: should be a valid integer"),
        ({"reporting_interval_seconds": True}, "reporting_interval_seconds: should be a valid integer"),
        ({"location": {"latitude": 91}}, "location.latitude: should be less than or equal to 90"),
        ({"timezone": "Mars/Olympus"}, "timezone: must be the name of an IANA time zone"),
        ({"enabled_sensors": "iaq"}, "enabled_sensors: should be a valid array"),
        ([], "should be an object"),
        (b"{", "the body is not JSON"),
    ],
)
async def test_a_bad_update_names_the_field_and_changes_nothing(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path, body: object, message: str
) -> None:
    async with serve(publisher, tmp_path) as served:
        before = (await served.ask("GET", "/v1/settings")).json
        answer = await served.ask("PATCH", "/v1/settings", body)
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
        assert answer.json["message"].startswith(message)
        assert (await served.ask("GET", "/v1/settings")).json == before
    assert (await dead_tail.dead_letters(1))[-1].message_type == "climasense.settings"


async def test_settings_cannot_grow_without_end(publisher: Publisher, tmp_path: Path) -> None:
    async with serve(publisher, tmp_path, updates_per_minute=100) as served:
        statuses = [(await served.ask("PATCH", "/v1/settings", {f"s{n}": "x" * 15_000})).status for n in range(6)]
    assert statuses == [200, 200, 200, 200, 413, 413]


# -- commands


async def test_what_must_not_be_kept_is_not_in_a_result(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("climasense")
    async with serve(publisher, tmp_path) as served:
        command = served.store.commands.queue("hub-1", "diagnostics", {}, now())
        result = {"wifi": {"ssid": "Home", "ip_address": "192.168.1.4", "rssi": -60}, "owner": "a@b.example"}
        report = {"command_id": command.command_id, "status": "acked", "result": result}
        assert (await served.ask("POST", "/v1/commands/result", report)).status == 200
    (found,) = reported(await raw.envelopes(lambda found: len(reported(found)) >= 1))
    hidden = {"wifi": {"ssid": "[redacted]", "ip_address": "[redacted]", "rssi": -60}, "owner": "[redacted]"}
    assert json.loads(found.data)["result"] == hidden


def reported(found: list[Envelope]) -> list[Envelope]:
    """What the device reported, without what became of commands before."""
    return [envelope for envelope in found if envelope.type != "climasense.command.event"]


async def test_a_command_waits_until_its_result_is_in_kafka(
    publisher: Publisher, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("climasense")
    async with serve(publisher, tmp_path) as served:
        first = served.store.commands.queue("hub-1", "reboot", {"delay_seconds": 5}, now())
        second = served.store.commands.queue("hub-1", "diagnostics", {}, now())
        served.store.commands.queue("hub-1", "reboot", {}, now() - timedelta(hours=24, seconds=1))  # expired
        waiting = (await served.ask("GET", "/v1/commands/pending")).json["commands"]
        assert [c["command_id"] for c in waiting] == [first.command_id, second.command_id]
        assert {k: waiting[0][k] for k in ("type", "payload")} == {"type": "reboot", "payload": {"delay_seconds": 5}}
        assert datetime.fromisoformat(waiting[0]["expires_at"]) == first.created_at + timedelta(hours=24)
        assert (await served.ask("GET", "/v1/commands/pending", key=OTHER)).json == {"commands": []}

        report = {"command_id": second.command_id, "status": "failed", "error_message": "busy", "result": {"t": 1}}
        for _ in range(2):  # the answer to the first was lost
            answer = await served.ask("POST", "/v1/commands/result", report)
            assert (answer.status, answer.json["acknowledged"]) == (200, True) and answer.json["timestamp"]
        waiting = (await served.ask("GET", "/v1/commands/pending")).json["commands"]
        assert [c["command_id"] for c in waiting] == [first.command_id]
        assert served.store.commands.all("hub-1")[0].error_message == "busy"
    found = reported(await raw.envelopes(lambda found: len(reported(found)) >= 2))
    assert len(found) == 2 and found[0].id == found[1].id, "a repeat the normaliser drops"
    assert found[0].device_id == "climasense:hub-1" and dedupe_window_seconds(found[0].type) == 24 * 3600
    (event,) = events_of(found[0])
    assert (event.type, event.severity, event.title) == ("command_result", "warning", "diagnostics: failed")
    assert json.loads(event.data) == report | {"command_type": "diagnostics"}


async def test_a_result_of_no_command_of_the_device_is_kept_aside(
    publisher: Publisher, dead_tail: Tail, tmp_path: Path
) -> None:
    async with serve(publisher, tmp_path) as served:
        command = served.store.commands.queue("hub-1", "reboot", {}, now())
        report = {"command_id": command.command_id, "status": "acked"}
        strange = await served.ask("POST", "/v1/commands/result", report, key=OTHER)
        assert (strange.status, strange.json["error"]) == (404, "not_found")
        wrongs: list[dict[str, Any]] = [{"status": "acked"}, report | {"status": "done"}, report | {"result": []}]
        for wrong in wrongs:
            assert (await served.ask("POST", "/v1/commands/result", wrong)).status == 400
        assert len(served.store.commands.pending("hub-1", now())) == 1
    letters = await dead_tail.dead_letters(4)
    assert {(letter.message_type, letter.stage) for letter in letters} == {
        ("climasense.command-result.event", "connector")
    }
    assert [letter.problems[0].path for letter in letters] == ["command_id", "command_id", "status", "result"]


# -- firmware


async def test_firmware_is_offered_by_batch_and_downloaded_whole(
    publisher: Publisher, tail: OpenTail, tmp_path: Path
) -> None:
    registry = await tail(DEVICES)
    async with serve(publisher, tmp_path) as served:
        added = served.store.firmware.add("1.3.0", io.BytesIO(IMAGE), "Bug fixes", now())
        check = "/v1/ota/check?current_version=1.2.3"
        assert (await served.ask("GET", check)).json == {"update_available": False}
        assert (await served.ask("GET", "/v1/ota/download/1.3.0")).status == 404
        served.store.firmware.release("1.3.0", ["b1"], now())
        offer = (await served.ask("GET", check)).json
        digest = hashlib.sha256(IMAGE).hexdigest()
        assert offer == {
            "update_available": True,
            "version": "1.3.0",
            "checksum": f"sha256:{digest}",
            "size_bytes": len(IMAGE),
            "release_notes": "Bug fixes",
        }
        assert (await served.ask("GET", check, key=OTHER)).json == {"update_available": False}
        assert (await served.ask("GET", "/v1/ota/download/1.3.0", key=OTHER)).status == 404
        assert (await served.ask("GET", "/v1/ota/check?current_version=1.3.0")).json == {"update_available": False}
        assert (await served.ask("GET", "/v1/ota/check")).status == 400

        whole = await served.ask("GET", "/v1/ota/download/1.3.0")
        assert (whole.status, whole.body) == (200, IMAGE) and whole.headers["ETag"] == f'"{added.checksum}"'
        for start in (10, CHUNK_BYTES - 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 5):  # resumed
            rest = await served.ask("GET", "/v1/ota/download/1.3.0", key=SENSOR, Range=f"bytes={start}-")
            assert (rest.status, rest.body) == (206, IMAGE[start:])
            assert rest.headers["Content-Range"] == f"bytes {start}-{len(IMAGE) - 1}/{len(IMAGE)}"
        beyond = await served.ask("GET", "/v1/ota/download/1.3.0", key=SENSOR, Range=f"bytes={len(IMAGE)}-")
        assert (beyond.status, beyond.json["error"]) == (416, "range_not_satisfiable")
        limited = await served.ask("GET", "/v1/ota/download/1.3.0", key=SENSOR)
        assert limited.status == 429 and 3500 < int(limited.headers["Retry-After"]) <= 3600

        served.store.firmware.withdraw("1.3.0", ["b1"])
        assert (await served.ask("GET", check)).json == {"update_available": False}
        found = await devices(registry, lambda d: bool(d.get("climasense:hub-1", _NOBODY).firmware_version))
    assert found["climasense:hub-1"].firmware_version


async def test_update_reports_are_events_and_progress_is_a_metric(
    publisher: Publisher, raw_tail: RawTail, tail: OpenTail, tmp_path: Path
) -> None:
    raw, registry = await raw_tail("climasense"), await tail(DEVICES)
    half: dict[str, Any] = {"version": "1.3.0", "status": "downloading", "progress_percent": 50}
    failed = {"version": "1.3.0", "status": "failed", "error_message": "checksum"}
    reports = [half, half, failed, failed, half, {"version": "1.3.0", "status": "completed"}]
    async with serve(publisher, tmp_path) as served:
        for report in reports:
            answer = await served.ask("POST", "/v1/ota/status", report)
            assert (answer.status, answer.json["recorded"]) == (200, True)
        wrongs: list[dict[str, Any]] = [{"progress_percent": 101}, {"progress_percent": 0.5}, {"status": "paused"}]
        for wrong in [*wrongs, {"version": None}]:
            assert (await served.ask("POST", "/v1/ota/status", half | wrong)).status == 400
        found = await raw.envelopes(lambda found: len(found) >= len(reports))
        known = await devices(registry, lambda d: d.get("climasense:hub-1", _NOBODY).firmware_version == "1.3.0")
    assert known["climasense:hub-1"].firmware_version == "1.3.0"
    ids = [e.id for e in found]
    assert ids[0] == ids[1] and ids[2] == ids[3], "told twice, dropped by the normaliser"
    assert len(set(ids)) == 4, "the second attempt is news"
    attempts = [json.loads(events_of(e)[0].data)["attempt"] for e in found]
    assert attempts == [1, 1, 1, 1, 2, 2]
    (reading,) = normalise(found[0], Origin("t", 0, 0), Options()).observation.readings  # type: ignore[union-attr]
    assert (reading.metric, reading.value_number, reading.unit) == ("ota.progress", 50.0, "%")


# -- Zigbee


async def test_only_a_hub_registers_sensors_and_no_key_leaves_us(
    publisher: Publisher, raw_tail: RawTail, dead_tail: Tail, tail: OpenTail, tmp_path: Path
) -> None:
    raw, registry = await raw_tail("climasense"), await tail(DEVICES)
    body = {"sensor_api_key": SENSOR, "ieee_address": "0x00124b001cce5a7d"}
    async with serve(publisher, tmp_path) as served:
        refused = await served.ask("POST", "/v1/zigbee/sensors", body, key=SENSOR)
        assert (refused.status, refused.json["error"]) == (403, "forbidden")
        for wrong, field in (({"sensor_api_key": HUB}, "sensor_api_key"), ({"ieee_address": "x"}, "sensor_api_key")):
            answer = await served.ask("POST", "/v1/zigbee/sensors", wrong)
            assert answer.status == 400 and answer.json["message"].startswith(field)
        answers = [await served.ask("POST", "/v1/zigbee/sensors", body) for _ in range(2)]
        assert [a.status for a in answers] == [200, 200] and answers[0].json == answers[1].json
        assert answers[0].json["registered"] is True and answers[0].json["serial_number"] == "SN-7"
        assert (await served.ask("POST", "/v1/zigbee/sensors", body, key=OTHER)).status == 409
        # what a hub submits for its sensor comes with the sensor's own key
        telemetry = {"readings": [{"sensor_type": "iaq", "value": 1, "timestamp": "2026-03-29T12:00:00Z"}]}
        assert (await served.ask("POST", "/v1/telemetry", telemetry, key=SENSOR)).json["accepted"] == 1
        served.store.devices.unpair("sensor-1")
        assert (await served.ask("POST", "/v1/zigbee/sensors", body, key=OTHER)).status == 200
        found = await raw.envelopes(lambda found: len(found) >= 3)
        known = await devices(
            registry, lambda d: d.get("climasense:sensor-1", _NOBODY).attributes.get("hub") == "climasense:hub-2"
        )
        letters = await dead_tail.dead_letters(3)
    assert known["climasense:sensor-1"].attributes["role"] == "sensor"
    by_device = {envelope.device_id: envelope for envelope in found}
    assert set(by_device) == {"climasense:hub-1", "climasense:sensor-1", "climasense:hub-2"} and len(found) == 3
    assert by_device["climasense:sensor-1"].type == "climasense.telemetry"
    paired = by_device["climasense:hub-1"]
    (event,) = events_of(paired)
    assert (event.type, event.title) == ("sensor_paired", "sensor SN-7 paired")
    assert json.loads(event.data)["sensor_device_id"] == "climasense:sensor-1"
    everything = b"".join([e.data for e in found] + [letter.payload.encode() for letter in letters])
    assert SENSOR.encode() not in everything and HUB.encode() not in everything and b"0x00124b" not in everything


# -- keys, limits, errors


async def test_a_revoked_key_is_refused_within_seconds(publisher: Publisher, tmp_path: Path) -> None:
    async with serve(publisher, tmp_path, settings_per_minute=1000) as served:
        served.store.keys.add(Provisioned("hub-1", hash_key("second")), now())
        await _until(served, "second", 200)
        assert len(served.store.keys.revoke(hash_key(HUB)[:12], now())) == 1
        await _until(served, HUB, 401)
        assert (await served.ask("GET", "/v1/settings", key="second")).status == 200
        assert [k.device for k in served.store.keys.revoke("hub-1", now())] == ["hub-1"]
        await _until(served, "second", 401)


async def _until(served: Served, key: str, status: int) -> None:
    async def answers() -> bool:
        return (await served.ask("GET", "/v1/settings", key=key)).status == status

    await eventually(answers, 3)


async def test_a_key_revoked_by_command_is_not_brought_back_by_the_file(publisher: Publisher, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    entry: dict[str, Any] = {"sha256": hash_key("filed"), "role": "hub"}
    keys.write_text(json.dumps({"h": entry}))
    async with serve(publisher, tmp_path, keys_file=keys, settings_per_minute=1000) as served:
        await _until(served, "filed", 200)
        keys.write_text("{}")
        await _until(served, "filed", 401)
        keys.write_text(json.dumps({"h": entry}))
        await _until(served, "filed", 200)
        served.store.keys.revoke("h", now())
        await _until(served, "filed", 401)
        keys.write_text(json.dumps({"h": entry | {"batch": "b9"}, "i": hash_key("new")}))
        await _until(served, "new", 200)
        assert (await served.ask("GET", "/v1/settings", key="filed")).status == 401


LIMITS: list[tuple[str, str, int, object]] = [
    ("POST", "/v1/telemetry", 60, {"readings": []}),
    ("GET", "/v1/settings", 10, None),
    ("GET", "/v1/commands/pending", 30, None),
    ("GET", "/v1/ota/check?current_version=1.2.3", 10, None),
    ("GET", "/v1/ota/download/9.9.9", 5, None),
]


@pytest.mark.parametrize(("method", "path", "limit", "body"), LIMITS)
async def test_documented_limits_hold_per_key_and_endpoint(
    publisher: Publisher, tmp_path: Path, method: str, path: str, limit: int, body: object
) -> None:
    async with serve(publisher, tmp_path) as served:
        statuses = [(await served.ask(method, path, body)).status for _ in range(limit)]
        refused = await served.ask(method, path, body)
        assert 429 not in statuses and (refused.status, refused.json["error"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["Retry-After"]) <= (3600 if "download" in path else 60)
        assert (await served.ask(method, path, body, key=OTHER)).status != 429
        elsewhere = "/v1/settings" if "settings" not in path else "/v1/commands/pending"
        assert (await served.ask("GET", elsewhere)).status == 200


async def test_every_endpoint_wants_a_key_and_errors_have_one_form(publisher: Publisher, tmp_path: Path) -> None:
    async with serve(publisher, tmp_path) as served:
        for endpoint in ENDPOINTS:
            answer = await served.ask(endpoint.method, endpoint.path.format(version="1"), key="nobody's")
            assert answer.status == 401
            assert answer.json == {"error": "unauthorized", "message": "Invalid or missing API key"}
        for method, path, status in (("GET", "/v2/x", 404), ("DELETE", "/v1/telemetry", 405)):
            answer = await served.ask(method, path)
            assert answer.status == status and set(answer.json) == {"error", "message"}
        too_long = await served.ask("POST", "/v1/ota/status", b" " * 20_000)
        assert (too_long.status, too_long.json["error"]) == (413, "payload_too_large")


async def test_the_document_is_served_with_the_configured_paths(publisher: Publisher, tmp_path: Path) -> None:
    async with serve(publisher, tmp_path, pairing_path="/v1/sensors") as served:
        document = (await served.ask("GET", "/openapi.json", key=None)).json
        assert document == json.loads(json.dumps(openapi({"pair_sensor": "/v1/sensors"})))
        assert "/v1/sensors" in document["paths"] and "/v1/zigbee/sensors" not in document["paths"]
        assert (await served.ask("POST", "/v1/sensors", {"sensor_api_key": SENSOR})).status == 200
        assert (await served.ask("GET", "/livez", key=None)).status == 200
        assert (await served.ask("GET", "/readyz", key=None)).status == 200


async def test_nothing_is_marked_done_while_kafka_is_away(kafka: str, tmp_path: Path) -> None:
    nowhere = Publisher(KafkaSettings(bootstrap_servers="127.0.0.1:9"))
    await nowhere.start()
    async with serve(nowhere, tmp_path, ack_timeout_seconds=0.3) as served:
        command = served.store.commands.queue("hub-1", "reboot", {}, now())
        for path, body in (
            ("/v1/commands/result", {"command_id": command.command_id, "status": "acked"}),
            ("/v1/ota/status", {"version": "1", "status": "completed"}),
            ("/v1/zigbee/sensors", {"sensor_api_key": SENSOR}),
            ("/v1/zigbee/sensors", {"sensor_api_key": "unknown"}),
        ):
            answer = await served.ask("POST", path, body)
            assert answer.status == 503 and int(answer.headers["Retry-After"]) > 0
        assert len((await served.ask("GET", "/v1/commands/pending")).json["commands"]) == 1
        assert served.store.devices.get("sensor-1").hub is None
        assert served.store.devices.get("hub-1").firmware_version is None
        assert (await served.ask("GET", "/readyz", key=None)).status == 503
    await nowhere.stop(0.1)
