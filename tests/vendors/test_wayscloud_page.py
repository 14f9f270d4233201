"""docs/vendors/wayscloud.md says what becomes of each documented field and endpoint: held against the code."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.backfill import Backfill
from connectors.wayscloud.connector import WayscloudConnector
from connectors.wayscloud.protocol import Inbox, Packet
from connectors.wayscloud.settings import WayscloudSettings
from schemas import wire
from schemas.envelope import BackfillWindow, Envelope
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.settings import SimulatorSettings, WaysCloudSimulator
from simulators.wayscloud import SensorFleet, WaysCloud
from streams.normalise import Normalised, Options, normalise
from tests.support.waiting import eventually, passing

PAGE = Path(__file__).parents[2] / "docs" / "vendors" / "wayscloud.md"
NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
EXCLUDED = "not telemetry, because "

DEVICE = {
    "device_id": "sensor-001",
    "name": "Temperature Sensor A",
    "description": "Office floor 3",
    "device_type": "ESP32",
    "is_active": True,
    "is_online": True,
    "last_seen": "2026-03-30T09:55:00Z",
    "connection_status": "connected",
    "stability_score": 95,
    "firmware_version": "2.1.0",
    "tags": ["production", "floor-3"],
    "metadata": {"location": "Building A"},
    "messages_24h": 1440,
    "battery_level": 87,
    "signal_strength": -65,
    "created_at": "2026-01-15T10:00:00Z",
}
HEALTH = {
    "device_id": "sensor-001",
    "health_score": 92,
    "health_status": "healthy",
    "components": {"uptime": 100, "alarm_burden": 95, "connection_stability": 90, "telemetry_freshness": 85},
    "checked_at": "2026-03-30T10:00:00Z",
}
ROW = {
    "datapoint_id": "dp-abc123",
    "name": "temperature",
    "label": "Temperature",
    "unit": "°F",
    "data_type": "number",
    "measured_at": "2026-03-30T09:55:00Z",
    "value": 72.5,
}
DEFINITION = {
    "id": "e5f6a7b8-9012-3cde-f456-7890123456ef",
    "name": "temperature",
    "label": "Temperature",
    "unit": "°C",
    "data_type": "number",
    "aggregation_method": "avg",
    "is_chartable": True,
    "is_alertable": True,
    "created_at": "2026-01-10T12:00:00Z",
}
ALARM = {
    "id": "d4e5f6a7-8901-2bcd-ef34-567890123def",
    "device_id": "sensor-001",
    "rule_id": "c3d4e5f6-7890-1abc-def2-345678901cde",
    "rule_name": "High temperature alert",
    "severity": "warning",
    "title": "Device offline: sensor-001",
    "message": "Device has been offline for 5 minutes",
    "status": "active",
    "triggered_at": "2026-03-30T14:00:00Z",
    "occurrence_count": 3,
    "acknowledged_at": None,
    "resolved_at": None,
    "created_at": "2026-03-30T14:00:00Z",
}
ENTRY = {
    "id": 2,
    "event_type": "acknowledged",
    "actor": "operator@example.com",
    "note": "Investigating",
    "metadata": {"severity": "warning"},
    "created_at": "2026-03-30T14:15:00Z",
}


def tables() -> dict[str, dict[str, str]]:
    """Heading (a second table below it has `+`) → first column → second."""
    found: dict[str, dict[str, str]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
        elif line.startswith("| timeline"):
            heading += "+"
        elif row := re.fullmatch(r"\| `(.+?)` \| (.+) \|", line):
            found.setdefault(heading, {})[row[1]] = row[2]
    return found


TABLES = tables()


def normalised(envelope: Envelope) -> Normalised:
    result = normalise(envelope, wire.Origin("t", 0, 0), Options())
    assert result.dead_letter is None, result.dead_letter
    return result


def metrics(envelope: Envelope) -> dict[str, wire.Reading]:
    seen = normalised(envelope).observation
    return {reading.metric: reading for reading in seen.readings} if seen else {}


def metric_in(text: str) -> str | None:
    found = re.match(r"metric `([a-z0-9_.]+)`", text)
    return found[1] if found else None


def test_every_field_of_a_device_goes_where_the_page_says() -> None:
    table = TABLES["Device object"]
    assert table.keys() == DEVICE.keys()
    for field, value in DEVICE.items():
        only = {"device_id": "sensor-001", field: value}
        record = json.loads(wire.encode(objects.device_record(only, {}, NOW)))
        news = objects.changed_values(only, {})
        told = metrics(objects.device_values(news, "wayscloud:sensor-001", NOW)) if news else {}
        metric = metric_in(table[field])
        assert set(told) == ({metric} if metric else set()), field
        source = "vendor" if field == "last_seen" else "received"
        assert all(reading.time_source == source for reading in told.values())
        attributes = record.get("attributes", {})
        if found := re.match(r"registry `(?:attributes\.)?(\w+)`", table[field]):
            assert record.get(found[1], attributes.get(found[1])) == value, field
        else:
            assert attributes == {}, field


def test_every_field_of_health_goes_where_the_page_says() -> None:
    table = TABLES["Health"]
    told = metrics(objects.health(wire.encode(HEALTH), "wayscloud:sensor-001", NOW))
    components = {f"components.{name}" for name in HEALTH["components"]}  # type: ignore[attr-defined]
    assert table.keys() == (HEALTH.keys() - {"components"}) | components
    assert {metric_in(text) for text in table.values()} - {None} == set(told)
    assert {reading.time_source for reading in told.values()} == {"vendor"}
    assert told["health.uptime"].unit == "1" and told["health.uptime"].value_number == 100


def test_every_field_of_stored_telemetry_is_used_as_the_page_says() -> None:
    table = TABLES["Stored telemetry"]
    assert table.keys() == ROW.keys()

    def told(**change: Any) -> str:
        body = wire.encode([{**ROW, **change}])
        read = BackfillWindow(datetime(2020, 1, 1, tzinfo=UTC), NOW, 5)
        (envelope,) = objects.stored_telemetry(body, "wayscloud:s", read, NOW)
        return str(list(metrics(envelope).values()))

    changes: dict[str, Any] = {
        "name": "other",
        "label": "Other",
        "unit": "°C",
        "data_type": "string",
        "measured_at": "2026-03-30T09:56:00Z",
        "value": 1,
    }
    for field, other in changes.items():
        assert (told(**{field: other}) != told()) is not table[field].startswith(EXCLUDED), field


def test_every_field_of_a_definition_is_used_as_the_page_says() -> None:
    table = TABLES["Datapoint definition"]
    assert table.keys() == DEFINITION.keys()
    for field in DEFINITION:
        used = objects.datapoint(DEFINITION | {field: "other"}) != objects.datapoint(DEFINITION)
        assert used is not table[field].startswith(EXCLUDED), field
    named = objects.datapoint(DEFINITION)
    assert named is not None
    inbox = Inbox(["devices/+/sensors/#"], {named[0]: named[1]})
    (envelope,) = inbox.packet(Packet("devices/s/sensors/temperature", b"1", False, False), NOW).envelopes
    attached = json.loads(envelope.attributes["datapoints"])
    assert attached == {"temperature": {"id": DEFINITION["id"], "unit": "°C", "type": "number"}}


def test_every_field_of_an_alarm_is_used_as_the_page_says() -> None:
    of_alarm, of_entry = TABLES["Alarm"], TABLES["Alarm+"]
    assert of_alarm.keys() == ALARM.keys()
    assert of_entry.keys() == ENTRY.keys()

    def told(alarm: dict[str, Any], entry: dict[str, Any] | None) -> list[wire.Event]:
        envelope = objects.alarm(ALARM | alarm, wire.encode([] if entry is None else [ENTRY | entry]), NOW)
        result = normalised(envelope).events
        assert result is not None and "operator@example.com" not in str(result)
        return result.events

    for field in ALARM:
        other = "2026-03-30T15:00:00Z" if field.endswith("_at") else 7 if field == "occurrence_count" else "other"
        change = {field: other}
        used = [(e.data, e.occurred_at) for e in told(change, None)] != [
            (e.data, e.occurred_at) for e in told({}, None)
        ]
        if field != "device_id":
            assert used is not of_alarm[field].startswith(EXCLUDED), field
    with pytest.raises(ValueError):
        objects.alarm(ALARM | {"device_id": None}, b"[]", NOW)
    for field in ENTRY:
        other = {"created_at": "2026-03-30T15:00:00Z", "id": 3, "metadata": None}.get(field, "other")
        before, after = told({}, {}), told({}, {field: other})
        assert [(e.data, e.occurred_at) for e in before] != [(e.data, e.occurred_at) for e in after], field
    (first, *_) = told({}, {})
    assert [e.occurred_at for e in told({}, {})][:2] == [
        datetime(2026, 3, 30, 14, tzinfo=UTC),
        datetime(2026, 3, 30, 14, 15, tzinfo=UTC),
    ]
    assert first.severity == "warning"


def test_publishes_are_read_as_the_page_says() -> None:
    table = TABLES["Publish (MQTT)"]
    assert len(table) == 3
    for payload in table:
        (envelope,) = (
            Inbox(["devices/+/sensors/#"])
            .packet(Packet("devices/s/sensors/temperature", payload.encode(), False, False), NOW)
            .envelopes
        )
        found = metrics(envelope)
        assert found["environment.temperature"].value_number == 22.5
        assert ("environment.humidity" in found) is ("humidity" in payload)
        source = "vendor" if "timestamp" in payload else "received"
        assert {reading.time_source for reading in found.values()} == {source}


async def test_exactly_the_endpoints_named_are_read(
    publisher: Publisher, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    simulated = SimulatorSettings(
        faults=FaultSettings.none(), wayscloud=WaysCloudSimulator(devices=5, embedded_broker=False, mqtt_port=1)
    )
    sensors = SensorFleet(simulated, lambda: 1_790_000_000.0, lambda _: None)
    api = WaysCloud(simulated, lambda: 1_790_000_000.0, sensors.sensors)
    api.account.details_without_tags = True
    async with serve(api.app(), "127.0.0.1", 0) as port, aiohttp.ClientSession() as http:
        settings = WayscloudSettings(
            api_url=f"http://127.0.0.1:{port}",
            api_key=simulated.wayscloud.api_key,
            requests_per_second=500,
            backfill_delay_seconds=0,
            backfill_reach_seconds=0.1,
        )
        context = Context(publisher, tmp_path)
        backfill = Backfill(settings, context, StateFile(tmp_path / "backfill.json"))
        backfill.add(NOW, NOW, ["sensor-001"])
        table = {name.partition(" ")[2] for name, text in TABLES["Endpoints"].items() if not text.startswith(EXCLUDED)}
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30) as limit, asyncio.TaskGroup() as tasks:
                tasks.create_task(WayscloudConnector(settings, context).run())
                tasks.create_task(backfill.run(WayscloudApi(settings, http, tmp_path)))
                await eventually(lambda: table <= {_template(path) for path in api.paths})
                limit.reschedule(asyncio.get_running_loop().time() + 0.5)
                await passing(5, "until the limit, half a second from now, ends the tasks")
    read = {_template(path) for path in api.paths}
    assert {name for name in TABLES["Endpoints"] if not name.startswith("GET")} <= {
        name for name, text in TABLES["Endpoints"].items() if text.startswith(EXCLUDED)
    }
    assert read == table


def _template(path: str) -> str:
    parts = path.partition("?")[0].removeprefix("/v1/iot/").split("/")
    if len(parts) > 1:
        parts[1] = f"{{{parts[0].removesuffix('s')}_id}}"
    return "/" + "/".join(parts)


def test_totals(record_property: Callable[[str, object], None]) -> None:
    fields = [text for name, table in TABLES.items() if name != "Endpoints" for text in table.values()]
    endpoints = list(TABLES["Endpoints"].values())
    assert len(endpoints) == 59, "documented endpoints"
    for what, found in (("fields", fields), ("endpoints", endpoints)):
        excluded = sum(text.startswith(EXCLUDED) for text in found)
        record_property(what, f"{len(found) - excluded} covered, {excluded} excluded")
        print(f"WAYSCloud {what}: {len(found) - excluded} covered, {excluded} excluded")
