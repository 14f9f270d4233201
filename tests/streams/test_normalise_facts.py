"""Each quantity has a metric of its own, each fact its own time, and nothing that was sent vanishes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.metrics import catalogue
from tests.support.normalised import RECEIVED, events_of, normalised, problems_of, readings_of

SENT = datetime(2026, 3, 12, 15, tzinfo=UTC)


def values(message_type: str, payload: Any, **fields: Any) -> dict[str, Any]:
    made = readings_of(normalised(message_type, payload, **fields))
    return {
        metric: next(v for v in (r.value_number, r.value_text, r.value_boolean, r.value_json) if v is not None)
        for metric, r in made.items()
    }


# -- two quantities, two metrics


def test_the_storage_of_the_device_and_that_of_its_status_are_two_quantities() -> None:
    assert values("ogmen.device.log", {"storage_capacity_gb": 256}) == {"device.storage_capacity": 256.0}
    assert values("ogmen.storage.log", {"total_storage_gb": 128}) == {"storage.capacity": 128.0}


def test_odometry_and_the_map_are_two_frames() -> None:
    pose = {"position": {"x": 1, "y": 2, "z": 0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    odometry = values("ogmen.channel", {"topic": "odom", "pose": {"pose": pose}})
    location = values("ogmen.location.log", {"log_id": 1, "position_x": 1, "position_y": 2, "orientation_angle": 0})
    assert odometry == {
        "position.odom_x": 1.0,
        "position.odom_y": 2.0,
        "position.odom_z": 0.0,
        "orientation.odom_yaw": 0.0,
    }
    assert location == {"position.x": 1.0, "position.y": 2.0, "orientation.yaw": 0.0}
    described = [metric.description for metric in catalogue().values() if metric.name.startswith("position.")]
    assert all("frame of the" in text for text in described)


@pytest.mark.parametrize(
    ("answer", "field", "metric"),
    [
        ("camera_head", "status", "camera.status"),
        ("battery", "status", "ogmen.battery.status"),
        ("storage", "status", "ogmen.storage.status"),
        ("battery", "temperature", "battery.temperature"),
        ("system_usage", "temperature", "ogmen.system_usage.temperature"),
        ("network", "voltage", "ogmen.network.voltage"),
    ],
)
def test_a_field_that_says_little_means_what_its_answer_says(answer: str, field: str, metric: str) -> None:
    value = "OK" if field == "status" else 35
    assert list(values(f"ogmen.{answer}.log", {"device_id": "d", field: value})) == [metric]


# -- times


@pytest.mark.parametrize(
    "payload",
    [
        {"command": "dispense_treat", "quantity": 2, "timestamp": "2026-03-12T15:00:00Z"},
        {"topic": "/command", "data": {"command": "throw_ball", "timestamp": "2026-03-12T16:00:00+01:00"}},
        {"action": "enable_privacy", "timestamp": 1773327600000},
        {"command": "dock", "timestamp": {"sec": 1773327600, "nanosec": 0}},
    ],
)
def test_a_relayed_command_has_its_own_time(payload: dict[str, Any]) -> None:
    result = normalised("ogmen.channel", payload)
    (event,) = events_of(result)
    assert (event.occurred_at, event.time_source) == (SENT, "vendor")
    assert problems_of(result) == []


def test_a_relayed_command_without_a_readable_time_has_that_of_receipt() -> None:
    (event,) = events_of(normalised("ogmen.channel", {"command": "dock"}))
    assert (event.occurred_at, event.time_source) == (RECEIVED, "received")
    result = normalised("ogmen.channel", {"command": "dock", "timestamp": "soon"})
    assert events_of(result)[0].time_source == "received"
    assert problems_of(result) == [("timestamp", "bad_time")]


def test_last_seen_is_a_time_in_utc_and_was_observed_then() -> None:
    made = readings_of(normalised("wayscloud.device", {"last_seen": "2026-03-12T17:00:00+02:00", "battery_level": 5}))
    seen = made["connection.last_contact"]
    assert (seen.observed_at, seen.time_source) == (SENT, "vendor")
    assert seen.value_text is not None and datetime.fromisoformat(seen.value_text) == SENT
    assert seen.value_text.endswith("Z")
    assert made["battery.level"].observed_at == RECEIVED
    assert problems_of(normalised("wayscloud.device", {"last_seen": "yesterday"})) == [("last_seen", "bad_time")]


# -- nothing vanishes


def test_inner_members_of_settings_are_kept() -> None:
    settings = {
        "hmiLanguage": {"hmiLanguage": "en"},
        "beep": {"status": 1, "volume": 40},
        "lockcode": {"code": 9999},
        "lights": 1,
        "newSetting": {"level": 3},
    }
    state = {"name": "settings", "value": json.dumps(settings), "timestamp": "2026-03-12T15:00:00Z"}
    assert values("karcher.status", {"states": [state]}) == {
        "settings.language": "en",
        "settings.beep": True,
        "karcher.settings.beep.volume": 40.0,
        "settings.lights": True,
        "karcher.settings.newSetting": '{"level":3}',
    }
    assert values("karcher.datapoints", {"data": {"settings": {"hmiLanguage": {"language": "fi"}}}}) == {
        "settings.language": "fi"
    }


def test_what_a_status_has_beside_its_document_is_kept() -> None:
    state = {"name": "charging", "value": "true", "timestamp": "2026-03-12T15:00:00Z", "source": "mcu"}
    assert values("karcher.status", {"machineId": "m", "region": "eu", "states": [state]}) == {
        "battery.charging": True,
        "karcher.charging.source": "mcu",
        "karcher.region": "eu",
    }


# -- units


def publish(payload: Any) -> Any:
    return normalised("wayscloud.publish", payload, attributes={"mqtttopic": "devices/one/sensors/temperature"})


@pytest.mark.parametrize("unit", ["degK", "gibberish", "hPa"])
def test_a_number_in_an_unknown_unit_is_no_temperature(unit: str) -> None:
    assert readings_of(publish({"value": 300, "unit": unit})) == {}
    assert problems_of(publish({"value": 300, "unit": unit})) == [("value", "unit")]
    reading = {"sensor_type": "temperature", "value": 300, "unit": unit}
    result = normalised("climasense.telemetry", {"readings": [reading]})
    assert "environment.temperature" not in readings_of(result)
    assert problems_of(result) == [("readings[0]", "unit")]


def test_a_known_unit_beside_the_value_is_converted() -> None:
    assert readings_of(publish({"value": 300, "unit": "K"}))["environment.temperature"].value_number == 26.85
    reading = {"sensor_type": "temperature", "value": 72.5, "unit": "°F"}
    made = readings_of(normalised("climasense.telemetry", {"readings": [reading]}))
    assert made["environment.temperature"].value_number == 22.5


def test_the_unit_of_a_datapoint_that_nobody_defined_is_kept() -> None:
    for unit, expected in (("bar", "bar"), ("furlong", "{furlong}")):
        attributes = {"mqtttopic": "devices/one/sensors/boiler"}
        made = readings_of(normalised("wayscloud.publish", {"value": 3, "unit": unit}, attributes=attributes))
        assert [(r.value_number, r.unit) for r in made.values()] == [(3.0, expected)]
