"""WAYSCloud's sensors, their messages, and the objects of its REST API, as in its API document (pure)."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from simulators.fleet import Room, RoomState, random_for, uuid_for
from simulators.wire import encode, rfc3339

Style = Literal["scalar", "timed", "object"]
STYLES: tuple[Style, ...] = ("timed", "scalar", "object")


class Datapoint(NamedTuple):
    """What a sensor measures."""

    name: str
    label: str
    unit: str | None
    data_type: str


DATAPOINTS = (
    Datapoint("temperature", "Temperature", "°C", "number"),
    Datapoint("humidity", "Humidity", "%", "number"),
    Datapoint("battery_level", "Battery", "%", "number"),
    Datapoint("pressure", "Pressure", "hPa", "number"),
    Datapoint("signal_strength", "Signal strength", "dBm", "number"),
    Datapoint("door_open", "Door open", None, "boolean"),
    Datapoint("mode", "Mode", None, "string"),
)
"""Key, label, unit, data type."""

TURNS = tuple(
    name
    for third in ("humidity", "pressure", "signal_strength", "door_open", "mode")
    for name in ("temperature", "battery_level", third)
)
"""The order in which a sensor that sends one datapoint a message sends them."""

METRICS = {"temperature": "environment.temperature", "battery_level": "battery.level"}
"""Datapoints whose metric can be made to cross a threshold."""

CREATED, UPDATED = "2026-01-10T12:00:00Z", "2026-03-20T14:22:00Z"


@dataclass(frozen=True)
class Sensor:
    """One sensor and the way it writes its payloads."""

    seed: int
    device_id: str
    number: int
    style: Style
    room: Room


def build_fleet(seed: int, devices: int) -> list[Sensor]:
    """``sensor-001``…, the three styles of payload in turns."""
    return [
        Sensor(seed, device, number, STYLES[number % 3], Room(seed, f"wayscloud/{device}"))
        for number, device in enumerate(f"sensor-{number + 1:03d}" for number in range(devices))
    ]


def values(state: RoomState) -> dict[str, float | bool | str]:
    """All datapoints of a sensor at one moment."""
    return {
        "temperature": round(state.temperature, 2),
        "humidity": round(state.humidity, 2),
        "battery_level": round(state.battery, 2),
        "pressure": round(state.pressure, 2),
        "signal_strength": round(state.signal),
        "door_open": state.occupied,
        "mode": "comfort" if state.occupied else "eco",
    }


def topic(sensor: Sensor, datapoint: str) -> str:
    """``devices/<id>/sensors/<datapoint>``, after ``expected_topics``."""
    return f"devices/{sensor.device_id}/sensors/{datapoint}"


def timed(value: object, now: float) -> bytes:
    """``{"value", "timestamp"}``."""
    return encode({"value": value, "timestamp": rfc3339(now)})


def message(sensor: Sensor, turn: int, current: dict[str, float | bool | str], now: float) -> tuple[str, bytes]:
    """Topic and payload of a sensor's next message, in its style."""
    if sensor.style == "object":
        return topic(sensor, "all"), encode(current | {"timestamp": rfc3339(now)})
    datapoint = TURNS[turn % len(TURNS)]
    value = current[datapoint]
    if sensor.style == "timed":
        return topic(sensor, datapoint), timed(value, now)
    return topic(sensor, datapoint), value.encode() if isinstance(value, str) else encode(value)


def sent_by(sensor: Sensor, turn: int) -> tuple[str, ...]:
    """The datapoints that the sensor's next message holds."""
    return tuple(name for name, *_ in DATAPOINTS) if sensor.style == "object" else (TURNS[turn % len(TURNS)],)


# --- REST --------------------------------------------------------------------------------------------------------


def brief(sensor: Sensor, now: float) -> dict[str, Any]:
    """A device in the list; every second one lacks ``last_seen``, as the document's example does."""
    entry = {"device_id": sensor.device_id, "name": f"Sensor {sensor.number + 1}", "is_active": True, "is_online": True}
    return entry if sensor.number % 2 else entry | {"last_seen": rfc3339(now - 1)}


def device(sensor: Sensor, now: float, tags: list[str]) -> dict[str, Any]:
    """A device in full; its values carry no time."""
    state = sensor.room.at(now)
    return brief(sensor, now) | {
        "device_type": "ESP32",
        "connection_status": "connected",
        "stability_score": 95,
        "firmware_version": "2.1.0",
        "tags": tags,
        "metadata": {"location": f"Building {'ABC'[sensor.number % 3]}"},
        "messages_24h": 1440,
        "battery_level": round(state.battery),
        "signal_strength": round(state.signal),
        "created_at": "2026-01-15T10:00:00Z",
    }


def health(sensor: Sensor, now: float) -> dict[str, Any]:
    """Score and components (``uptime`` is a score here, no time)."""
    uptime = 90 + int(now) % 11
    components = {"uptime": uptime, "alarm_burden": 95, "connection_stability": 90, "telemetry_freshness": 85}
    return {
        "device_id": sensor.device_id,
        "health_score": sum(components.values()) // 4,
        "health_status": "healthy",
        "components": components,
        "checked_at": rfc3339(now),
    }


def datapoint_definitions(seed: int) -> list[dict[str, Any]]:
    """Every datapoint the sensors publish."""
    return [
        {
            "id": uuid_for(seed, "datapoint", name),
            "name": name,
            "label": label,
            "unit": unit,
            "data_type": data_type,
            "aggregation_method": "avg" if data_type == "number" else "last",
            "is_chartable": data_type == "number",
            "is_alertable": data_type == "number",
            "created_at": CREATED,
        }
        for name, label, unit, data_type in DATAPOINTS
    ]


def telemetry(sensor: Sensor, now: float) -> list[dict[str, Any]]:
    """The values at one moment, as the telemetry endpoints give them."""
    current = values(sensor.room.at(now))
    return [stored_row(sensor.seed, datapoint, current[datapoint.name], now) for datapoint in DATAPOINTS]


def stored_row(seed: int, datapoint: Datapoint, value: object, now: float) -> dict[str, Any]:
    """One stored value."""
    return {
        "datapoint_id": uuid_for(seed, "datapoint", datapoint.name),
        "name": datapoint.name,
        "label": datapoint.label,
        "unit": datapoint.unit,
        "data_type": datapoint.data_type,
        "measured_at": rfc3339(now),
        "value": value,
    }


def group(seed: int) -> dict[str, Any]:
    """The one group of devices."""
    return {
        "id": uuid_for(seed, "group"),
        "name": "Floor 3 Sensors",
        "description": "All sensors on floor 3",
        "color": "#FF5733",
        "created_at": CREATED,
        "updated_at": UPDATED,
    }


def profile(seed: int) -> dict[str, Any]:
    """The one device profile."""
    return {
        "id": uuid_for(seed, "profile"),
        "name": "Temperature Sensor Profile",
        "description": "Standard temperature/humidity sensors",
        "expected_topics": ["devices/+/sensors/temperature", "devices/+/sensors/humidity"],
        "reporting_interval_seconds": 60,
        "metadata": {"sensor_type": "DHT22"},
        "created_at": CREATED,
        "updated_at": UPDATED,
    }


def rules(seed: int) -> list[dict[str, Any]]:
    """Alarm rules in full: a threshold for the fleet, and silence of one device."""
    common = {"actions": ["create_alarm"], "cooldown_seconds": 300, "is_enabled": True}
    stamps = {"created_at": "2026-02-01T10:00:00Z", "updated_at": UPDATED}
    threshold = {"datapoint_id": uuid_for(seed, "datapoint", "temperature"), "operator": "gt", "value": 35}
    return [
        {
            "id": uuid_for(seed, "rule", "temperature"),
            "name": "High temperature alert",
            "rule_type": "threshold",
            "scope_type": "fleet",
            "config": threshold | {"duration_seconds": 300},
            "severity": "warning",
            "auto_resolve": False,
        }
        | common
        | stamps,
        {
            "id": uuid_for(seed, "rule", "offline"),
            "name": "Device offline",
            "rule_type": "offline",
            "scope_type": "device",
            "scope_device_id": "sensor-001",
            "config": {"duration_seconds": 300},
            "severity": "critical",
            "auto_resolve": True,
        }
        | common
        | stamps,
    ]


def alarms(seed: int, fleet: list[Sensor], started: float) -> list[dict[str, Any]]:
    """Alarms from before the simulation: one of every fourth device, in each of the three states by turns."""
    deliveries = []
    for number, sensor in enumerate(fleet[::4]):
        rng = random_for(seed, "alarm", sensor.device_id)
        triggered = started - rng.uniform(600, 3600)
        status = ("active", "acknowledged", "resolved")[number % 3]
        deliveries.append(
            {
                "id": uuid_for(seed, "alarm", sensor.device_id),
                "device_id": sensor.device_id,
                "rule_id": uuid_for(seed, "rule", "offline"),
                "rule_name": "Device offline",
                "severity": "warning",
                "title": f"Device offline: {sensor.device_id}",
                "message": "Device has been offline for 5 minutes",
                "status": status,
                "triggered_at": rfc3339(triggered),
                "occurrence_count": rng.randint(1, 4),
                "acknowledged_at": rfc3339(triggered + 60) if status == "acknowledged" else None,
                "resolved_at": rfc3339(triggered + 120) if status == "resolved" else None,
                "created_at": rfc3339(triggered),
            }
        )
    return deliveries


def alarm_brief(alarm: dict[str, Any]) -> dict[str, Any]:
    """An alarm in the list."""
    keys = ("id", "device_id", "severity", "title", "status", "triggered_at", "occurrence_count")
    return {key: alarm[key] for key in keys}


def timeline(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """What happened to an alarm, numbered from 1."""
    steps: list[tuple[str, str, str, dict[str, str] | None]] = [
        ("triggered", "rule_engine", alarm["triggered_at"], {"severity": alarm["severity"]})
    ]
    if alarm["acknowledged_at"]:
        steps.append(("acknowledged", "operator@example.com", alarm["acknowledged_at"], None))
    if alarm["resolved_at"]:
        steps.append(("resolved", "rule_engine", alarm["resolved_at"], None))
    return [
        {"id": number, "event_type": kind, "actor": actor, "note": None, "metadata": metadata, "created_at": at}
        for number, (kind, actor, at, metadata) in enumerate(steps, start=1)
    ]


def deliveries(seed: int, alarms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Notifications sent: one of each alarm."""
    return [
        {
            "id": uuid_for(seed, "delivery", alarm["id"]),
            "channel_type": "webhook",
            "status": "delivered",
            "sent_at": alarm["triggered_at"],
        }
        for alarm in alarms
    ]
