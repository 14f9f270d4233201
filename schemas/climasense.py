"""ClimaSense's device-facing API as models, and the OpenAPI 3.1 document derived from them (pure).

The source is ClimaSense's API document, which names five paths. The other paths and their methods are assumed
(`Endpoint.assumed`). The OpenAPI document is served at `/openapi.json` and checked in under `schemas/contract/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat
from pydantic.json_schema import models_json_schema

VERSION = "1.0.0"
MAX_READINGS = 100
SENSOR_TYPES = (
    "temperature",
    "humidity",
    "pressure",
    "power_availability",
    "battery_level",
    "signal_strength",
    "iaq",
)
"""The documented sensor types; others are accepted, too (docs/contract.md, «Traps by vendor»)."""

CommandType = Literal["reboot", "config_update", "factory_reset", "diagnostics"]
OtaState = Literal["downloading", "downloaded", "verifying", "applying", "completed", "failed"]
Role = Literal["device", "hub", "sensor"]

Text = Annotated[str, Field(max_length=10_000)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _known_zone(name: str) -> str:
    if name not in _zones():
        raise ValueError("must be the name of an IANA time zone")
    return name


TimeZone = Annotated[str, AfterValidator(_known_zone)]


class _Body(BaseModel):
    """A body. Unknown members are ignored: a device may be newer than this server."""


class SensorReading(_Body):
    """One value of one sensor."""

    sensor_type: Name = Field(description="Any name; these are the documented ones.", examples=list(SENSOR_TYPES))
    value: FiniteFloat = Field(description="`power_availability`: 0 or 1.")
    timestamp: datetime | None = Field(default=None, description="Time of measurement; UTC when it has no zone.")


class TelemetrySubmission(_Body):
    """Readings, and the position of the device. A malformed reading is set aside and not counted; others are used."""

    readings: list[SensorReading] = Field(min_length=1, max_length=MAX_READINGS)
    latitude: FiniteFloat | None = Field(default=None, ge=-90, le=90)
    longitude: FiniteFloat | None = Field(default=None, ge=-180, le=180)


class TelemetryAccepted(_Body):
    """The number of valid readings. They are stored durably when this answer is sent."""

    accepted: int = Field(ge=0)
    timestamp: datetime


class Location(_Body):
    """The position of the device."""

    latitude: FiniteFloat | None = Field(default=None, ge=-90, le=90)
    longitude: FiniteFloat | None = Field(default=None, ge=-180, le=180)
    name: str | None = Field(default=None, max_length=200, examples=["Marina Berth 12"])


DEFAULT_INTERVAL_SECONDS = 60
"""Reporting interval of a device without settings."""


class SettingsUpdate(_Body):
    """The settings to change. Absent and null settings keep their values; unknown ones are stored for the device."""

    model_config = ConfigDict(extra="allow")

    reporting_interval_seconds: Annotated[int, Field(strict=True, ge=60, le=3600)] | None = None
    enabled_sensors: Annotated[list[Name], Field(max_length=100)] | None = None
    location: Location | None = None
    timezone: TimeZone | None = Field(default=None, examples=["America/Los_Angeles"])


class DeviceSettings(_Body):
    """The current settings."""

    model_config = ConfigDict(extra="allow")

    reporting_interval_seconds: int = Field(default=DEFAULT_INTERVAL_SECONDS, ge=60, le=3600)
    enabled_sensors: list[str] = Field(default_factory=lambda: list(SENSOR_TYPES))
    location: Location | None = None
    timezone: str = "UTC"


class PendingCommand(_Body):
    """A command that is waiting for the device."""

    command_id: str
    type: CommandType
    payload: dict[str, Any]
    expires_at: datetime


class PendingCommands(_Body):
    """The commands that are waiting for the device, oldest first."""

    commands: list[PendingCommand]


class CommandResult(_Body):
    """The result of a command."""

    command_id: Name
    status: Literal["acked", "failed"]
    error_message: Text | None = None
    result: dict[str, Any] | None = Field(default=None, description="Output of the command, such as diagnostics.")


class CommandAcknowledged(_Body):
    """The result is stored durably."""

    acknowledged: Literal[True] = True
    timestamp: datetime


class FirmwareOffer(_Body):
    """The newer firmware for the device's batch; only `update_available` when there is none."""

    update_available: bool
    version: str | None = None
    checksum: str | None = Field(default=None, examples=["sha256:a3f8c2e1d4b5..."])
    size_bytes: int | None = None
    release_notes: str | None = None


class OtaStatus(_Body):
    """The progress of an update."""

    version: Name
    status: OtaState
    progress_percent: Annotated[int, Field(strict=True, ge=0, le=100)] | None = None
    error_message: Text | None = None


class OtaRecorded(_Body):
    """The report is stored durably."""

    recorded: Literal[True] = True
    timestamp: datetime


class SensorPairing(_Body):
    """A Zigbee sensor that was paired with a hub."""

    sensor_api_key: Name
    ieee_address: Name | None = Field(default=None, examples=["0x00124b001cce5a7d"])


class SensorPaired(_Body):
    """The sensor belongs to the hub."""

    registered: Literal[True] = True
    sensor_id: str
    serial_number: str


class Error(_Body):
    """Why a request was refused."""

    error: str
    message: str


@dataclass(frozen=True)
class Endpoint:
    """One operation. `assumed` names the parts that the vendor's document does not define; empty if it defines all."""

    name: str
    method: str
    path: str
    summary: str
    answer: type[BaseModel] | None
    body: type[BaseModel] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[int, ...] = ()
    assumed: str = ""


TELEMETRY, SETTINGS, UPDATE_SETTINGS, PENDING = "telemetry", "settings", "update_settings", "pending_commands"
RESULT, CHECK, DOWNLOAD, STATUS, PAIR = "command_result", "ota_check", "ota_download", "ota_status", "pair_sensor"

ENDPOINTS = (
    Endpoint(
        TELEMETRY, "post", "/v1/telemetry", "Submit sensor readings", TelemetryAccepted, TelemetrySubmission,
        refusals=(400, 413),
    ),
    Endpoint(SETTINGS, "get", "/v1/settings", "Read the settings", DeviceSettings),
    Endpoint(
        UPDATE_SETTINGS, "patch", "/v1/settings", "Change settings; PUT does the same", DeviceSettings, SettingsUpdate,
        refusals=(400, 413), assumed="method",
    ),
    Endpoint(PENDING, "get", "/v1/commands/pending", "Read the pending commands", PendingCommands),
    Endpoint(
        RESULT, "post", "/v1/commands/result", "Report the result of a command", CommandAcknowledged, CommandResult,
        refusals=(400, 404, 413), assumed="method, path",
    ),
    Endpoint(
        CHECK, "get", "/v1/ota/check", "Check for newer firmware", FirmwareOffer,
        query={"current_version": "Version on the device, such as 1.2.3."}, refusals=(400,),
    ),
    Endpoint(
        DOWNLOAD, "get", "/v1/ota/download/{version}", "Download firmware; `Range` resumes", None, refusals=(404, 416),
        assumed="version as last part of the path",
    ),
    Endpoint(
        STATUS, "post", "/v1/ota/status", "Report the progress of an update", OtaRecorded, OtaStatus,
        refusals=(400, 413), assumed="method, path",
    ),
    Endpoint(
        PAIR, "post", "/v1/zigbee/sensors", "Register a paired Zigbee sensor; hubs only", SensorPaired, SensorPairing,
        refusals=(400, 403, 409, 413), assumed="method, path",
    ),
)  # fmt: skip
"""All operations of the API."""

_REFUSALS = {
    400: "The request is malformed. The message names the field.",
    401: "Invalid or missing API key.",
    403: "This kind of device may not do this.",
    404: "There is no such command or firmware for this device.",
    409: "The sensor belongs to another hub.",
    413: "The body is too large.",
    416: "The range is beyond the end of the firmware.",
    429: "Too many requests with this key.",
    503: "Try again later. Nothing of the request was stored.",
}


def openapi(paths: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document. `paths` replaces the paths of endpoints, by their names."""
    models = {model for e in ENDPOINTS for model in (e.answer, e.body, Error) if model is not None}
    pairs = [(model, _mode(model)) for model in sorted(models, key=lambda m: m.__name__)]
    _, definitions = models_json_schema(pairs, ref_template="#/components/schemas/{model}")
    operations: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        path = (paths or {}).get(endpoint.name, endpoint.path)
        operations.setdefault(path, {})[endpoint.method] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ClimaSense devices",
            "version": VERSION,
            "description": "The API that ClimaSense devices call. A 2xx answer means that the request is durable.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"apiKey": []}],
        "paths": operations,
        "components": {
            "securitySchemes": {"apiKey": {"type": "http", "scheme": "bearer", "description": "The device's API key."}},
            "schemas": dict(sorted(definitions["$defs"].items())),
        },
    }


def _mode(model: type[BaseModel]) -> Literal["validation", "serialization"]:
    answers = {endpoint.answer for endpoint in ENDPOINTS} | {Error}
    return "serialization" if model in answers else "validation"


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Of our own: a body with the same key, of the same device, is the same message for 24 hours. For "
    "bodies whose readings have no timestamp.",
    "schema": {"type": "string", "maxLength": 255},
}


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": endpoint.name, "summary": endpoint.summary}
    if endpoint.assumed:
        operation["description"] = f"Assumed, since the vendor's document does not define it: {endpoint.assumed}."
    parameters = [
        {"name": name, "in": "query", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in endpoint.query.items()
    ]
    if "{version}" in endpoint.path:
        parameters.append({"name": "version", "in": "path", "required": True, "schema": {"type": "string"}})
    if endpoint.name == TELEMETRY:
        parameters.append(_IDEMPOTENCY_KEY)
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _json(endpoint.body)}
    operation["responses"] = {"200": _answer(endpoint)} | {
        str(status): _refusal(status) for status in sorted({*endpoint.refusals, 401, 429, 503})
    }
    return operation


def _answer(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.answer is None:
        binary = {
            "application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
        }
        return {"description": "The firmware, streamed. `ETag` is its checksum.", "content": binary}
    return {"description": (endpoint.answer.__doc__ or "").splitlines()[0], "content": _json(endpoint.answer)}


def _refusal(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _REFUSALS[status], "content": _json(Error)}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return answer


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
