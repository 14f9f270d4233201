"""Records as the live page takes them: every field under its own name, times in milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas import wire
from ui.live.records import alarm_fields, event_fields, reading_fields

TIMES = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))
WORD = st.text(min_size=1, max_size=8)
MAYBE = st.none() | TIMES
ALARMS = st.builds(
    wire.Alarm,
    **dict.fromkeys(
        ("alarm_id", "device_id", "vendor", "rule_id", "rule_name", "severity", "title", "message", "status"), WORD
    ),
    **dict.fromkeys(("triggered_at", "last_triggered_at"), TIMES),
    **dict.fromkeys(("acknowledged_at", "resolved_at", "snoozed_until"), MAYBE),
    occurrence_count=st.integers(1, 99),
    metric=st.none() | WORD,
    flapping=st.booleans(),
)
ENTRIES = st.builds(
    wire.AlarmEvent,
    event_id=WORD,
    sequence=st.integers(1, 99),
    event_type=WORD,
    actor=WORD,
    created_at=TIMES,
    alarm=ALARMS,
    origin=st.just(wire.Origin("t", 0, 0)),
    note=st.none() | WORD,
    metadata=st.none() | st.dictionaries(WORD, WORD, max_size=2),
)


def shown(value: Any) -> Any:
    return int(value.timestamp() * 1000) if isinstance(value, datetime) else value


def same(fields: dict[str, Any], record: msgspec.Struct, *left_out: str) -> None:
    """The fields are those of the record, all but some."""
    names = set(record.__struct_fields__) - set(left_out)
    assert fields == {name: shown(getattr(record, name)) for name in names}


@given(ENTRIES)
def test_an_alarm_has_all_its_fields_and_the_entry_that_changed_it(event: wire.AlarmEvent) -> None:
    fields = alarm_fields(event)
    entry = fields.pop("entry")
    assert fields.pop("sequence") == event.sequence
    same(fields, event.alarm, *(set(event.alarm.__struct_fields__) - PAGE))
    assert entry.pop("at") == shown(event.created_at)
    same(entry, event, "event_id", "created_at", "alarm", "origin")


PAGE = {
    *("alarm_id", "device_id", "vendor", "rule_id", "rule_name", "severity", "title", "message", "status", "metric"),
    *("occurrence_count", "flapping", "triggered_at", "last_triggered_at", "acknowledged_at", "resolved_at"),
    "snoozed_until",
}
"""What the page shows of an alarm."""


@given(WORD, TIMES, st.none() | WORD, st.none() | WORD)
def test_an_event_is_an_entry_of_its_device(kind: str, at: datetime, title: str | None, severity: str | None) -> None:
    event = wire.Event("id", kind, at, "{}", severity=severity, title=title)
    assert event_fields("ogmen:1", "ogmen", event) == {
        "kind": "event",
        "device_id": "ogmen:1",
        "vendor": "ogmen",
        "what": kind,
        "title": title or kind,
        "severity": severity,
        "at": shown(at),
        "detail": "{}",
        "alarm_id": None,
    }


@given(
    st.one_of(
        st.tuples(st.just("value_number"), st.floats(allow_nan=False)),
        st.tuples(st.just("value_text"), st.text(max_size=5)),
        st.tuples(st.just("value_boolean"), st.booleans()),
        st.tuples(st.just("value_json"), st.text(max_size=5)),
    ),
    TIMES,
)
def test_a_reading_has_the_one_value_that_was_sent(value: tuple[str, Any], at: datetime) -> None:
    kind, sent = value
    structured = kind == "value_json"
    assert reading_fields(wire.Reading("m", at, unit="u", **{kind: sent})) == {
        "metric": "m",
        "value": None if structured else sent,
        "structured": sent if structured else None,
        "unit": "u",
        "at": shown(at),
        "numeric": kind == "value_number",
    }
