"""ClimaSense's telemetry: where a position may lie, and which time it has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.normalised import RECEIVED, normalised, problems_of, readings_of


def submitted(**fields: Any) -> Any:
    return normalised("climasense.telemetry", {"readings": [], **fields})


@pytest.mark.parametrize(("name", "most"), [("latitude", 90), ("longitude", 180)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_position_lies_on_the_globe(name: str, most: int, sign: int) -> None:
    edge = submitted(**{name: sign * most})
    assert readings_of(edge)[f"location.{name}"].value_number == sign * most and problems_of(edge) == []
    for beyond in (most + 0.001, most + 1):
        result = submitted(**{name: sign * beyond})
        assert problems_of(result) == [(name, "out_of_range")]
        assert f"location.{name}" not in readings_of(result)


def test_a_position_has_the_time_of_the_latest_reading() -> None:
    readings = [
        {"sensor_type": "temperature", "value": 20, "timestamp": "2026-03-16T07:00:00Z"},
        {"sensor_type": "humidity", "value": 50, "timestamp": "2026-03-16T06:00:00Z"},
    ]
    result = submitted(readings=readings, latitude=60, longitude=10)
    assert readings_of(result)["location.latitude"].observed_at == datetime(2026, 3, 16, 7, tzinfo=UTC)
    assert readings_of(submitted(latitude=60))["location.latitude"].observed_at == RECEIVED
