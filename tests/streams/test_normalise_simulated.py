"""What the simulators say normally is normalised without a dead letter, and by the catalogue."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from schemas import wire
from schemas.envelope import Envelope
from schemas.vendors import vendor_names
from simulators.karcher import payloads as karcher
from simulators.ogmen import payloads as ogmen
from simulators.wayscloud import payloads as wayscloud
from streams.normalise import Normalised, Options, normalise
from tests.support.recordings import assert_contract

NOW = 1_773_645_666.0


def normalised(kind: str, device: str, payload: Any, **attributes: str) -> Normalised:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    at = datetime.fromtimestamp(NOW, UTC)
    envelope = Envelope("id", kind, "t", device, at, data, attributes=attributes)
    result = normalise(envelope, wire.Origin("t", 0, 0), Options())
    assert result.dead_letter is None, result.dead_letter
    assert_contract(result)
    return result


def names_of(result: Normalised) -> set[str]:
    return {reading.metric for reading in result.observation.readings} if result.observation else set()


def assert_none_unknown(names: set[str]) -> None:
    assert [name for name in names if name.partition(".")[0] in vendor_names()] == []


def test_karcher() -> None:
    names: set[str] = set()
    for machine in karcher.build_fleet(1, 6, 120.0):
        device = f"karcher:{machine.native_id}"
        names |= names_of(normalised("karcher.status", device, karcher.status(machine, NOW, 0.42)))
        if machine.family == "other":
            continue
        for turn in range(24):
            names |= names_of(normalised("karcher.datapoints", device, karcher.datapoints(machine, turn, NOW + turn)))
    assert {
        "battery.level",
        "position.x",
        "job.progress",
        "machine.state",
        "water.fresh",
        "service.brush_time",
    } <= names
    assert_none_unknown(names)


def test_ogmen() -> None:
    names: set[str] = set()
    for oro in ogmen.build_fleet(1, 3, 120.0):
        device = f"ogmen:{oro.device_id}"
        for message in (ogmen.odom(oro, NOW), ogmen.tf(oro, NOW), ogmen.tf_static(oro, NOW)):
            names |= names_of(normalised("ogmen.channel", device, message))
        for message in (ogmen.occupancy_map(oro, NOW, 8), ogmen.chatter(oro, 0)):
            assert normalised("ogmen.channel", device, message).events is not None
        assert normalised("ogmen.channel", device, ogmen.greeting(oro)) == Normalised()
        assert normalised("ogmen.channel", device, ogmen.chatter(oro, 1)) == Normalised()
        assert normalised("ogmen.alert", device, ogmen.alert(oro, 1, 600.0)).events is not None
        entry = ogmen.log_entries(NOW, 60.0)[-1]
        for kind, found in (
            ("location", ogmen.location(oro, entry, NOW)),
            ("connectivity", ogmen.connectivity(oro, entry, NOW)),
            ("system_usage", ogmen.system_usage(oro, entry, NOW)),
            ("battery_status", ogmen.battery_status(oro, NOW, 0.4)),
            ("treat_bin", ogmen.treat_bin(oro, NOW)),
            ("cam_head", ogmen.cam_head(oro, NOW)),
            ("privacy_mode", ogmen.privacy_mode(oro, NOW)),
            ("device_settings", ogmen.device_settings(oro, NOW)),
            ("storage", ogmen.storage(oro, NOW)),
            ("network", ogmen.network(oro, NOW)),
            ("device", ogmen.device(oro, NOW)),
        ):
            names |= names_of(normalised(f"ogmen.{kind}.log", device, found))
        for kind, found in (("activity", ogmen.activity), ("dog_insights", ogmen.insight)):
            assert normalised(f"ogmen.{kind}.log", device, found(oro, entry, NOW)).events is not None
    assert {"orientation.yaw", "battery.level", "cpu.usage", "treat_bin.level", "privacy.enabled"} <= names
    assert_none_unknown(names)


def test_wayscloud() -> None:
    names: set[str] = set()
    current = {
        "temperature": 21.5,
        "humidity": 40.0,
        "pressure": 1013.0,
        "battery_level": 80.0,
        "signal_strength": -60.0,
        "door_open": False,
        "mode": "eco",
    }
    for sensor in wayscloud.build_fleet(1, 6):
        for turn in range(14):
            topic, payload = wayscloud.message(sensor, turn, dict(current), NOW)
            names |= names_of(
                normalised("wayscloud.publish", f"wayscloud:{topic.split('/')[1]}", payload, mqtttopic=topic)
            )
    assert len(names) == len(current)
    assert_none_unknown(names)
