"""ClimaSense's messages: request bodies in, envelopes out (pure).

Source: ClimaSense's API document (docs/vendors/climasense.md).
"""

from __future__ import annotations

import hmac
import json
import math
import re
import tomllib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast
from uuid import UUID, uuid5

from pydantic import BaseModel, ValidationError

from connectors.climasense.store.records import Command, DeviceState
from runtime.api_keys import hash_key
from schemas.climasense import DEFAULT_INTERVAL_SECONDS, MAX_READINGS, SENSOR_TYPES, Role, SensorPaired
from schemas.device import device_id
from schemas.envelope import Envelope, message_id
from schemas.json_reading import (
    NotJson,
    encode,
    path_of_a_number_beyond_doubles,
    read_json,
    read_values,
    without_bom,
)
from schemas.redact import redact, redact_value
from schemas.timestamps import format_iso, parse_moment
from schemas.wire import Device

VENDOR = "climasense"
SOURCE = "climasense/http"
TELEMETRY = "climasense.telemetry"
COMMAND_RESULT = "climasense.command-result.event"
COMMAND = "climasense.command.event"
"""What becomes of a command before its result: `state` is queued, handed_out or expired."""
OTA_STATUS = "climasense.ota-status.event"
SENSOR_PAIRED = "climasense.sensor-paired.event"
SETTINGS = "climasense.settings"

B = TypeVar("B", bound=BaseModel)

_SENSORS = UUID("0b0c6a53-3a0a-5c7e-9d55-6f2a0f6f8a41")
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_LONGEST_NUMBER, _LONGEST_NAME = 400, 200
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


class InvalidRequest(ValueError):
    """A body that cannot be taken; the text names the field: `readings: must not be empty`.

    `status` and `code` are those of the answer, `reason` is that of the dead letter.
    """

    def __init__(self, path: str, reason: str, detail: str, status: int = 400, code: str = "invalid_request") -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.path = path
        self.reason = reason
        self.status = status
        self.code = code


@dataclass(frozen=True)
class Telemetry:
    """A body that can be taken: the envelope, and how many of its readings are good."""

    envelope: Envelope
    accepted: int
    content: str
    """What the body is known by when its readings have no times and the request has no key; else empty."""


@dataclass(frozen=True)
class Identity:
    """The device that a key belongs to. `device` is the native id."""

    digest: str
    device: str
    role: Role
    batch: str | None = None
    request_key: str = ""
    """The request's `Idempotency-Key`, where it has one."""

    @property
    def device_id(self) -> str:
        """The `DeviceId`."""
        return device_id(VENDOR, self.device)

    def has(self, key: str) -> bool:
        """Whether this is the key; the time it takes does not depend on the answer."""
        return hmac.compare_digest(self.digest, hash_key(key))


@dataclass(frozen=True)
class Provisioned:
    """A device and one of its keys, as they are provisioned. None leaves a member as it is."""

    device: str
    digest: str
    role: Role | None = None
    batch: str | None = None
    serial_number: str | None = None


def read_keys(text: str, toml: bool) -> list[Provisioned]:
    """The entries of a keys file. ValueError says which one is wrong; never shows a digest."""
    content = tomllib.loads(text) if toml else json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("the keys file must map device ids to digests")
    entries = [_provisioned(native_id, value) for native_id, value in content.items()]
    digests: set[str] = set()
    for entry in entries:
        if entry.digest in digests:
            raise ValueError(f"device {entry.device!r}: another device has the same key")
        digests.add(entry.digest)
    return entries


def _provisioned(native_id: str, value: Any) -> Provisioned:
    entry = value if isinstance(value, dict) else {"sha256": value}
    unknown = set(entry) - {"sha256", "role", "batch", "serial_number"}
    digest, role = entry.get("sha256"), entry.get("role")
    if not native_id:
        raise ValueError("a device needs a name")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
        raise ValueError(f"device {native_id!r}: not a SHA-256 in hexadecimal")
    if unknown:
        raise ValueError(f"device {native_id!r}: unknown member {min(unknown)!r}")
    if role not in (None, "device", "hub", "sensor"):
        raise ValueError(f"device {native_id!r}: role must be device, hub or sensor")
    batch, serial_number = entry.get("batch"), entry.get("serial_number")
    if not all(text is None or isinstance(text, str) for text in (batch, serial_number)):
        raise ValueError(f"device {native_id!r}: batch and serial_number must be texts")
    return Provisioned(native_id, digest.lower(), cast(Role | None, role), batch, serial_number)


def bearer(header: str | None) -> str | None:
    """The key of `Authorization: Bearer <key>`; None where there is none."""
    scheme, _, key = (header or "").strip().partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def telemetry(body: bytes, device: str, received_at: datetime, sequence: int, request_key: str = "") -> Telemetry:
    """A `POST /v1/telemetry`. The body goes on as it is: a bad reading in it is the normaliser's dead letter.

    InvalidRequest where the body as a whole cannot be taken. A body whose readings have times, or that comes with an
    `Idempotency-Key`, is the same message when posted again; `sequence` tells apart those that have neither.
    """
    try:
        clean = redact(body)
    except NotJson as error:
        raise InvalidRequest("", error.reason, f"the body is not JSON in UTF-8 ({error})") from error
    fields = read_values(clean)
    readings = _readings(fields)
    _check_bounds(fields, "latitude", 90)
    _check_bounds(fields, "longitude", 180)
    parts: list[str | bytes] = [TELEMETRY, device, clean]
    times = [t for r in readings if (t := _time(r)) is not None]
    content = "" if times or request_key else message_id(parts)
    if content:
        parts += [format_iso(received_at), str(sequence)]
    elif not times:
        parts.append(request_key)
    time = max(times, default=None)
    envelope = Envelope(message_id(parts), TELEMETRY, SOURCE, device, received_at, clean, time)
    return Telemetry(envelope, sum(is_good(r) for r in readings), content)


def redacted(body: bytes) -> bytes | None:
    """A body without its secrets; None where it is no JSON, so that its secrets cannot be recognised."""
    try:
        return redact(body)
    except (NotJson, RecursionError):
        return None


def parse(body: bytes, model: type[B]) -> B:
    """A body by its model. InvalidRequest names the first field that is wrong: `location.latitude: …`."""
    try:
        redact(body)  # reads it as strictly as everywhere: nothing behind the end, no bottomless nesting
        number = path_of_a_number_beyond_doubles(read_json(body))
    except NotJson as error:
        raise InvalidRequest("", error.reason, f"the body is not JSON in UTF-8 ({error})") from error
    if number is not None:
        raise InvalidRequest(number, "not_finite", "must be a number that a double holds")
    try:
        return model.model_validate_json(without_bom(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        path = ".".join(str(part) for part in first["loc"])
        detail = "is required" if first["type"] == "missing" else _sentence(first["msg"])
        raise InvalidRequest(path, _REASONS.get(first["type"], "wrong_type"), detail) from error


_REASONS = {"missing": "missing", "greater_than_equal": "out_of_range", "less_than_equal": "out_of_range"}


def _sentence(text: str) -> str:
    text = text.removeprefix("Value error, ").removeprefix("Input ")
    return text[:1].lower() + text[1:]


def command_result(body: bytes, device: str, command_id: str, command_type: str, received_at: datetime) -> Envelope:
    """A reported result. A report with the same body is the same message."""
    clean = redact(body)
    identity = message_id([COMMAND_RESULT, device, command_id, clean])
    return Envelope(
        identity, COMMAND_RESULT, SOURCE, device, received_at, clean, attributes={"commandtype": command_type}
    )


def command_event(command: Command, state: str, at: datetime, now: datetime) -> Envelope:
    """What became of a command at a moment. The payload stays in the database, since it may hold secrets."""
    device = device_id(VENDOR, command.device)
    body = {
        "command_id": command.command_id,
        "command_type": command.type,
        "state": state,
        "at": format_iso(at),
        "expires_at": format_iso(command.expires_at),
    }
    identity = message_id([COMMAND, device, command.command_id, state])
    return Envelope(identity, COMMAND, SOURCE, device, now, encode(body), at)


def ota_status(body: bytes, device: str, attempt: int, received_at: datetime) -> Envelope:
    """A report of an update. A report with the same body in the same attempt is the same message."""
    clean = redact(body)
    identity = message_id([OTA_STATUS, device, str(attempt), clean])
    return Envelope(identity, OTA_STATUS, SOURCE, device, received_at, clean, attributes={"attempt": str(attempt)})


@dataclass(frozen=True)
class Pairing:
    """A sensor that a hub registers. `number` counts the pairings of the sensor; the devices are `DeviceId`s."""

    hub: str
    sensor: str
    answer: SensorPaired
    number: int


def sensor_paired(body: bytes, pairing: Pairing, received_at: datetime) -> Envelope:
    """A hub's registration of a sensor: the redacted body, and which sensor it is, since its key must not be kept."""
    sensor = {
        "sensor_device_id": pairing.sensor,
        "sensor_id": pairing.answer.sensor_id,
        "serial_number": pairing.answer.serial_number,
    }
    data = encode({**read_json(redact(body)), **sensor})
    identity = message_id([SENSOR_PAIRED, pairing.hub, pairing.sensor, str(pairing.number)])
    return Envelope(identity, SENSOR_PAIRED, SOURCE, pairing.hub, received_at, data)


def sensor_id_of(native_id: str) -> str:
    """The `sensor_id` that a hub gets: a UUID, always the same for a sensor."""
    return str(uuid5(_SENSORS, native_id))


def device_record(device: DeviceState, updated_at: datetime) -> Device:
    """The registry's record of a device; it has the documented settings, redacted.

    A device without a reporting interval of its own reports at the documented default.
    """
    named = ("reporting_interval_seconds", "enabled_sensors", "location", "timezone")
    settings = {
        name: redact_value(device.settings[name], name) for name in named if device.settings.get(name) is not None
    }
    settings.setdefault("reporting_interval_seconds", DEFAULT_INTERVAL_SECONDS)
    hub = device_id(VENDOR, device.hub) if device.hub else None
    attributes = {"role": device.role, "batch": device.batch, "hub": hub, **settings}
    return Device(
        device_id=device_id(VENDOR, device.device),
        vendor=VENDOR,
        updated_at=updated_at,
        serial_number=device.serial_number or device.device,
        firmware_version=device.firmware_version,
        attributes={name: value for name, value in attributes.items() if value is not None},
    )


_VERSION = re.compile(r"v?(\d+(?:\.\d+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)

VersionKey = tuple[tuple[int, ...], bool, tuple[tuple[bool, int, str], ...]]


def version_key(version: str) -> VersionKey | None:
    """The order of versions (Semantic Versioning 2.0.0, 11, with any count of numbers); None for what is no version."""
    match = _VERSION.fullmatch(version.strip())
    if match is None or len(version) > 100:
        return None
    numbers = [int(part) for part in match[1].split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    labels = match[2].split(".") if match[2] else []
    marks = tuple((not label.isdigit(), int(label) if label.isdigit() else 0, label) for label in labels)
    return tuple(numbers), not labels, marks


def is_newer(version: str, current: str) -> bool:
    """Whether a release is offered to a device that runs `current`. Where a version cannot be read: any other one."""
    new, old = version_key(version), version_key(current)
    return version != current if new is None or old is None else new > old


def is_good(reading: Any) -> bool:
    """Whether a reading counts as accepted: whether the normaliser makes a reading of it (a test compares both).

    It needs a sensor type, a value, and a time that can be read, if any. The documented types have numbers,
    `power_availability` is «boolean as 0/1»; sensor types are open-ended, and others may have any value.
    """
    if not isinstance(reading, dict):
        return False
    kind, value, time = reading.get("sensor_type"), reading.get("value"), reading.get("timestamp")
    if not isinstance(kind, str) or not kind.strip() or value is None or (time is not None and _time(reading) is None):
        return False
    if kind == "power_availability":
        return _is_switch(value)
    if kind in SENSOR_TYPES:
        return not isinstance(value, bool) and _is_number(value)
    return len(kind) <= _LONGEST_NAME and (not isinstance(value, (int, float)) or _is_number(value))


def _is_switch(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("true", "false", "1", "0")
    return isinstance(value, (int, float)) and value in (0, 1)


def _is_number(value: Any) -> bool:
    """Whether it is a number, or spells one, within the range of a double."""
    if isinstance(value, str) and not (len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value)):
        return False
    try:
        return isinstance(value, (int, float, str)) and math.isfinite(float(value))
    except OverflowError:
        return False


def _readings(fields: Any) -> list[Any]:
    if not isinstance(fields, dict):
        raise InvalidRequest("", "wrong_type", "the body must be an object")
    if "readings" not in fields:
        raise InvalidRequest("readings", "missing", "is required")
    readings = fields["readings"]
    if not isinstance(readings, list):
        raise InvalidRequest("readings", "wrong_type", "must be an array")
    if not 1 <= len(readings) <= MAX_READINGS:
        raise InvalidRequest("readings", "out_of_range", f"must hold 1 to {MAX_READINGS} readings, not {len(readings)}")
    return readings


def _check_bounds(fields: dict[str, Any], name: str, bound: int) -> None:
    value = fields.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(name, "wrong_type", "must be a number")
    if not -bound <= value <= bound:
        raise InvalidRequest(name, "out_of_range", f"must be between -{bound} and {bound}")


def _time(reading: Any) -> datetime | None:
    time = reading.get("timestamp") if isinstance(reading, dict) else None
    try:
        return None if time is None else parse_moment(time)
    except (ValueError, OverflowError):
        return None
