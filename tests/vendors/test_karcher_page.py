"""docs/vendors/karcher.md against the code: each row's example is fed through redaction, protocol and normaliser."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.karcher import protocol
from connectors.karcher.settings import KarcherSettings
from schemas import wire
from schemas.envelope import Envelope
from schemas.redact import redact
from streams.normalise import Normalised, Options, karcher, normalise

PAGE = (Path(__file__).parents[2] / "docs/vendors/karcher.md").read_text()
NOW = datetime(2026, 3, 27, 14, tzinfo=UTC)
STAMP = "2026-03-27T13:30:44.971Z"
DEVICE, MACHINE = "karcher:1.533-002.0/000001", "bWDsBhPuVFP3ekfWS49yUg"
_ENDPOINT = re.compile(r"(GET|POST|DELETE|wss:)")


@dataclass(frozen=True)
class Row:
    """A row: field, example as JSON, what becomes of it."""

    field: str
    example: Any
    becomes: str

    @property
    def excluded(self) -> bool:
        return self.becomes.startswith("not telemetry, because ")

    @property
    def path(self) -> list[str]:
        return self.field.split(".")


def _rows() -> tuple[list[Row], dict[str, str]]:
    fields, endpoints = [], {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("| `"):
            continue
        name = cells[0].strip("` ")
        if _ENDPOINT.match(name):
            endpoints[name] = cells[1]
        else:
            fields.append(Row(name, json.loads(cells[1].strip("`")), cells[2]))
    return fields, endpoints


FIELDS, ENDPOINTS = _rows()
STATES = [
    row
    for row in FIELDS
    if row.path[0] not in ("report", "notification", "command", "machineId", "generic")
    and not row.field.startswith(("deviceTypeSpecific", "lastCon"))
]


def names(rows: list[Row]) -> list[str]:
    return [f"{row.field}={row.becomes[:30]}" for row in rows]


def built(path: list[str], value: Any) -> Any:
    """`a[].b` of value v as {"a": [{"b": v}]}."""
    if not path:
        return value
    name, inner = path[0], built(path[1:], value)
    return {name.removesuffix("[]"): [inner] if name.endswith("[]") else inner}


def normalised(kind: str, body: Any) -> Normalised:
    data = redact(json.dumps(body).encode())
    return normalise(Envelope("i", kind, "test", DEVICE, NOW, data), wire.Origin("t", 0, 0), Options())


def as_status(row: Row) -> Normalised:
    ((name, value),) = built(row.path, row.example).items()
    text = value if isinstance(value, str) else json.dumps(value)
    return normalised("karcher.status", {"states": [{"name": name, "value": text, "timestamp": STAMP}]})


def as_datapoint(row: Row) -> Normalised:
    return normalised("karcher.datapoints", {"data": built(row.path, row.example), "timestamp": 1774618244971})


def text_of(result: Normalised) -> str:
    return "".join(wire.encode(r).decode() for r in (result.observation, result.events, result.dead_letter) if r)


@pytest.mark.parametrize("row", STATES, ids=names(STATES))
def test_a_state_becomes_what_its_row_says_either_way(row: Row) -> None:
    for result in (as_status(row), as_datapoint(row)):
        assert result.dead_letter is None and result.events is None
        readings = result.observation.readings if result.observation else []
        if row.excluded:
            assert str(row.example) not in text_of(result) or row.example == 0
            assert not readings or "redacted" in row.becomes
            continue
        metric = re.sub(r"^in ", "", row.becomes).strip("`")
        assert [reading.metric for reading in readings] == [metric]
        if "[]" in row.field:
            assert json.loads(readings[0].value_json or "") == next(iter(built(row.path, row.example).values()))


def _members(table: dict[str, Any], prefix: str) -> set[str]:
    return {f"{prefix}.{name}" for name in table}


def test_every_state_that_the_code_knows_is_on_the_page() -> None:
    tables = {
        "pose": karcher._POSE,
        "machinePosition": karcher._GPS,
        "machinePosistion": karcher._GPS,
        "repeatProgress": karcher._REPEAT_PROGRESS,
        "mcuMainInfo": karcher._MCU_MAIN_INFO,
        "serviceCounter": karcher._SERVICE_COUNTER,
        "wifiStatus": dict.fromkeys({*karcher._WIFI_STATUS, *karcher._WIFI_IDENTITY}),
        "location": karcher._location_table(1),
        "settings": {
            **{f"{k}.{m}": 0 for k, members in karcher._SETTINGS.items() for m in members},
            "lockcode.code": 0,
        },
    }
    known = set(karcher._SCALARS) | {"robotStatus", "mapId", "mapId.uniqueMapId"}
    known |= {name for prefix, table in tables.items() for name in _members(dict(table), prefix)}
    assert set(karcher._READERS) == {*tables, "robotStatus", "mapId", "cleaningReport"}
    on_page = {row.field for row in STATES}
    assert known == {name.partition("[]")[0] if "[]" in name else name for name in on_page}


EVENTS = [row for row in FIELDS if row.path[0] in ("report", "notification", "command")]
_KINDS = {
    "report": ("karcher.cleaning.report", "cleaning_report"),
    "notification": ("karcher.notification", "notification"),
    "command": ("karcher.command", "command_execution"),
}


@pytest.mark.parametrize("row", EVENTS, ids=names(EVENTS))
def test_a_member_of_an_event_is_in_the_event(row: Row) -> None:
    kind, event_type = _KINDS[row.path[0]]
    result = normalised(kind, built(row.path[1:], row.example))
    assert result.events is not None and result.observation is None and result.dead_letter is None
    (event,) = result.events.events
    assert event.type == event_type
    data = json.loads(event.data)
    name = row.path[-1]
    if row.excluded:
        assert data[name] == "[redacted]"
        return
    assert row.becomes == f"event `{event_type}`"
    inner = json.loads(row.example) if name == "data" else row.example
    assert data[name] == inner
    if name in ("finishedAt", "recordedAt", "updatedAt"):
        assert event.time_source == "vendor" and event.occurred_at.isoformat()[:19] == row.example[:19]


@pytest.mark.parametrize("name", ["lastConnected", "lastContact"])
def test_contacts_are_readings_at_their_own_time(name: str) -> None:
    (row,) = [row for row in FIELDS if row.field == name]
    result = normalised("karcher.status", {name: row.example})
    assert result.observation is not None
    assert [f"`{reading.metric}`" for reading in result.observation.readings] == [row.becomes]


REGISTRY = [row for row in FIELDS if row.path[0] in ("machineId", "generic", "deviceTypeSpecific")]


@pytest.mark.parametrize("row", REGISTRY, ids=names(REGISTRY))
def test_a_member_of_the_registry_is_where_its_row_says(row: Row) -> None:
    body: dict[str, Any] = {"machineId": MACHINE, "generic": {"materialNumber": "1.1-1.0", "serialNumber": "7"}}
    found = built(row.path, row.example)
    body["generic"] |= found.pop("generic", {})
    device = protocol.read_machine(json.dumps(body | found).encode(), NOW).device
    told = json.loads(wire.encode(device))
    if row.excluded:
        assert str(row.example) not in json.dumps(told)
        return
    place = row.becomes.removeprefix("device, ").strip("`")
    assert (told[place][row.path[-1]] if place == "attributes" else told[place]) == row.example


def test_endpoints_are_read_by_the_settings_that_the_page_names() -> None:
    settings = KarcherSettings(environment="production")
    token, rest, socket = settings.urls
    urls = {"token_url": token, "socket_url": socket}
    read = {name: how for name, how in ENDPOINTS.items() if how.startswith("read: ")}
    for name, how in read.items():
        setting = how.removeprefix("read: ").strip("`")
        method, _, path = name.rpartition(" ")
        assert method in ("", "GET", "POST")
        found = urls[setting] if setting in urls else rest + getattr(settings, setting)
        assert path in found, name
    paths = {setting for setting in KarcherSettings.model_fields if setting.endswith("_path")}
    assert paths == {how.removeprefix("read: ").strip("`") for how in read.values() if how.endswith("_path`")}
    for name, how in ENDPOINTS.items():
        if name not in read:
            assert how.startswith("not telemetry, because ")
            method, _, path = name.partition(" ")
            reads_it = any(getattr(settings, p).split("{")[0] == path.split("{")[0] == path for p in paths)
            assert method != "GET" or not reads_it, name


def test_both_environments_are_the_documents() -> None:
    assert KarcherSettings(environment="staging").urls == (
        "https://auth.stage.fds.kaercher.com/oauth2/token",
        "https://api.stage.fds.kaercher.com/external/v1",
        "wss://websocket.stage.fds.kaercher.com",
    )
    assert KarcherSettings().urls[0] == "https://auth.fds.kaercher.com/oauth2/token"


def test_totals_are_as_the_page_says() -> None:
    excluded = sum(row.excluded for row in FIELDS)
    read = sum(how.startswith("read") for how in ENDPOINTS.values())
    assert (
        f"{len(FIELDS)} fields: {len(FIELDS) - excluded} covered, {excluded} excluded; "
        f"{len(ENDPOINTS)} endpoints: {read} read, {len(ENDPOINTS) - read} excluded."
    ) in PAGE
