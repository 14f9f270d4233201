"""WAYSCloud's alarms, whose life cycle WAYSCloud itself reports (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas import wire
from schemas.severity import severity_of_word
from schemas.timestamps import parse_iso, to_micros
from streams.detect.state import AlarmFacts
from streams.detect.timeline import VENDOR
from streams.detect.vendor_alerts import Reader, Transition, text_of


def _entry(event: wire.Event, data: Mapping[str, Any]) -> Transition:
    """`data` holds `alarm`, as the vendor's list shows it, and `entry`, one of its timeline."""
    given, entry = data.get("alarm"), data.get("entry")
    facts: Mapping[str, Any] = given if isinstance(given, dict) else {}
    entry = entry if isinstance(entry, dict) else {}
    name = text_of(facts, "id")
    triggered = _micros(facts.get("triggered_at")) or to_micros(event.occurred_at)
    title = text_of(facts, "title") or event.title or name
    severity, original = severity_of_word(facts.get("severity", "warning"))
    count = entry.get("occurrence_count")
    return Transition(
        identity=f"wayscloud:alarm:{name}",
        kind=text_of(entry, "event_type"),
        alarm=AlarmFacts(
            triggered,
            triggered,
            text_of(facts, "rule_name") or title,
            severity,
            title,
            text_of(facts, "message") or title,
            None,
            rule_id=f"wayscloud:{text_of(facts, 'rule_id') or name}",
        ),
        actor=text_of(entry, "actor") or VENDOR,
        note=text_of(entry, "note") or None,
        occurrence_count=count if isinstance(count, int) else None,
        severity_original=original,
        rule_id=text_of(facts, "rule_id"),
    )


def _micros(value: object) -> int | None:
    try:
        return to_micros(parse_iso(value)) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None


ALARMS: Mapping[str, Reader] = {"vendor_alarm": _entry}
