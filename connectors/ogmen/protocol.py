"""Ogmen's alerts and the answers of its REST API: bytes in, envelopes out. Pure. Source: Ogmen's API document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.common.dead_letters import MessageSource
from connectors.common.read_message import ReadMessage
from connectors.ogmen.account_data import clean, unusable
from connectors.ogmen.endpoints import Endpoint
from connectors.ogmen.privacy import PrivacyGate
from schemas.device import device_id, quote_id
from schemas.envelope import Envelope, message_id
from schemas.json_reading import BOM, NotJson, elements, encode, members, read_json, without_bom
from schemas.timestamps import format_iso, parse_iso
from schemas.wire import Device, Problem

VENDOR = "ogmen"
ALERT = "ogmen.alert"

_ALERT_FIELDS = ("timestamp", "uuid", "source", "severity", "header", "body", "action_required")
_ALERT_LINKS = ("link_for_favicon", "link_for_large_image")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)


class InvalidAlert(ValueError):
    """An alert that differs from the document; the text names the field."""

    def __init__(self, path: str, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.path = path
        self.reason = reason


def fill(template: str, **ids: str) -> str:
    """A URL or path template with ids (`device_id`, `dog_id`, `account_id`), percent-encoded."""
    for name, value in ids.items():
        template = template.replace(f"{{{name}}}", quote_id(value))
    return template


# -- the alert webhook


def alert(body: bytes, native_id: str, received_at: datetime, private: bool = False) -> Envelope:
    """An alert as documented; InvalidAlert otherwise. Its message id is made of its `uuid`, in any case of letters.

    While the robot's privacy mode is on (`private`), the link to the large image is left out.
    """
    try:
        cleaned = clean(body)
    except NotJson as error:
        raise InvalidAlert("", error.reason, f"the body is not JSON in UTF-8 ({error})") from error
    fields = read_json(cleaned)
    if not isinstance(fields, dict):
        raise InvalidAlert("", "wrong_type", "the body must be an object")
    time = _check_alert(fields)
    if private and fields.pop("link_for_large_image", None) is not None:
        cleaned = encode(fields)
    device = device_id(VENDOR, native_id)
    identity = message_id([ALERT, device, fields["uuid"].lower()])
    return Envelope(identity, ALERT, "ogmen/webhook", device, received_at, cleaned, time)


def _check_alert(fields: dict[str, Any]) -> datetime:
    for name in _ALERT_FIELDS:
        if fields.get(name) is None:
            raise InvalidAlert(name, "missing", "is required")
    for name in (*_ALERT_FIELDS, *_ALERT_LINKS):
        if name != "severity" and not isinstance(fields.get(name, ""), (str, type(None))):
            raise InvalidAlert(name, "wrong_type", "must be a string")
    severity = fields["severity"]
    if isinstance(severity, bool) or not isinstance(severity, int):
        raise InvalidAlert("severity", "wrong_type", "must be an integer")
    if not 1 <= severity <= 5:
        raise InvalidAlert("severity", "out_of_range", "must be 1 to 5")
    if not _UUID.fullmatch(fields["uuid"]):
        raise InvalidAlert("uuid", "wrong_type", "must be a UUID")
    try:
        return parse_iso(fields["timestamp"])
    except (ValueError, OverflowError) as error:
        raise InvalidAlert("timestamp", "wrong_type", "must be an ISO 8601 date-time") from error


# -- REST

_ENTRY_TIMES = ("recorded_at", "timestamp", "last_robot_synced_time")
_NOTHING = (b"null", b'"null"', b'""', b"{}")
_GOOD = {"success", "ok", "started"}


class AnswerError(ValueError):
    """An answer that cannot be used, although its HTTP status is a success."""


def entries(body: bytes) -> list[bytes]:
    """The entries of an answer, byte for byte.

    They stand bare, in the envelope `{code, status, message, data}`, or as an array of either; `data` may also be JSON
    in a string. The list is empty for `"data": "null"` and the like. AnswerError where the answer is no JSON, where an
    entry is no object, or where the envelope reports an error.
    """
    try:
        return _entries(body)
    except (NotJson, RecursionError) as error:
        raise AnswerError(str(error)) from error


def _entries(raw: bytes) -> list[bytes]:
    text = without_bom(raw).strip()
    if text in _NOTHING:
        return []
    if text[:1] == b"[":
        return [entry for item in elements(raw) for entry in _entries(item)]
    if text[:1] == b'"':
        inner = str(read_json(raw)).strip()
        if inner.lstrip(BOM)[:1] in ("{", "["):
            return _entries(inner.encode())
    if text[:1] != b"{":
        raise AnswerError("an entry is no object")
    fields = members(raw)
    if "data" not in fields or not fields.keys() & {"code", "status", "message"}:
        return [raw]
    _check_success(fields)
    return _entries(fields["data"])


def _check_success(fields: dict[str, bytes]) -> None:
    """Raise AnswerError for an envelope that reports an error, which may happen with HTTP 200."""
    code, status = (read_json(fields.get(name) or b"null") for name in ("code", "status"))
    number = str(code) if isinstance(code, int | str) and not isinstance(code, bool) else ""
    if number.isascii() and number.isdigit() and len(number) < 10 and not 200 <= int(number) < 300:
        raise AnswerError(f"the answer says code {int(number)}")
    if not number and isinstance(status, str) and status.lower() not in _GOOD:
        raise AnswerError("the answer says that it is no success")


@dataclass(frozen=True)
class Entry:
    """One entry of a log, or one state."""

    message: ReadMessage
    version: str = ""
    """Identifies this version of the entry; empty for a state without a time, which is new in each reading."""
    stable: str = ""
    """The same without the fields that only say how the entry was copied."""
    time: datetime | None = None


def read_entry(endpoint: Endpoint, entry: bytes, device: str, received_at: datetime, gate: PrivacyGate) -> Entry:
    """One entry as an envelope.

    A changed entry (`resolved`, `is_synced`) is a new version. A state without a time (battery) is new in each reading.
    `left_out` is `privacy` for an entry that the privacy mode hides.
    """
    try:
        cleaned = clean(entry)
        fields = read_json(cleaned)
    except NotJson as error:
        source = MessageSource(VENDOR, endpoint.type, received_at, device)
        problem = Problem(path="", reason=error.reason, detail=str(error))
        letter = unusable(entry, source, problem, hidden=gate.hides())
        return Entry(ReadMessage(dead_letters=[letter]))
    time = next((t for field in _ENTRY_TIMES if (t := parsed_time(fields.get(field))) is not None), None)
    if gate.was_on(time) and endpoint.private_fields & fields.keys():
        fields = {name: value for name, value in fields.items() if name not in endpoint.private_fields}
        cleaned = encode(fields)
    version = message_id([endpoint.type, device, cleaned])
    if endpoint.private and gate.hides(time):  # an entry that is hidden for good need not be read again
        return Entry(ReadMessage(left_out="privacy"), version if gate.on is False else "", time=time)
    is_new_each_time = time is None and not endpoint.is_log
    identity = message_id([endpoint.type, device, cleaned, format_iso(received_at)]) if is_new_each_time else version
    envelope = Envelope(identity, endpoint.type, "ogmen/rest", device, received_at, cleaned, time)
    if is_new_each_time:
        return Entry(ReadMessage([envelope]))
    if not endpoint.bookkeeping:
        return Entry(ReadMessage([envelope]), version, time=time)
    rest = {name: value for name, value in fields.items() if name not in endpoint.bookkeeping}
    stable = message_id([endpoint.type, device, "stable", encode(rest)])
    return Entry(ReadMessage([envelope]), version, stable, time)


def device_record(entry: bytes, native_id: str, now: datetime) -> Device:
    """The registry's record of a robot: what it is, and nothing about its owner."""
    fields = read_json(clean(entry))
    named = {
        name: str(fields[name])
        for name in ("model", "serial_number", "os_version", "manufacturer")
        if isinstance(fields.get(name), str | int | float)
    }
    attributes: dict[str, Any] = {"manufacturer": named["manufacturer"]} if "manufacturer" in named else {}
    if isinstance(fields.get("storage_capacity_gb"), int | float):
        attributes["storage_capacity_gb"] = fields["storage_capacity_gb"]
    return Device(
        device_id=device_id(VENDOR, native_id),
        vendor=VENDOR,
        updated_at=now,
        model=named.get("model"),
        serial_number=named.get("serial_number"),
        firmware_version=named.get("os_version"),
        attributes=attributes,
    )


def native_id_of(entry: bytes) -> str | None:
    """The robot an entry of an account's devices is about; ids are not always UUIDs."""
    try:
        native_id = read_json(entry).get("device_id")
    except NotJson:  # not UTF-8: a splitter of answers does not look into strings
        return None
    if isinstance(native_id, bool) or not isinstance(native_id, str | int):
        return None
    return str(native_id) or None


@dataclass(frozen=True)
class PrivacyStatus:
    """The privacy mode as an answer reports it."""

    enabled: bool
    enabled_at: datetime | None = None
    disabled_at: datetime | None = None


def privacy_status(entry: bytes) -> PrivacyStatus | None:
    """The privacy mode by its own answer or by that of the device settings; None where it does not say."""
    try:
        fields = read_json(entry)
    except NotJson:
        return None
    for name in ("privacy_mode_enabled", "privacy_status"):
        enabled = _boolean(fields.get(name))
        if enabled is not None:
            times = (parsed_time(fields.get(f"privacy_mode_{which}_at")) for which in ("enabled", "disabled"))
            return PrivacyStatus(enabled, *times)
    return None


def _boolean(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())


def parsed_time(value: object) -> datetime | None:
    """A time of the vendor's; None where there is none or it cannot be read."""
    try:
        return parse_iso(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
