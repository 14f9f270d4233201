"""What WAYSCloud's REST API answers: pages, devices, definitions, alarms, rules, stored telemetry (pure).

Source: WAYSCloud's API document (docs/vendors/wayscloud.md). A function that takes a body raises ValueError where it is
not what the document shows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from schemas.device import device_id
from schemas.envelope import BackfillWindow, Envelope, message_id
from schemas.json_reading import read_json
from schemas.redact import redact_value
from schemas.timestamps import format_iso, parse_iso
from schemas.wire import Device, encode

VENDOR = "wayscloud"

DEVICE = "wayscloud.device"
"""The untimed values of a device object."""
HEALTH = "wayscloud.health"
ALARM = "wayscloud.alarm.event"
"""An alarm with its timeline: `{"alarm": {…}, "timeline": […]}`, both as the API shows them."""
TELEMETRY = "wayscloud.telemetry.log"
"""Stored telemetry of a device, back-filled after an outage: an array."""

_VALUES = (
    *("is_online", "last_seen", "connection_status", "stability_score"),
    *("messages_24h", "battery_level", "signal_strength"),
)
"""Members of a device object that change by themselves."""
_ATTRIBUTES = ("description", "is_active", "tags", "metadata", "created_at")
_INTERVAL = "reporting_interval_seconds"
_PROFILE = ("id", "name", "description", _INTERVAL, "expected_topics", "metadata", "created_at", "updated_at")
"""Members of a profile that the registry shows."""
_ROWS = 500
"""Stored values that one raw record contributes."""


class Datapoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """A datapoint definition: its id, its unit as its user wrote it, its `data_type`."""

    id: str = ""
    unit: str = ""
    type: str = ""


# -- pages


class Page(msgspec.Struct, frozen=True):
    """One page of a list."""

    items: list[dict[str, Any]]
    may_go_on: bool
    """The answer says so (`has_more`, or a `total` beyond this page), or the page is full. No sign is
    trustworthy alone: read on until a page brings nothing new."""


def read_page(body: bytes, name: str) -> Page:
    """The page of a list called `name`. Lists of devices say `has_more`, those of alarms a `total`, others nothing."""
    fields = read_object(body)
    items = fields.get(name)
    if not isinstance(items, list):
        raise ValueError(f"no array `{name}`")
    listed = [item for item in items if isinstance(item, dict)]
    number, size = _integer(fields.get("page")) or 1, _integer(fields.get("page_size")) or 0
    beyond = number * (size or len(items)) < (_integer(fields.get("total")) or 0)
    return Page(listed, fields.get("has_more") is True or beyond or 0 < size <= len(items))


# -- devices


def device_record(fields: Mapping[str, Any], belongs_to: Mapping[str, Any], now: datetime) -> Device:
    """The registry's record of a device object; what changes by itself is left to `device_values`."""
    kept = {name: fields[name] for name in _ATTRIBUTES if fields.get(name) is not None}
    return Device(
        device_id=device_id(VENDOR, str(fields["device_id"])),
        vendor=VENDOR,
        updated_at=now,
        name=_text(redact_value(fields.get("name"))),
        model=_text(fields.get("device_type")),
        firmware_version=_text(fields.get("firmware_version")),
        attributes={**redact_value(kept), **belongs_to},
    )


def changed_values(fields: Mapping[str, Any], published: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a device object that differ from those published last.

    They carry no time. Published again as of now, an unchanged one would look like a measurement.
    """
    return {
        name: fields[name] for name in _VALUES if fields.get(name) is not None and fields[name] != published.get(name)
    }


def device_values(values: Mapping[str, Any], device: str, now: datetime) -> Envelope:
    """Untimed values of a device object, as of now."""
    body = encode(redact_value(values))
    return Envelope(message_id([DEVICE, device, body, format_iso(now)]), DEVICE, _REST, device, now, body)


def health(body: bytes, device: str, now: datetime) -> Envelope:
    """`GET /v1/iot/devices/{device_id}/health`."""
    fields = read_object(body)
    clean = encode(redact_value(fields))
    return Envelope(message_id([HEALTH, device, clean]), HEALTH, _REST, device, now, clean, _time(fields, "checked_at"))


def tags(body: bytes) -> list[str]:
    """`GET /v1/iot/devices/{device_id}/tags`."""
    listed = read_object(body).get("tags")
    if not isinstance(listed, list):
        raise ValueError("no array `tags`")
    return [str(tag) for tag in listed]


def memberships(
    groups: Iterable[Mapping[str, Any]],
    profiles: Iterable[Mapping[str, Any]],
    group_members: Mapping[str, Sequence[str]],
    profile_members: Mapping[str, Sequence[str]],
) -> dict[str, dict[str, Any]]:
    """The groups and profiles of each device, as attributes, by native id.

    Membership is configured, since the API does not show it. Alarm rules use `group_id`, `profile_id` (lists of
    ids) and `reporting_interval_seconds` (the shortest).
    """
    attributes: dict[str, dict[str, Any]] = {}
    for kind, identity, kept, items, members in (
        ("groups", "group_id", ("id", "name", "description", "color"), groups, group_members),
        ("profiles", "profile_id", _PROFILE, profiles, profile_members),
    ):
        for item in items:
            facts = redact_value({name: item[name] for name in kept if item.get(name) is not None})
            names = {str(item.get("id")), str(item.get("name"))}
            for device in dict.fromkeys(d for name in names for d in members.get(name, ())):
                own = attributes.setdefault(device, {})
                own.setdefault(kind, []).append(facts)
                own.setdefault(identity, []).append(str(item.get("id")))
                if isinstance(interval := facts.get(_INTERVAL), int):
                    own[_INTERVAL] = min(interval, own.get(_INTERVAL, interval))
    return attributes


def uncovered_topics(profiles: Iterable[Mapping[str, Any]], filters: Sequence[str]) -> list[str]:
    """Topics that profiles expect devices to publish to, and that no filter of ours covers."""
    expected = [t for p in profiles if isinstance(p.get("expected_topics"), list) for t in p["expected_topics"]]
    return sorted({str(t) for t in expected if not any(_covers(f.split("/"), str(t).split("/")) for f in filters)})


def _covers(wide: list[str], narrow: list[str]) -> bool:
    """Whether everything one filter matches is matched by the other."""
    for index, level in enumerate(wide):
        if level == "#":
            return True
        if index >= len(narrow) or narrow[index] == "#" or (level not in ("+", narrow[index])):
            return False
    return len(wide) == len(narrow)


# -- datapoints


def datapoint(fields: Mapping[str, Any]) -> tuple[str, Datapoint] | None:
    """Name and definition; the answers say `name` for what a request calls `key`."""
    name = fields.get("name") or fields.get("key")
    if not isinstance(name, str):
        return None
    return name, Datapoint(*(_text(fields.get(key)) or "" for key in ("id", "unit", "data_type")))


# -- alarms


def alarm_signature(fields: Mapping[str, Any]) -> str:
    """A digest that changes when something happens to an alarm of the list."""
    parts = [_text(fields.get(name)) or "" for name in ("status", "severity", "occurrence_count", "triggered_at")]
    return message_id(parts)[:12]


def alarm(detail: Mapping[str, Any], timeline: bytes, now: datetime) -> Envelope:
    """An alarm with its timeline; ValueError where it names no device."""
    if not is_id(detail.get("device_id")):
        raise ValueError(f"alarm {_text(detail.get('id'))} names no device")
    entries = _array(timeline)
    body = encode(redact_value({"alarm": detail, "timeline": entries}))
    device = device_id(VENDOR, str(detail["device_id"]))
    return Envelope(message_id([ALARM, device, body]), ALARM, _REST, device, now, body)


def rule_of_account(body: bytes) -> bytes:
    """A rule as it concerns the account: its fleet is WAYSCloud's devices, not those of other vendors."""
    rule = msgspec.json.decode(body)
    if not isinstance(rule, dict):
        raise ValueError("a rule is not an object")
    scope = {"scope_type": "vendor", "scope_vendor": VENDOR} if rule.get("scope_type") in (None, "fleet") else {}
    return encode({**rule, **scope, "source": VENDOR})


# -- stored telemetry


def stored_telemetry(body: bytes, device: str, window: BackfillWindow, now: datetime) -> list[Envelope]:
    """`GET /v1/iot/devices/{device_id}/telemetry`: the rows of the window, in records that hold the rows around it too.

    The names of the time range are assumed, so an answer may hold more than was asked for: the rest is left out.
    Rows without a readable time are in the first record, so that the normaliser reports what is wrong.
    """
    rows = [(_time(row, "measured_at") if isinstance(row, dict) else None, row) for row in _array(body)]
    undated = [row for at, row in rows if at is None]
    shown = sorted(
        ((at, row) for at, row in rows if at is not None and window.contains_with_context(at)), key=lambda item: item[0]
    )
    times = [at for at, _ in shown]
    inside = times[bisect_left(times, window.start) : bisect_left(times, window.end)]
    envelopes = []
    for piece in _pieces(inside, window) if inside or undated else ():
        first, last = (bisect_left(times, at) for at in (piece.start - piece.context, piece.end + piece.context))
        data, attributes = encode(redact_value([*undated, *(row for _, row in shown[first:last])])), piece.attributes()
        identity = message_id([TELEMETRY, device, *attributes.values(), data])
        envelopes.append(Envelope(identity, TELEMETRY, _REST, device, now, data, attributes=attributes))
        undated = []
    return envelopes


def _pieces(times: Sequence[datetime], window: BackfillWindow) -> Iterator[BackfillWindow]:
    """Divide the window into pieces of about `_ROWS` rows; rows of one time stay together."""
    start, count = window.start, 0
    for before, at in pairwise(times):
        count += 1
        if count >= _ROWS and at > before:
            yield BackfillWindow(start, at, window.reach_seconds)
            start, count = at, 0
    yield BackfillWindow(start, window.end, window.reach_seconds)


def steps(start: datetime, end: datetime, step: timedelta) -> Iterator[tuple[datetime, datetime]]:
    """Divide the time from `start` to `end` into pieces of at most `step`."""
    while start < end:
        yield start, min(start + step, end)
        start += step


# -- credentials


class BrokerAddress(NamedTuple):
    """Host and port of an MQTT broker."""

    host: str
    port: int


def broker_of(body: bytes, tls: bool, websockets: bool = False) -> BrokerAddress:
    """The broker of `GET /v1/iot/credentials`; ValueError where it names none."""
    broker = read_object(body).get("mqtt_broker")
    name = "websocket_port" if websockets else "tls_port" if tls else "port"
    port = broker.get(name) if isinstance(broker, dict) else None
    if not isinstance(broker, dict) or not isinstance(broker.get("host"), str) or not isinstance(port, int):
        raise ValueError("no broker in the answer")
    return BrokerAddress(broker["host"], port)


_REST = "wayscloud/rest"


def read_object(body: bytes) -> dict[str, Any]:
    """Parse a JSON object; ValueError where the body is something else."""
    fields = read_json(body)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    return fields


def _array(body: bytes) -> list[Any]:
    items = read_json(body)
    if not isinstance(items, list):
        raise ValueError("not a JSON array")
    return items


def _time(fields: Mapping[str, Any], name: str) -> datetime | None:
    try:
        return parse_iso(fields[name]) if isinstance(fields.get(name), str) else None
    except (ValueError, OverflowError):
        return None


def is_id(value: object) -> bool:
    """Whether a value can be an id: a text or an integer, and not an object, which may hold anything."""
    return isinstance(value, str | int) and bool(value) and value is not True


def _integer(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
