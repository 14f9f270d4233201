"""docs/vendors/climasense.md says what the code does, of every documented endpoint, sensor type and field."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.climasense import protocol
from connectors.climasense.protocol import device_record
from connectors.climasense.store.records import Command, DeviceState
from schemas.climasense import ENDPOINTS, SENSOR_TYPES, SensorPaired, openapi
from schemas.envelope import Envelope
from schemas.metrics import COMMON
from schemas.wire import Origin
from streams.normalise import Normalised, Options, normalise
from streams.normalise import climasense as normaliser

PAGE = (Path(__file__).parents[2] / "docs" / "vendors" / "climasense.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 29, 12, 0, 1, tzinfo=UTC)
NOT = "not telemetry, because "

TELEMETRY = {
    "latitude": 37.7749,
    "longitude": -122.4194,
    "readings": [{"sensor_type": "temperature", "value": 23.5, "timestamp": "2026-03-29T12:00:00Z"}],
}
RESULT = {"command_id": "cmd-001", "status": "failed", "error_message": "busy", "result": {"a": 1}}
STATUS = {"version": "1.3.0", "status": "downloading", "progress_percent": 40, "error_message": "slow"}
PAIRING = {"sensor_api_key": "sk_sensor_abc123", "ieee_address": "0x00124b001cce5a7d"}
SETTINGS = {
    "reporting_interval_seconds": 60,
    "enabled_sensors": ["iaq"],
    "location": {"latitude": -90, "longitude": -180, "name": "Marina Berth 12"},
    "timezone": "America/Los_Angeles",
}


def rows(table: str) -> list[list[str]]:
    """The cells of a table's rows."""
    text = PAGE.split(f"<!-- table: {table} -->\n", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines()[2:]]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


FIELDS = [(name, row[1]) for row in rows("fields") for name in names(row[0])]


def envelopes() -> dict[str, Envelope]:
    """What the connector makes of each documented body, by the body's model."""
    body = {k: json.dumps(v).encode() for k, v in {"r": RESULT, "s": STATUS, "p": PAIRING, "t": TELEMETRY}.items()}
    answer = SensorPaired(sensor_id="aa8707dc-fa19-438f-a5ba-ee5518d43631", serial_number="SN-7")
    device = "climasense:hub-1"
    command = Command("cmd-001", "hub-1", "reboot", {"secret": "x"}, NOW, NOW)
    return {
        "TelemetrySubmission": protocol.telemetry(body["t"], device, NOW, 1).envelope,
        "PendingCommand": protocol.command_event(command, "queued", NOW, NOW),
        "CommandResult": protocol.command_result(body["r"], device, "cmd-001", "reboot", NOW),
        "OtaStatus": protocol.ota_status(body["s"], device, 1, NOW),
        "SensorPairing": protocol.sensor_paired(body["p"], protocol.Pairing(device, "climasense:s", answer, 1), NOW),
    }


def results() -> dict[str, Normalised]:
    return {name: normalise(e, Origin("t", 0, 0), Options()) for name, e in envelopes().items()}


def metrics(result: Normalised) -> dict[str, Any]:
    return {r.metric: r.value_number for r in result.observation.readings} if result.observation else {}


def test_every_endpoint_stands_in_the_table_with_what_is_assumed() -> None:
    table = {names(row[0])[0]: row for row in rows("endpoints")}
    assert list(table) == [f"{e.method.upper()} {e.path}" for e in ENDPOINTS]
    for endpoint in ENDPOINTS:
        row = table[f"{endpoint.method.upper()} {endpoint.path}"]
        for word in filter(None, endpoint.assumed.split(", ")):
            assert word in row[2], row


def test_every_field_of_the_api_stands_in_the_table_once() -> None:
    schemas = openapi()["components"]["schemas"]
    expected = {f"{model}.{field}" for model, schema in schemas.items() for field in schema["properties"]}
    expected |= {name for endpoint in ENDPOINTS for name in endpoint.query}
    assert sorted(name for name, _ in FIELDS) == sorted(expected)


def test_sensor_types_are_those_of_the_code_and_lead_to_their_metric() -> None:
    table = {names(row[0])[0]: row for row in rows("sensor types") if names(row[0])}
    assert set(table) == set(SENSOR_TYPES) == set(normaliser.SENSOR_TYPES)
    for kind, row in table.items():
        body = json.dumps({"readings": [{"sensor_type": kind, "value": 1}]}).encode()
        found = protocol.telemetry(body, "climasense:d", NOW, 1)
        result = normalise(found.envelope, Origin("t", 0, 0), Options())
        assert found.accepted == 1 and list(metrics(result)) == [names(row[1])[0]]
        unit = COMMON[names(row[1])[0]].unit
        assert (unit is None and "boolean" in row[2]) or row[2] == f"`{unit}`"
    body = json.dumps({"readings": [{"sensor_type": "radon", "value": 3}]}).encode()
    result = normalise(protocol.telemetry(body, "climasense:d", NOW, 1).envelope, Origin("t", 0, 0), Options())
    assert metrics(result) == {"climasense.radon": 3}


@pytest.mark.parametrize(("name", "fate"), FIELDS)
def test_the_field_becomes_what_the_table_says(name: str, fate: str) -> None:
    model, _, field = name.rpartition(".")
    done = results()
    if fate.startswith(NOT):
        _assert_nothing_comes_of(field, model, done)
        return
    assert re.match("metric|event|device attribute", fate), fate
    if "metric of its sensor type" in fate:
        assert metrics(done["TelemetrySubmission"])["environment.temperature"] == 23.5
        assert done["TelemetrySubmission"].observation.readings[0].observed_at.second == 0  # type: ignore[union-attr]
    for metric in re.findall(r"metric `([^`]+)`", fate):
        source = {"TelemetrySubmission": TELEMETRY, "OtaStatus": STATUS}[model]
        assert metrics(done[model])[metric] == source[field]
    for kind in re.findall(r"event `([^`]+)`", fate):
        result = done["SensorPairing" if model == "SensorPaired" else model]
        (event,) = result.events.events  # type: ignore[union-attr]
        assert event.type == kind and json.loads(event.data)[field]
    for attribute in re.findall(r"device attribute `([^`]+)`", fate):
        record = device_record(DeviceState("d", "hub", settings=SETTINGS, firmware_version="1.2.3"), NOW)
        found = getattr(record, attribute, None) or record.attributes[attribute]
        assert found == ("1.2.3" if attribute == "firmware_version" else SETTINGS[attribute])


def _assert_nothing_comes_of(field: str, model: str, done: dict[str, Normalised]) -> None:
    """Our answers are in no request; what a request holds is hidden before it is handed on."""
    if model == "SensorPairing":
        text = envelopes()[model].data.decode()
        assert PAIRING[field] not in text and json.loads(text)[field] == "[redacted]"
        return
    answers = {e.answer.__name__ for e in ENDPOINTS if e.answer} | {"PendingCommand", "Error"}
    assert model in answers
    assert not any(metric.endswith(f".{field}") for result in done.values() for metric in metrics(result))


def test_every_message_type_of_the_code_is_made_by_the_connector() -> None:
    assert {e.type for e in envelopes().values()} == set(normaliser.HANDLERS)
    assert set(normaliser._POSITION) == {"latitude", "longitude"}


def test_totals_of_the_tables() -> None:
    """The totals that the note to the page's readers gives; printed with `-s`."""
    kinds = [(row[0], row[1]) for row in rows("endpoints") + rows("sensor types")[:-1]]
    all_of = [*FIELDS, *kinds]
    excluded = [name for name, fate in all_of if fate.startswith(NOT)]
    print(f"climasense: {len(all_of)} documented, {len(all_of) - len(excluded)} covered, {len(excluded)} excluded")
    assert all("because" in fate for _, fate in all_of if fate.startswith("not"))
    assert (len(all_of), len(excluded)) == (65, 20)
