"""WAYSCloud: what devices publish by MQTT (pure).

Source: WAYSCloud's API document, «Create device profile» (`expected_topics`: `devices/+/sensors/temperature`). The
payload is not documented (assumed): a bare scalar, `{"value", "timestamp"}`, or an object of datapoints with a
`timestamp`. The first of these defines what a datapoint means: the user (`[stream.wayscloud_datapoints]`), the
account's definition (attribute `datapoints` of the envelope, or the row itself), `DATAPOINTS`. An account's definition
whose type or kind of unit contradicts `DATAPOINTS` wins over it: a `signal_strength` in `%` is no
`network.signal_strength` in dBm. Message types: `wayscloud.publish`, with the attribute `mqtttopic`, and what the
connector reads by REST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from schemas.envelope import BackfillWindow
from schemas.metrics import UNKNOWN_UNIT, Kind, catalogue, vendor_metric
from schemas.redact_patterns import REDACTED
from schemas.severity import severity_of_word
from schemas.timestamps import to_micros
from schemas.units import UNITS, ucum_code
from streams.normalise.message import Datapoint, Field, Message, Stamp, VendorEvent, into
from streams.normalise.units import convert
from streams.normalise.values import (
    FieldError,
    boolean,
    decimal,
    finite,
    json_text,
    load_json,
    mapping,
    shown,
    text,
)

DATAPOINTS: Mapping[str, Datapoint] = {
    "temperature": Datapoint("environment.temperature"),
    "humidity": Datapoint("environment.humidity"),
    "pressure": Datapoint("environment.pressure"),
    "iaq": Datapoint("environment.air_quality_index"),
    "battery": Datapoint("battery.level"),
    "battery_level": Datapoint("battery.level"),
    "signal_strength": Datapoint("network.signal_strength"),
    "rssi": Datapoint("network.signal_strength"),
    "door_open": Datapoint("door.open"),
    "mode": Datapoint("device.mode"),
}
VENDOR = "wayscloud"
_TIMES = ("timestamp", "measured_at")
_KINDS: Mapping[str, Kind] = {"number": "number", "string": "text", "boolean": "boolean"}
"""WAYSCloud's data types."""


def metric_of(name: str, defined: Mapping[str, Datapoint]) -> str:
    """The metric a datapoint is read into, by name or id; its own name below `wayscloud.` where nobody defined it."""
    return datapoint_of(name, defined).metric


def datapoint_of(name: str, defined: Mapping[str, Datapoint]) -> Datapoint:
    """How a datapoint is read, by name or id."""
    return defined.get(name) or DATAPOINTS.get(name) or Datapoint(f"wayscloud.{name}")


def publish(message: Message) -> None:
    """One MQTT message; the last level of its topic names the datapoint."""
    name = message.envelope.attributes.get("mqtttopic", "").rpartition("/")[2]
    if not name:
        raise FieldError("missing", "attribute mqtttopic")
    payload = _payload(message, name)
    if not isinstance(payload, dict):
        _datapoint(message, Sample(name, payload, "", message.received))
        return
    path, when = next(((t, payload[t]) for t in _TIMES if payload.get(t) is not None), ("", None))
    stamp = message.stamp(when, path)
    members = {key: value for key, value in payload.items() if key not in _TIMES}
    if "value" in members:
        _timed_value(message, name, members, stamp)
    elif members:
        for key, value in members.items():
            _datapoint(message, Sample(key, value, key, stamp))
    else:
        raise FieldError("missing", "value")


def _payload(message: Message, name: str) -> Any:
    """The payload: JSON, or bare text where it does not look like JSON. A text datapoint's stays as it came."""
    data = message.envelope.data
    if not data.strip():
        raise FieldError("missing", "an empty payload")
    begun = data.lstrip()
    if begun[:1] in (b"{", b"[", b'"') and not begun.startswith(REDACTED.encode()):
        return load_json(data)
    definition = _definition(message, name)
    if definition is not None and _kind(definition) == "text":
        return _bare_text(data)
    try:
        return load_json(data)
    except FieldError as error:
        if error.reason == "not_utf8":
            raise
        return _bare_text(data)


def _bare_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FieldError("not_utf8", f"byte {error.start}") from error


def _definition(message: Message, name: str) -> Datapoint | None:
    """What the datapoint means: by the user's definition, else by the account's, else by ours."""
    of_account = _account_definitions(message.envelope.attributes.get("datapoints", "")).get(name)
    return _meaning(message, name, of_account)


def _meaning(message: Message, name: str, of_account: Mapping[str, str] | None) -> Datapoint | None:
    own = message.options.datapoints
    definition = own.get(name) or (own.get(of_account["id"]) if of_account and "id" in of_account else None)
    if definition is not None or of_account is None:
        return definition or DATAPOINTS.get(name)
    return _defined_by_account(name, of_account.get("unit", ""), of_account.get("type", ""))


@lru_cache(maxsize=1024)
def _account_definitions(attribute: str) -> Mapping[str, Mapping[str, str]]:
    """The account's definitions that came with the packet, by name."""
    return _definitions(attribute.encode()) if attribute else {}


_definitions = msgspec.json.Decoder(dict[str, dict[str, str]]).decode


@lru_cache(maxsize=4096)
def _defined_by_account(name: str, unit: str, data_type: str) -> Datapoint | None:
    """The metric of the catalogue where type and unit agree with it, else one of the vendor's name."""
    kind, code = _KINDS.get(data_type), ucum_code(unit) if unit.strip() else None
    known = DATAPOINTS.get(name)
    metric = catalogue()[known.metric] if known else None
    if metric is not None and kind in (None, metric.kind) and _is_kind_of(code, unit, metric.unit):
        return Datapoint(metric.name, code)
    if kind is None and code is None:
        return None
    return Datapoint(vendor_metric("wayscloud", name), code or _annotation(unit), kind)


def _is_kind_of(code: str | None, unit: str, due: str | None) -> bool:
    """Whether a unit measures what another does; none at all is taken for the right one."""
    if not unit.strip() or due is None:
        return True
    return code is not None and due in UNITS and UNITS[code].dimension == UNITS[due].dimension


def _annotation(unit: str) -> str | None:
    """A unit that is none of ours as UCUM's annotation of 1: `{furlong}`."""
    text = unit.strip()
    return f"{{{text}}}" if text.isascii() and text.isprintable() and text and not set(text) & set("{}") else None


def _kind(definition: Datapoint) -> Kind | None:
    known = catalogue().get(definition.metric)
    return known.kind if known else definition.data_type


def _timed_value(message: Message, name: str, members: dict[str, Any], stamp: Stamp) -> None:
    """`{"value": …}`; a unit beside a number is honoured, what else stands there is kept."""
    value, unit = members.pop("value"), members.get("unit")
    is_measured = isinstance(unit, str) and unit.strip() and not isinstance(value, bool)
    if is_measured:
        members.pop("unit")
    _datapoint(message, Sample(name, value, "value", stamp, unit if is_measured else None))
    for key, other in members.items():
        message.keep(f"{name}.{key}", other, key, stamp)


class Sample(NamedTuple):
    """One value of a datapoint."""

    name: str
    value: Any
    path: str
    """Where in the message it stands."""
    stamp: Stamp
    unit: str | None = None
    """The unit that stands beside the value as it is written there; it counts before that of the definition."""


def _datapoint(message: Message, sample: Sample) -> None:
    """One datapoint: by its definition, or under the vendor's own name."""
    if sample.value is not None:
        _read(message, _definition(message, sample.name), sample)


def _read(message: Message, definition: Datapoint | None, sample: Sample) -> None:
    if definition is None and sample.unit is not None and _kind_of(sample.value) == "number":
        code = ucum_code(sample.unit) or _annotation(sample.unit)
        definition, sample = Datapoint(vendor_metric(VENDOR, sample.name), code, "number"), sample._replace(unit=None)
    if definition is None:
        message.keep(sample.name, sample.value, sample.path, sample.stamp)
        return
    try:
        _read_defined(message, definition, sample)
    except FieldError as error:
        message.problem(sample.path, error)


def _kind_of(value: Any) -> Kind:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _read_defined(message: Message, definition: Datapoint, sample: Sample) -> None:
    metric, value, stamp = definition.metric, sample.value, sample.stamp
    kind = _kind(definition) or _kind_of(value)
    if kind == "number":
        known, unit = catalogue().get(metric), definition.unit
        if sample.unit is not None:
            unit = ucum_code(sample.unit) or (_annotation(sample.unit) if known is None else None)
            if unit is None:  # nobody knows what the number means
                raise FieldError("unit", f"{shown(sample.unit)} is not a known unit")
        source = (ucum_code(unit) or unit) if unit else None
        target = (known.unit if known else source) or UNKNOWN_UNIT
        message.add(metric, "number", _converted(decimal(value), source, target), target, stamp)
    elif kind == "boolean":
        message.add(metric, "boolean", boolean(value), None, stamp)
    elif kind == "text":
        message.add(metric, "text", text(value), None, stamp)
    else:
        message.add(metric, "json", json_text(value), None, stamp)


def _converted(value: Decimal, source: str | None, target: str) -> float:
    return finite(value) if source is None or source == target else convert(value, source, target)


def of_account(definitions: str, own: Mapping[str, Datapoint]) -> dict[str, Datapoint]:
    """Datapoint id → what it is read into, of the definitions that came with a rule (header `ce_datapoints`).

    Each is read as a row of stored telemetry is. ValueError where `definitions` is no such object.
    """
    datapoints: dict[str, Datapoint] = {}
    for identity, facts in _definitions(definitions.encode()).items() if definitions else ():
        name = facts.get("name", identity)
        meaning = own.get(name) or own.get(identity)
        meaning = meaning or _defined_by_account(name, facts.get("unit", ""), facts.get("type", ""))
        datapoints[identity] = meaning or DATAPOINTS.get(name) or Datapoint(vendor_metric(VENDOR, name))
    return datapoints


# -- what REST answers


def stored(message: Message) -> None:
    """Back-filled telemetry (`GET …/telemetry`): rows with name, unit, data type, time and value.

    A row without a readable time is of no use: nobody could know whether it came live. Problems of a row that is there
    for comparison only are reported by the record that emits the row.
    """
    rows = load_json(message.envelope.data)
    if not isinstance(rows, list):
        raise FieldError("wrong_type", "an array is due")
    try:
        read = BackfillWindow.of(message.envelope.attributes)
    except (KeyError, ValueError) as error:
        raise FieldError("missing", "attributes readfrom, readto, readreach") from error
    message.polled()
    for index, row in enumerate(rows):
        known = len(message.problems)
        at = _stored_row(message, f"[{index}]", row)
        if at is not None and not read.contains(at):
            del message.problems[known:]


def _stored_row(message: Message, path: str, row: Any) -> datetime | None:
    """Read one row; its time, if it has one."""
    fields = row if isinstance(row, dict) else {}
    name, value = fields.get("name"), fields.get("value")
    if fields.get("measured_at") is None:
        message.problem(path, FieldError("missing", "measured_at"))
        return None
    stamp = message.stamp(fields["measured_at"], f"{path}.measured_at")
    if stamp.source != "vendor":
        return None
    message.polled(stamp)
    if not isinstance(name, str):
        message.problem(path, FieldError("missing", "name"))
    elif value is not None:
        members = {"id": "datapoint_id", "unit": "unit", "type": "data_type"}
        facts = {key: str(fields[field]) for key, field in members.items() if fields.get(field) is not None}
        _read(message, _meaning(message, name, facts), Sample(name, value, f"{path}.value", stamp))
    return stamp.at


_DEVICE: Mapping[str, Field] = {
    "is_online": into("connection.online"),
    "connection_status": into("network.connection_status"),
    "stability_score": into("device.stability_score"),
    "messages_24h": into("device.messages_24h"),
    "battery_level": into("battery.level"),
    "signal_strength": into("network.signal_strength"),
}
_COMPONENTS: Mapping[str, Field] = {
    name: into(f"health.{name}") for name in ("uptime", "alarm_burden", "connection_stability", "telemetry_freshness")
}


def device(message: Message) -> None:
    """The values of a device object; they have no time of their own. `last_seen` says when the device spoke."""
    message.is_polled_state = True
    members = mapping(load_json(message.envelope.data))
    seen = message.contact("connection.last_contact", members.pop("last_seen", None), "last_seen")
    message.polled(*([seen] if seen is not None else ()))
    message.read_object(_DEVICE, members, "", message.received)


def health(message: Message) -> None:
    """`GET …/health`: the score and its components. The device has no part in it."""
    message.is_polled_state = True
    answer = mapping(load_json(message.envelope.data))
    message.polled()
    stamp = message.stamp(answer.get("checked_at"), "checked_at")
    message.read(into("health.score"), answer.get("health_score"), "health_score", stamp)
    message.read(into("health.status"), answer.get("health_status"), "health_status", stamp)
    components = answer.get("components")
    if isinstance(components, dict):
        message.read_object(_COMPONENTS, components, "components", stamp, "health")
    message.keep_others(answer, ("device_id", "health_score", "health_status", "components", "checked_at"), stamp)


_ALARM_FACTS = ("id", "rule_id", "rule_name", "title", "message", "severity", "triggered_at")
_ALARM_TIMES = (("triggered", "triggered_at"), ("acknowledged", "acknowledged_at"), ("resolved", "resolved_at"))


def alarm(message: Message) -> None:
    """An alarm with its timeline: one event for each entry, so that an entry sent once more is a duplicate.

    What the timeline leaves out and the alarm contains (the timeline may be cut, or empty) becomes an entry, too; so
    does a count of occurrences that has grown, which the timeline does not contain.
    """
    payload = mapping(load_json(message.envelope.data))
    current, timeline = mapping(payload.get("alarm")), payload.get("timeline")
    entries = [dict(e) for e in timeline if isinstance(e, dict)] if isinstance(timeline, list) else []
    listed = {e.get("event_type") for e in entries}
    entries += [
        {"event_type": kind, "created_at": current[field]}
        for kind, field in _ALARM_TIMES
        if kind not in listed and current.get(field) is not None
    ]
    facts = {name: current[name] for name in _ALARM_FACTS if current.get(name) is not None}
    stamped = [(message.stamp(e.get("created_at"), "timeline.created_at"), e) for e in entries]
    for stamp, entry in sorted(stamped, key=lambda item: (to_micros(item[0].at), _order(item[1]))):
        _alarm_event(message, facts, entry, stamp)
    count = current.get("occurrence_count")
    if isinstance(count, int) and count > 1:
        _alarm_event(message, facts, {"event_type": "repeated", "occurrence_count": count}, message.received)


def _order(entry: Mapping[str, Any]) -> int:
    number = entry.get("id")
    return number if isinstance(number, int) else 0


def _alarm_event(message: Message, facts: Mapping[str, Any], entry: Mapping[str, Any], stamp: Stamp) -> None:
    kind = text(entry.get("event_type") or "unknown")
    which = entry.get("created_at") or entry.get("id") or entry.get("occurrence_count")
    identity = f"{facts.get('id')}:{kind}:{which}"
    severity, _ = severity_of_word(facts.get("severity", "warning"))
    title = text(facts.get("title") or facts.get("rule_name") or "Alarm")
    message.event(VendorEvent("vendor_alarm", identity, stamp, {"alarm": facts, "entry": dict(entry)}, severity, title))


HANDLERS: Mapping[str, Callable[[Message], None]] = {
    "wayscloud.publish": publish,
    "wayscloud.telemetry.log": stored,
    "wayscloud.device": device,
    "wayscloud.health": health,
    "wayscloud.alarm.event": alarm,
}
