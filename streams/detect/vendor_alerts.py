"""Reading vendors' own alarms from the events that the normaliser makes (pure).

Ogmen's alerts are one alarm per source and header, Kärcher's notifications one per category, code and type. WAYSCloud
reports the life cycle of its alarms itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from schemas import wire
from schemas.severity import severity_of_word
from schemas.timestamps import parse_iso, to_micros
from streams.detect.state import AlarmFacts
from streams.detect.timeline import VENDOR


class VendorAlert(msgspec.Struct, frozen=True):
    """One alert of a vendor, in our terms. `identity` says which alarm of the device it belongs to."""

    identity: str
    name: str
    title: str
    message: str
    severity: str
    severity_original: str | None = None


class Transition(msgspec.Struct, frozen=True):
    """One entry of the timeline of an alarm whose life cycle the vendor reports."""

    identity: str
    kind: str
    alarm: AlarmFacts
    """The alarm as it was triggered."""
    actor: str
    note: str | None = None
    occurrence_count: int | None = None
    severity_original: str | None = None
    rule_id: str = ""
    """The vendor's id of the rule that raised the alarm; empty where it names none."""


def _ogmen_alert(event: wire.Event, data: Mapping[str, Any]) -> VendorAlert:
    """One alarm per source and header (docs/contract.md, «Alarms»)."""
    source, header = _text(data, "source"), _text(data, "header")
    return VendorAlert(
        f"ogmen:alert:{source}:{header}", header, header, _text(data, "body"), event.severity or "warning"
    )


def _karcher_notification(event: wire.Event, data: Mapping[str, Any]) -> VendorAlert:
    category, code, kind = (_text(data, name) for name in ("category", "code", "type"))
    inner = data.get("data")
    inner = inner if isinstance(inner, dict) else {}
    title = _text(inner, "topic") or event.title or code
    message = _text(inner, "description") or _text(inner, "reminder") or title
    severity, original = severity_of_word(data["severity"]) if data.get("severity") is not None else ("warning", None)
    return VendorAlert(f"karcher:notification:{category}:{code}:{kind}", title, title, message, severity, original)


def _wayscloud_entry(event: wire.Event, data: Mapping[str, Any]) -> Transition:
    """`data` holds `alarm`, as the vendor's list shows it, and `entry`, one of its timeline."""
    given, entry = data.get("alarm"), data.get("entry")
    facts: Mapping[str, Any] = given if isinstance(given, dict) else {}
    entry = entry if isinstance(entry, dict) else {}
    name = _text(facts, "id")
    triggered = _micros(facts.get("triggered_at")) or to_micros(event.occurred_at)
    title = _text(facts, "title") or event.title or name
    severity, original = severity_of_word(facts.get("severity", "warning"))
    count = entry.get("occurrence_count")
    return Transition(
        identity=f"wayscloud:alarm:{name}",
        kind=_text(entry, "event_type"),
        alarm=AlarmFacts(
            triggered,
            triggered,
            _text(facts, "rule_name") or title,
            severity,
            title,
            _text(facts, "message") or title,
            None,
            rule_id=f"wayscloud:{_text(facts, 'rule_id') or name}",
        ),
        actor=_text(entry, "actor") or VENDOR,
        note=_text(entry, "note") or None,
        occurrence_count=count if isinstance(count, int) else None,
        severity_original=original,
        rule_id=_text(facts, "rule_id"),
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name)
    return "" if value is None else str(value)


def _micros(value: object) -> int | None:
    try:
        return to_micros(parse_iso(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


READERS: Mapping[tuple[str, str], Callable[[wire.Event, Mapping[str, Any]], VendorAlert | Transition]] = {
    ("ogmen", "alert"): _ogmen_alert,
    ("karcher", "notification"): _karcher_notification,
    ("wayscloud", "vendor_alarm"): _wayscloud_entry,
}
"""How the events of a vendor and type are read."""


def is_vendor_alarm(vendor: str, event_type: str) -> bool:
    """Whether events of this type enter the alarms' life cycle."""
    return (vendor, event_type) in READERS
