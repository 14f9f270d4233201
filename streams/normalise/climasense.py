"""ClimaSense: the readings a device or hub posts, and what it reports of commands, updates and sensors (pure).

Source: ClimaSense's API document. Sensor types are open-ended: one we do not know is kept as `climasense.<type>`.
Message types: `climasense.telemetry`, `climasense.command.event`, `climasense.command-result.event`,
`climasense.ota-status.event`, `climasense.sensor-paired.event`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from schemas.units import ucum_code
from streams.normalise.message import Field, Message, Stamp, VendorEvent, into
from streams.normalise.units import convert
from streams.normalise.values import FieldError, decimal, mapping, number, shown

SENSOR_TYPES: Mapping[str, Field] = {
    "temperature": into("environment.temperature"),
    "humidity": into("environment.humidity"),
    "pressure": into("environment.pressure"),
    "power_availability": into("power.available"),
    "battery_level": into("battery.level"),
    "signal_strength": into("network.signal_strength"),
    "iaq": into("environment.air_quality_index"),
}


def _within(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        parsed = number(value)
        if not low <= parsed <= high:
            raise FieldError("out_of_range", f"{parsed} is not within {low:g} and {high:g}")
        return parsed

    return parse


_POSITION = {
    "latitude": into("location.latitude", _within(-90, 90)),
    "longitude": into("location.longitude", _within(-180, 180)),
}


def telemetry(message: Message) -> None:
    """One POST: readings, and a position that has the time of the latest of them (docs/contract.md, «Time»)."""
    payload = mapping(message.payload())
    stamps = _readings(message, payload.get("readings"))
    latest = message.latest(stamps)
    others = {name: value for name, value in payload.items() if name != "readings"}
    message.read_object(_POSITION, others, "", latest)


def _readings(message: Message, readings: Any) -> list[Stamp]:
    """Add the readings and return their times."""
    if not isinstance(readings, list):
        reason = "missing" if readings is None else "wrong_type"
        message.problem("readings", FieldError(reason, f"an array is due, found {shown(readings)}"))
        return []
    stamps = []
    for index, reading in enumerate(readings):
        path = f"readings[{index}]"
        try:
            stamps.append(_reading(message, mapping(reading), path))
        except FieldError as error:
            message.problem(f"{path}.timestamp" if error.reason == "bad_time" else path, error)
    return stamps


def _reading(message: Message, reading: Mapping[str, Any], path: str) -> Stamp:
    """Add one reading. One whose time cannot be read is bad as a whole: the server did not count it as accepted."""
    sensor_type = reading.get("sensor_type")
    if not isinstance(sensor_type, str) or not sensor_type.strip():
        raise FieldError("missing", "sensor_type")
    if "value" not in reading:
        raise FieldError("missing", "value")
    written = reading.get("timestamp")
    stamp = message.received if written is None else message.written_time(written)
    if (field := SENSOR_TYPES.get(sensor_type)) is not None:
        message.read(field, _in_due_unit(reading, field), f"{path}.value", stamp)
    else:
        message.keep(sensor_type, reading["value"], f"{path}.value", stamp)
    for name, other in reading.items():
        if name not in _READING_MEMBERS:
            message.keep(f"{sensor_type}.{name}", other, f"{path}.{name}", stamp)
    return stamp


_READING_MEMBERS = {"sensor_type", "value", "timestamp"}


def _in_due_unit(reading: Mapping[str, Any], field: Field) -> Any:
    """The value in its metric's unit. The document knows no units; one that comes along counts. FieldError `unit`."""
    value, unit = reading["value"], reading.get("unit")
    if field.unit is None or value is None or not isinstance(unit, str) or not unit.strip():
        return value
    if (code := ucum_code(unit)) is None:
        raise FieldError("unit", f"{shown(unit)} is not a known unit")
    return convert(decimal(value), code, field.unit)


def command_result(message: Message) -> None:
    """What came of a command. A later result of the same command is a new version of the same event."""
    payload = mapping(message.payload())
    kind = message.envelope.attributes.get("commandtype")
    command_id = payload.get("command_id")
    facts = payload | {"command_type": kind} if kind else payload
    title = f"{kind or 'command'}: {_word(payload)}"
    named = command_id if isinstance(command_id, str) and command_id else None
    message.event(VendorEvent("command_result", named, message.received, facts, _severity(payload), title))


def command(message: Message) -> None:
    """A command was queued, handed out to its device, or has expired without a result."""
    payload = mapping(message.payload())
    state, kind = payload.get("state"), payload.get("command_type")
    if state not in ("queued", "handed_out", "expired"):
        raise FieldError("missing", "state")
    command_id = payload.get("command_id")
    named = command_id if isinstance(command_id, str) and command_id else None
    stamp = message.stamp(payload.get("at"), "at")
    severity = "warning" if state == "expired" else None
    title = f"{kind or 'command'}: {state.replace('_', ' ')}"
    message.event(VendorEvent(f"command_{state}", named, stamp, payload, severity, title))


_PROGRESS = into("ota.progress", _within(0, 100))


def ota_status(message: Message) -> None:
    """A report of an update: an event, and a reading where it contains the progress."""
    payload = mapping(message.payload())
    attempt = message.envelope.attributes.get("attempt", "")
    facts = payload | {"attempt": int(attempt)} if attempt.isdecimal() else payload
    title = f"firmware {payload.get('version', '?')}: {_word(payload)}"
    message.event(VendorEvent("ota_status", None, message.received, facts, _severity(payload), title))
    message.read(_PROGRESS, payload.get("progress_percent"), "progress_percent", message.received)


def sensor_paired(message: Message) -> None:
    """A hub registered a Zigbee sensor; an event of the hub."""
    payload = mapping(message.payload())
    title = f"sensor {payload.get('serial_number', '?')} paired"
    message.event(VendorEvent("sensor_paired", None, message.received, payload, title=title))


def _word(payload: Mapping[str, Any]) -> str:
    status = payload.get("status")
    return status if isinstance(status, str) else "?"


def _severity(payload: Mapping[str, Any]) -> str | None:
    return "warning" if payload.get("status") == "failed" else None


HANDLERS: Mapping[str, Callable[[Message], None]] = {
    "climasense.telemetry": telemetry,
    "climasense.command.event": command,
    "climasense.command-result.event": command_result,
    "climasense.ota-status.event": ota_status,
    "climasense.sensor-paired.event": sensor_paired,
}
