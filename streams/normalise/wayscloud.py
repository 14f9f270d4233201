"""WAYSCloud: what devices publish by MQTT (pure).

Source: WAYSCloud's API document, «Create device profile» (`expected_topics`: `devices/+/sensors/temperature`). The
payload is not documented (assumed): a bare scalar, `{"value", "timestamp"}`, or an object of datapoints with a
`timestamp`. What a datapoint means is found by `datapoints`; the account's definition is in the attribute `datapoints`
of the envelope, or in the row itself. Message types: `wayscloud.publish`, with the attribute `mqtttopic`, and what the
connector reads by REST.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from schemas.envelope import BackfillWindow
from schemas.metrics import UNKNOWN_UNIT, Kind, catalogue, vendor_metric
from schemas.redact_patterns import REDACTED
from schemas.severity import severity_of_word
from schemas.timestamps import to_micros
from schemas.units import ucum_code
from streams.normalise.datapoints import VENDOR, account_definitions, annotation, kind_of, meaning
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

_TIMES = ("timestamp", "measured_at")


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
    if definition is not None and kind_of(definition) == "text":
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
    of_account = account_definitions(message.envelope.attributes.get("datapoints", "")).get(name)
    return meaning(name, of_account, message.options.datapoints)


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
    if definition is None and sample.unit is not None and _kind_of_value(sample.value) == "number":
        code = ucum_code(sample.unit) or annotation(sample.unit)
        definition, sample = Datapoint(vendor_metric(VENDOR, sample.name), code, "number"), sample._replace(unit=None)
    if definition is None:
        message.keep(sample.name, sample.value, sample.path, sample.stamp)
        return
    try:
        _read_defined(message, definition, sample)
    except FieldError as error:
        message.problem(sample.path, error)


def _kind_of_value(value: Any) -> Kind:
    return "boolean" if isinstance(value, bool) else "text" if isinstance(value, str) else "number"


def _read_defined(message: Message, definition: Datapoint, sample: Sample) -> None:
    metric, value, stamp = definition.metric, sample.value, sample.stamp
    kind = kind_of(definition) or _kind_of_value(value)
    if kind == "number":
        known, unit = catalogue().get(metric), definition.unit
        if sample.unit is not None:
            unit = ucum_code(sample.unit) or (annotation(sample.unit) if known is None else None)
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


# -- what REST answers


def stored(message: Message) -> None:
    """Back-filled telemetry (`GET …/telemetry`): rows with name, unit, data type, time and value.

    A row without a readable time is of no use: nobody could know whether it came live. Problems of a row that is there
    for comparison only are reported by the record that emits the row.
    """
    rows = message.payload()
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
        _read(message, meaning(name, facts, message.options.datapoints), Sample(name, value, f"{path}.value", stamp))
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
    members = mapping(message.payload())
    seen = message.contact("connection.last_contact", members.pop("last_seen", None), "last_seen")
    message.polled(*([seen] if seen is not None else ()))
    message.read_object(_DEVICE, members, "", message.received)


def health(message: Message) -> None:
    """`GET …/health`: the score and its components. The device has no part in it."""
    message.is_polled_state = True
    answer = mapping(message.payload())
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
    payload = mapping(message.payload())
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
