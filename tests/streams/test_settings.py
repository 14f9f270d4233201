"""Section `[stream]`: datapoints of the user's own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import normalise
from streams.settings import StreamSettings


def reading(name: str, value: Any, **definition: Any) -> wire.Reading | None:
    settings = StreamSettings.model_validate({"wayscloud_datapoints": {name: definition}})
    attributes = {"mqtttopic": f"devices/s/sensors/{name}"}
    at = datetime(2026, 3, 16, tzinfo=UTC)
    data = json.dumps(value).encode() if not isinstance(value, bytes) else value
    envelope = Envelope("1", "wayscloud.publish", "t", "wayscloud:s", at, data, attributes=attributes)
    found = normalise(envelope, wire.Origin("t", 0, 0), settings.options()).observation
    return found.readings[0] if found else None


def test_a_datapoint_of_ones_own_is_converted() -> None:
    found = reading("water_temp", 72.5, metric="environment.temperature", unit="°F")
    assert found is not None
    assert (found.metric, found.value_number, found.unit) == ("environment.temperature", 22.5, "Cel")


def test_a_metric_of_ones_own_keeps_its_unit() -> None:
    found = reading("flow", "3", metric="flow.rate", unit="kPa", data_type="number")
    assert found is not None
    assert (found.metric, found.value_number, found.unit) == ("flow.rate", 3.0, "kPa")


def test_text_stays_text() -> None:
    found = reading("code", b"0012", metric="door.code", data_type="string")
    assert found is not None
    assert found.value_text == "0012"


def test_a_definition_overrules_a_well_known_name() -> None:
    found = reading("temperature", 50, metric="cpu.temperature")
    assert found is not None
    assert found.metric == "cpu.temperature"


@pytest.mark.parametrize(
    "definition",
    [
        {"metric": "environment.temperature", "unit": "hPa"},
        {"metric": "environment.temperature", "unit": "furlong"},
        {"metric": "environment.temperature", "data_type": "boolean"},
        {"metric": "door.open", "data_type": "string"},
        {"metric": ""},
        {"metric": "x", "colour": "red"},
    ],
)
def test_a_wrong_definition_is_refused(definition: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StreamSettings.model_validate({"wayscloud_datapoints": {"x": definition}})
