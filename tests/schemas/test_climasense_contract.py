"""The OpenAPI document of the ClimaSense server, and the models it is made of."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from schemas.climasense import (
    ENDPOINTS,
    CommandResult,
    Location,
    OtaStatus,
    SensorPairing,
    SettingsUpdate,
    TelemetrySubmission,
)
from schemas.climasense import openapi as document
from schemas.contract import VERSION

DOCUMENTED: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (
        TelemetrySubmission,
        {
            "latitude": 37.7749,
            "longitude": -122.4194,
            "readings": [{"sensor_type": "temperature", "value": 23.5, "timestamp": "2026-03-29T12:00:00Z"}],
        },
    ),
    (
        SettingsUpdate,
        {
            "reporting_interval_seconds": 60,
            "enabled_sensors": ["string"],
            "location": {"latitude": -90, "longitude": -180, "name": "Marina Berth 12"},
            "timezone": "America/Los_Angeles",
        },
    ),
    (
        CommandResult,
        {
            "command_id": "7d510d78-7444-4252-aeac-9e473949661e",
            "status": "acked",
            "error_message": "string",
            "result": {},
        },
    ),
    (
        OtaStatus,
        {"version": "string", "status": "downloading", "progress_percent": 100, "error_message": "string"},
    ),
    (SensorPairing, {"sensor_api_key": "sk_sensor_abc123...", "ieee_address": "0x00124b001cce5a7d"}),
]


@pytest.mark.parametrize(("model", "body"), DOCUMENTED, ids=lambda value: getattr(value, "__name__", ""))
def test_documented_bodies_are_valid_and_kept_whole(model: type[BaseModel], body: dict[str, Any]) -> None:
    dumped = model.model_validate(body).model_dump(mode="json", exclude_none=True)
    assert dumped == body


@pytest.mark.parametrize(("model", "body"), DOCUMENTED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_a_newer_device_adds_is_ignored_but_for_settings(model: type[BaseModel], body: dict[str, Any]) -> None:
    newer = body | {"new": {"of": "a later version"}}
    dumped = model.model_validate(newer).model_dump(mode="json", exclude_none=True)
    assert dumped == (newer if model is SettingsUpdate else body)


def test_every_reference_leads_somewhere_and_every_operation_is_guarded() -> None:
    served = document()
    assert served["openapi"] == "3.1.0" and served["security"] == [{"apiKey": []}]
    assert served["info"]["version"] == VERSION
    operations = [o for path in served["paths"].values() for o in path.values()]
    assert [o["operationId"] for o in operations] == [e.name for e in ENDPOINTS]
    for operation in operations:
        assert {"200", "401", "429", "503"} <= set(operation["responses"])
        assert "Retry-After" in operation["responses"]["429"]["headers"]
    for reference in _references(served):
        target: Any = served
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def _references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [r for value in node.values() for r in _references(value)]
    return [r for value in node for r in _references(value)] if isinstance(node, list) else []


@pytest.mark.parametrize("model", [TelemetrySubmission, Location])
@pytest.mark.parametrize(("name", "most"), [("latitude", 90), ("longitude", 180)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_position_lies_on_the_globe(model: type[BaseModel], name: str, most: int, sign: int) -> None:
    readings = [{"sensor_type": "temperature", "value": 20}] if model is TelemetrySubmission else None
    body = {"readings": readings} if readings else {}
    assert getattr(model.model_validate(body | {name: sign * most}), name) == sign * most
    for beyond in (most + 0.001, most + 1):
        with pytest.raises(ValidationError, match=name):
            model.model_validate(body | {name: sign * beyond})
