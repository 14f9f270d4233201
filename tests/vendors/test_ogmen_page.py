"""docs/vendors/ogmen.md is held against the code: every documented field and operation becomes what the page says."""

from __future__ import annotations

import copy
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from connectors.ogmen import protocol
from connectors.ogmen.channel import CHANNEL, Channel
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.settings import OgmenSettings
from schemas import wire
from schemas.envelope import Envelope
from streams.normalise import Normalised, Options, normalise
from streams.normalise import ogmen as normaliser

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/vendors/ogmen.md").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 16, 7, 21, 7, tzinfo=UTC)
ID = "123e4567-e89b-12d3-a456-426614174000"


def rows(heading: str) -> dict[str, str]:
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:3] for line in section.splitlines() if line.startswith("| ")]
    return {name.strip().strip("`"): becomes.strip() for name, becomes in cells[2:]}


OPERATIONS, FIELDS = rows("Every documented operation"), rows("Every documented field")
EXCLUDED = "not telemetry, because "

_STAMP = {"sec": 1773645666, "nanosec": 755000000}
_VECTOR = {"x": 1.0, "y": 2.0, "z": 3.0}
_POSE = {"position": _VECTOR, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}
_HEADER = {"stamp": _STAMP, "frame_id": "map"}

DOCUMENTED: dict[str, dict[str, Any]] = {
    # ogmen.txt, the example of each answer
    "device": {
        "device_id": ID,
        "model": "ORo",
        "manufacturer": "Ogmen Robotics",
        "os_version": "1.2.3",
        "serial_number": "SN123456789",
        "battery_health": 95,
        "last_restart_time": "2025-01-01T00:00:00Z",
        "secure_enclave_id": ID,
        "storage_capacity_gb": 256,
    },
    "storage": {
        "storage_id": 50,
        "device_id": ID,
        "total_storage_gb": 128,
        "available_storage_gb": 64.5,
        "used_storage_gb": 63.5,
    },
    "network": {
        "network_id": 20,
        "device_id": ID,
        "ssid": "HomeWiFi",
        "security_protocol": "WPA2",
        "ip_address": "192.168.1.2",
        "mac_address": "1.2.3",
        "is_connected": True,
        "last_connected_at": "2025-01-01T00:00:00Z",
    },
    "device_settings": {
        "device_id": ID,
        "privacy_status": True,
        "privacy_enabled_by": "string",
        "volume": 0,
        "display_brightness": 0,
        "status_light_brightness": 0,
        "last_device_settings_changed_by": "string",
        "last_device_settings_changed_at": "2019-08-24T14:15:22Z",
        "last_robot_synced_time": "2019-08-24T14:15:22Z",
    },
    "activity": {
        "log_id": 1,
        "device_id": ID,
        "recorded_at": "2025-03-12T12:00:00Z",
        "activity_type": "Movement",
        "description": "Device moved to kitchen",
        "task_id": ID,
        "triggered_by": "System",
        "user_id": ID,
        "error_code": "ORoError420",
        "resolved": False,
    },
    "connectivity": {
        "log_id": 10,
        "device_id": ID,
        "recorded_at": "2025-03-12T12:05:00Z",
        "connection_status": "Connected",
        "signal_strength": -50,
        "network_type": "WIFI",
        "ip_address": "192.168.1.2",
        "is_synced": True,
        "synced_at": "2025-03-12T12:05:00Z",
    },
    "location": {
        "log_id": 12345,
        "location_id": 600,
        "device_id": ID,
        "recorded_at": "2025-01-01T00:00:00Z",
        "house_no": 1,
        "room_name": "Living Room",
        "position_x": 12.5,
        "position_y": 8.3,
        "orientation_angle": 45,
        "floor_level": 1,
        "movement_status": "Moving",
    },
    "system_usage": {
        "log_id": 100,
        "device_id": ID,
        "timestamp": "2025-03-12T12:10:00Z",
        "cpu_usage_percent": 45.6,
        "npu_usage_percent": 45.6,
        "gpu_usage_percent": 45.6,
        "memory_usage_mb": 1024,
        "system_load_avg": 1.57,
        "cpu_temperature": 55,
        "power_state": "Active Mode",
    },
    "battery": {
        "device_id": ID,
        "battery_level": 85,
        "charging_status": "Charging",
        "charging_source": "Wireless",
        "voltage": 27,
        "temperature": 35,
        "last_charging_time": "2025-01-01T00:00:00Z",
    },
    "volume": {"device_id": ID, "volume": 0},
    "status_light_brightness": {"device_id": ID, "status_light_brightness": 0},
    "display_brightness": {"device_id": ID, "display_brightness": 0},
    "treat_bin": {"device_id": ID, "treat_bin_level": 50, "last_robot_synced_time": "2025-05-30T14:30:00Z"},
    "camera_head": {
        "device_id": ID,
        "status": "OK",
        "cam_head_position": 45,
        "shutter_status": True,
        "last_cam_head_rotated_time": "2025-06-21T10:00:00Z",
        "last_robot_synced_time": "2025-06-21T10:05:00Z",
    },
    "privacy": {
        "command": "string",
        "privacy_mode_enabled": True,
        "privacy_mode_enabled_at": "2019-08-24T14:15:22Z",
        "privacy_mode_enabled_by": "MAPP",
        "privacy_mode_disabled_at": "2019-08-24T14:15:22Z",
        "privacy_mode_disabled_by": "MAPP",
        "privacy_keep_until_disabled": True,
    },
    "insight": {
        "insight_id": 1000,
        "dog_id": ID,
        "recorded_at": "2025-03-12T14:00:00Z",
        "activity_detected": "Playing",
        "confidence_score": 0.95,
        "emotion": "Happy",
        "severity_level": "Low",
        "location": "Living Room",
        "description": "Dog was playing with the Human",
    },
    "alert": {
        "timestamp": "2019-08-24T14:15:22Z",
        "uuid": "095be615-a8ad-4c33-8e9c-c7612fbf6c9f",
        "source": "string",
        "severity": 1,
        "header": "string",
        "body": "string",
        "action_required": "string",
        "link_for_favicon": "https://example.com/icon.png",
        "link_for_large_image": "https://example.com/large.gif",
    },
    "channel": {"message": f"Websocket Connected Successfully to {ID}."},
    # ROS 2, since the document only names them
    "odom": {
        "topic": "odom",
        "header": _HEADER,
        "child_frame_id": "base_link",
        "pose": {"pose": _POSE, "covariance": [0.0] * 36},
        "twist": {"twist": {"linear": _VECTOR, "angular": _VECTOR}, "covariance": [0.0] * 36},
    },
    "tf": {"topic": "tf", "transforms": [{"header": _HEADER, "child_frame_id": "base_link", "transform": {}}]},
    "tf_static": {
        "topic": "tf_static",
        "transforms": [{"header": _HEADER, "child_frame_id": "lidar", "transform": {}}],
    },
    "map": {
        "topic": "map",
        "header": _HEADER,
        "info": {"resolution": 0.05, "width": 2, "height": 2, "origin": _POSE, "map_load_time": _STAMP},
        "data": [0, -1, 100, 0],
    },
    "goal_pose": {"topic": "goal_pose", "header": _HEADER, "pose": _POSE},
}
REST = {endpoint.name: endpoint for endpoint in ENDPOINTS}


def envelopes(kind: str, payload: dict[str, Any]) -> list[Envelope]:
    """What the connector makes of a payload."""
    body = json.dumps(payload).encode()
    if kind == "alert":
        return [protocol.alert(body, "r", NOW)]
    if kind in REST:
        gate = PrivacyGate(on=False)
        return [
            e
            for b in protocol.entries(body)
            for e in protocol.read_entry(REST[kind], b, "ogmen:r", NOW, gate).message.envelopes
        ]
    return Channel("ogmen:r").message(body, NOW).envelopes


def result(kind: str, payload: dict[str, Any]) -> Normalised:
    """What becomes of a payload, from the connector to the normalised records."""
    found = [normalise(e, wire.Origin("t", 0, 0), Options()) for e in envelopes(kind, payload)]
    return found[0] if found else Normalised()


def metrics(outcome: Normalised) -> set[str]:
    return {reading.metric for reading in outcome.observation.readings} if outcome.observation else set()


def without(payload: dict[str, Any], path: str) -> dict[str, Any]:
    changed = copy.deepcopy(payload)
    *parents, last = path.split(".")
    found = changed
    for parent in parents:
        found = found[parent]
    del found[last]
    return changed


@pytest.mark.documented
@pytest.mark.parametrize("row", FIELDS)
def test_a_documented_field_becomes_what_the_page_says(row: str) -> None:
    kind, _, path = row.partition(".")
    becomes, payload = FIELDS[row], DOCUMENTED[kind]
    whole = result(kind, payload)
    assert whole.dead_letter is None
    said = set(re.findall(r"`([a-z_.]+)`", becomes.partition(EXCLUDED)[0]))
    events = set(re.findall(r"event `(\w+)`", becomes.partition(EXCLUDED)[0]))
    for metric in said - events:
        assert metric in metrics(whole)
        assert metric not in metrics(result(kind, without(payload, path)))
    for event in events:
        assert whole.events is not None and [e.type for e in whole.events.events] == [event]
        facts = json.loads(whole.events.events[0].data)
        assert facts["width"] == 2 and facts["frame_id"] == "map" if kind == "map" else path in facts
    if "registry" in becomes:
        record = protocol.device_record(json.dumps(payload).encode(), "r", NOW)
        assert str(payload[path]) in wire.encode(record).decode()
    if becomes == "time of the readings":
        assert whole.observation is not None
        assert {r.time_source for r in whole.observation.readings} == {"vendor"}
        undated = result(kind, without(payload, path)).observation
        assert undated is not None and {r.time_source for r in undated.readings} == {"received"}
    if becomes.startswith(EXCLUDED):
        assert metrics(whole) == metrics(result(kind, without(payload, path)))
        if kind in REST:
            assert result(kind, {path: payload[path]}).observation is None
    if "(redacted)" in becomes:
        assert json.loads(envelopes(kind, payload)[0].data)[path] == "[redacted]"


@pytest.mark.documented
def test_the_page_has_every_documented_field() -> None:
    for kind, payload in DOCUMENTED.items():
        listed = {row.split(".")[1] for row in FIELDS if row.startswith(f"{kind}.")}
        assert listed == set(payload) - {"topic"}, kind


def test_every_field_the_code_knows_is_on_the_page() -> None:
    listed = {row.rpartition(".")[2] for row in FIELDS}
    known = set(normaliser._FIELDS) | normaliser._NOT_TELEMETRY
    assert known - listed == {"registration_key"}, "a device's registration is not asked for"


def test_every_operation_is_read_or_says_why_not() -> None:
    read = {kind for becomes in OPERATIONS.values() for kind in re.findall(r"`(ogmen\.\w+(?:\.log)?)`", becomes)}
    assert read == {endpoint.type for endpoint in ENDPOINTS} | {CHANNEL, protocol.ALERT}
    for operation, becomes in OPERATIONS.items():
        assert "ogmen." in becomes or becomes == "registry" or becomes.startswith(EXCLUDED), operation
    optional = {e.name for e in ENDPOINTS if not getattr(OgmenSettings(), e.path_setting)}
    assert optional == {"volume", "status_light_brightness", "display_brightness"}


def test_totals(record_property: Any) -> None:
    excluded = sum(becomes.startswith(EXCLUDED) for becomes in FIELDS.values())
    operations = sum(becomes.startswith(EXCLUDED) for becomes in OPERATIONS.values())
    totals = (len(FIELDS) - excluded, excluded, len(OPERATIONS) - operations, operations)
    record_property("fields covered, fields excluded, operations covered, operations excluded", totals)
    print("ogmen: fields covered/excluded, operations covered/excluded:", totals)
    assert totals[0] > 2 * totals[1]
