"""The two codecs of the contract are equal: what `wire` encodes `records` reads, and the other way round."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from schemas import records, wire, words

TEXT = st.text(max_size=12)
WORD = st.text(min_size=1, max_size=12)
UTC_TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
DEVICE_IDS = st.builds(lambda name: f"karcher:{name}", st.from_regex(r"[^\r\n]{1,10}", fullmatch=True))
UUIDS = st.uuids().map(str)
SEVERITIES = st.sampled_from([s.value for s in words.Severity])
MAYBE_TIME = st.none() | UTC_TIMES
SMALL_JSON = st.dictionaries(WORD, st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT, max_size=3)

ORIGINS = st.builds(wire.Origin, topic=WORD, partition=st.integers(0, 999), offset=st.integers(0, 2**63 - 1))


def _reading(common: dict[str, Any], name: str, value: Any) -> wire.Reading:
    return wire.Reading(**common, **{name: value})


READINGS = st.tuples(
    st.fixed_dictionaries(
        {
            "metric": WORD,
            "observed_at": UTC_TIMES,
            "unit": st.none() | WORD,
            "time_source": st.sampled_from(["vendor", "received"]),
            "time_quality": st.sampled_from(["ok", "future", "ancient"]),
        }
    ),
    st.one_of(
        st.tuples(st.just("value_number"), FINITE),
        st.tuples(st.just("value_text"), TEXT),
        st.tuples(st.just("value_boolean"), st.booleans()),
        st.tuples(st.just("value_json"), TEXT),
    ),
).map(lambda drawn: _reading(drawn[0], *drawn[1]))
EVENTS = st.builds(
    wire.Event,
    event_id=UUIDS,
    type=WORD,
    occurred_at=UTC_TIMES,
    data=TEXT,
    time_source=st.sampled_from(["vendor", "received"]),
    severity=st.none() | SEVERITIES,
    title=st.none() | TEXT,
)
HEAD = {"id": TEXT, "device_id": DEVICE_IDS, "vendor": WORD, "received_at": UTC_TIMES, "origin": ORIGINS}
OBSERVATIONS = st.builds(
    wire.Observation,
    **HEAD,
    readings=st.lists(READINGS, min_size=1, max_size=3),
    polled=st.booleans(),
    heard_at=MAYBE_TIME,
)
EVENT_SETS = st.builds(wire.EventSet, **HEAD, events=st.lists(EVENTS, min_size=1, max_size=3))
ALARMS = st.builds(
    wire.Alarm,
    alarm_id=UUIDS,
    device_id=DEVICE_IDS,
    vendor=WORD,
    rule_id=WORD,
    rule_name=TEXT,
    severity=SEVERITIES,
    title=TEXT,
    message=TEXT,
    status=st.sampled_from([s.value for s in words.AlarmStatus]),
    triggered_at=UTC_TIMES,
    last_triggered_at=UTC_TIMES,
    occurrence_count=st.integers(1, 10**6),
    metric=st.none() | WORD,
    acknowledged_at=MAYBE_TIME,
    resolved_at=MAYBE_TIME,
)
ALARM_EVENTS = st.builds(
    wire.AlarmEvent,
    event_id=UUIDS,
    sequence=st.integers(1, 10**6),
    event_type=st.sampled_from([t.value for t in records.AlarmEventType]),
    actor=WORD,
    created_at=UTC_TIMES,
    alarm=ALARMS,
    origin=ORIGINS,
    note=st.none() | TEXT,
    metadata=st.none() | SMALL_JSON,
)
ALARM_ACTIONS = st.builds(
    wire.AlarmAction,
    action_id=UUIDS,
    alarm_id=UUIDS,
    device_id=DEVICE_IDS,
    action=st.sampled_from([t.value for t in records.AlarmActionType]),
    actor=WORD,
    requested_at=UTC_TIMES,
    note=st.none() | TEXT,
    until=MAYBE_TIME,
)
DEVICES = st.builds(
    wire.Device,
    device_id=DEVICE_IDS,
    vendor=WORD,
    updated_at=UTC_TIMES,
    registered=st.booleans(),
    name=st.none() | TEXT,
    model=st.none() | TEXT,
    serial_number=st.none() | TEXT,
    firmware_version=st.none() | TEXT,
    attributes=SMALL_JSON,
)
DEAD_LETTERS = st.builds(
    wire.DeadLetter,
    id=TEXT,
    stage=st.sampled_from(["connector", "normalise", "detect"]),
    received_at=UTC_TIMES,
    problems=st.lists(st.builds(wire.Problem, path=TEXT, reason=WORD, detail=TEXT), min_size=1, max_size=3),
    payload=TEXT,
    payload_bytes=st.integers(0, 2**40),
    payload_sha256=TEXT,
    device_id=st.none() | TEXT,
    vendor=st.none() | TEXT,
    message_type=st.none() | TEXT,
    origin=st.none() | ORIGINS,
)
CASES: dict[str, tuple[st.SearchStrategy[Any], type[msgspec.Struct]]] = {
    "observation": (OBSERVATIONS, wire.Observation),
    "event-set": (EVENT_SETS, wire.EventSet),
    "alarm-event": (ALARM_EVENTS, wire.AlarmEvent),
    "alarm-action": (ALARM_ACTIONS, wire.AlarmAction),
    "device": (DEVICES, wire.Device),
    "dead-letter": (DEAD_LETTERS, wire.DeadLetter),
}


def test_every_record_of_the_contract_is_compared() -> None:
    assert set(CASES) == set(records.RECORDS) - {"alarm-rule", "maintenance-window"}, "on no hot path: without a twin"


@pytest.mark.parametrize("name", CASES)
def test_fields_have_the_same_names(name: str) -> None:
    compare_fields(records.RECORDS[name], CASES[name][1])


def compare_fields(model: type[records.Record], struct: type[msgspec.Struct]) -> None:
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    assert set(model.model_fields) == set(fields)
    for name, info in model.model_fields.items():
        assert info.is_required() is fields[name].required, name


@pytest.mark.parametrize(
    ("model", "struct"),
    [
        (records.Origin, wire.Origin),
        (records.Reading, wire.Reading),
        (records.Event, wire.Event),
        (records.Alarm, wire.Alarm),
        (records.Problem, wire.Problem),
    ],
)
def test_fields_of_parts_have_the_same_names(model: type[records.Record], struct: type[msgspec.Struct]) -> None:
    compare_fields(model, struct)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_what_one_codec_writes_the_other_reads(name: str, data: st.DataObject) -> None:
    strategy, struct = CASES[name]
    made = data.draw(strategy)
    encoded = wire.encode(made)
    model = records.RECORDS[name].model_validate_json(encoded)
    assert msgspec.json.decode(model.model_dump_json(), type=struct) == made
    assert msgspec.json.decode(encoded, type=struct) == made
    assert msgspec.json.decode(model.model_dump_json(exclude_defaults=True), type=struct) == made
    newer = encoded.replace(b"{", b'{"of_a_later_version":1,', 1)
    assert records.RECORDS[name].model_validate_json(newer) == model
    assert msgspec.json.decode(newer, type=struct) == made


MODELS = [value for value in vars(records).values() if isinstance(value, type) and issubclass(value, BaseModel)]
MADE_ANEW = [model for model in MODELS if model not in (BaseModel, records.Record, records.Silence)]


@pytest.mark.parametrize("model", MADE_ANEW)
def test_a_record_is_never_changed_in_place(model: type[BaseModel]) -> None:
    made = model.model_construct()
    for name in model.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(made, name, None)


SAID_BY_DEFAULT: dict[str, Any] = {
    "Reading.time_source": "vendor",
    "Reading.time_quality": "ok",
    "Observation.polled": False,
    "Event.time_source": "vendor",
    "Alarm.flapping": False,
    "Device.registered": True,
    "Device.attributes": {},
    "Problem.detail": "",
    "Watermark.readings_to": -1,
    "Watermark.events_to": -1,
    "Watermark.coverage_to": -1,
    "Coverage.device_id": "",
    "InhibitorHistory.attributes": {},
}
STRUCTS = [value for value in vars(wire).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]


def test_a_field_that_is_left_out_means_what_it_always_meant() -> None:
    """Records on topics are years old: another default would change what they say. The rest has None."""
    defaults = {
        f"{struct.__name__}.{field.name}": msgspec.to_builtins(
            field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
        )
        for struct in STRUCTS
        for field in msgspec.structs.fields(struct)
        if not field.required
    }
    assert {name: value for name, value in defaults.items() if value is not None} == SAID_BY_DEFAULT


AT = datetime(2026, 3, 16, 7, 20, 45, 1500, tzinfo=UTC)


@pytest.mark.parametrize(
    ("record", "encoded"),
    [
        (
            wire.Watermark("karcher", AT, 7),
            b'{"vendor":"karcher","at":"2026-03-16T07:20:45.001500Z","readings_to":7}',
        ),
        (
            wire.InhibitorHistory("r", "karcher:a", [(1, 2), (3, None)], {"site": "hall"}),
            b'{"rule_id":"r","device_id":"karcher:a","spans":[[1,2],[3,null]],"attributes":{"site":"hall"}}',
        ),
        (wire.InhibitorProgress([5, 4]), b'{"reached":[5,4]}'),
    ],
)
def test_private_records_keep_their_encoding(record: msgspec.Struct, encoded: bytes) -> None:
    """State topics are read by later versions, too."""
    assert wire.encode(record) == encoded
    assert msgspec.json.decode(encoded, type=type(record)) == record


WINDOW = {"window_id": "w", "actor": "ops", "created_at": AT, "starts_at": AT, "ends_at": AT + timedelta(hours=1)}


def test_a_maintenance_window_of_a_later_version_is_read() -> None:
    window = records.MaintenanceWindow.model_validate(WINDOW)
    assert records.MaintenanceWindow.model_validate(WINDOW | {"of_a_later_version": 1}) == window


@pytest.mark.parametrize(
    "wrong",
    [
        {"ends_at": AT},
        {"scope_type": "device"},
        {"scope": "hall"},
        {"window_id": ""},
        {"window_id": "w" * 201},
        {"actor": ""},
        {"actor": "a" * 201},
        {"note": "n" * 4001},
        {"starts_at": AT.replace(tzinfo=None)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_maintenance_window_that_silences_nothing_or_says_too_much_is_refused(wrong: dict[str, Any]) -> None:
    most = {"window_id": "w" * 200, "actor": "a" * 200, "note": "n" * 4000, "scope_type": "device", "scope": "ogmen:r"}
    records.MaintenanceWindow.model_validate(WINDOW | most)
    with pytest.raises(ValidationError):
        records.MaintenanceWindow.model_validate(WINDOW | wrong)
