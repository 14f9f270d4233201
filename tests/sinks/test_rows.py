"""From records to rows: nothing lost, nothing changed, and what cannot be read is set apart."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import records, wire
from schemas.envelope import Envelope
from sinks.delta.rows import dead_letter_rows, sorted_rows, to_rows
from sinks.delta.tables import (
    ALARM_EVENTS_TABLE,
    DEAD_LETTERS_TABLE,
    DEVICES_TABLE,
    EVENTS_TABLE,
    READINGS_TABLE,
    TABLES,
    Table,
    raw_tables,
)
from tests.support.records import DEVICE, ConsumedRecord, record_of
from tests.support.samples import NOON, alarm_event, dead_letter, device, event_set, observation

NAIVE = NOON.replace(tzinfo=None)

moments = st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
texts = st.text(st.characters(exclude_categories=["Cs"]))
values: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, value_number=st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(dict, value_text=texts),
    st.builds(dict, value_boolean=st.booleans()),
    st.builds(dict, value_json=st.builds(json.dumps, st.lists(st.integers()))),
)
readings = st.builds(lambda m, at, v: wire.Reading(metric=m, observed_at=at, **v), texts, moments, values)
observations = st.builds(
    lambda at, items, n: observation(n, received=at, readings=items),
    moments,
    st.lists(readings, min_size=1, max_size=4),
    st.integers(0, 2**53),
)


def only(table: Table, value: Any) -> dict[str, Any]:
    rows = to_rows(table, [record_of(wire.encode(value))])
    assert rows.unreadable == []
    [row] = rows.table.to_pylist()
    assert list(row) == table.schema.names
    return dict(row)


@given(st.lists(observations, max_size=5))
def test_every_reading_becomes_one_row_with_its_exact_value(made: list[wire.Observation]) -> None:
    rows = to_rows(READINGS_TABLE, [record_of(wire.encode(one), offset=i) for i, one in enumerate(made)])
    wanted = [
        (
            r.metric,
            r.value_number,
            r.value_text,
            r.value_boolean,
            r.value_json,
            r.observed_at.replace(tzinfo=None),
            o.received_at.replace(tzinfo=None),
            o.received_at.date(),
            o.origin.offset,
        )
        for o in made
        for r in o.readings
    ]
    names = ["metric", "value_number", "value_text", "value_boolean", "value_json", "observed_at", "received_at"]
    actual = [tuple(row[n] for n in [*names, "received_date", "origin_offset"]) for row in rows.table.to_pylist()]
    assert rows.unreadable == []
    assert Counter(actual) == Counter(wanted)


def test_records_written_by_the_documented_models_are_read_alike() -> None:
    hot = observation(7)
    documented = records.Observation.model_validate_json(wire.encode(hot))
    same = record_of(documented.model_dump_json(exclude_none=True).encode())
    assert to_rows(READINGS_TABLE, [same]).table.equals(to_rows(READINGS_TABLE, [record_of(wire.encode(hot))]).table)


def test_rows_are_sorted_so_that_one_devices_metric_lies_together() -> None:
    made = [observation(n, device=f"ogmen:{n % 3}") for n in range(9)]
    rows = to_rows(READINGS_TABLE, [record_of(wire.encode(one)) for one in made]).table.to_pylist()
    order = [(row["vendor"], row["device_id"], row["metric"], row["observed_at"]) for row in rows]
    assert order == sorted(order)


def test_an_events_fields() -> None:
    row = only(EVENTS_TABLE, event_set(3))
    assert (row["type"], row["data"], row["occurred_at"]) == ("cleaning_report", '{"area": 12}', NAIVE)
    assert (row["message_id"], row["origin_offset"], row["severity"]) == ("e3", 3, None)


def test_an_alarm_events_fields() -> None:
    row = only(ALARM_EVENTS_TABLE, alarm_event(2, "resolved", "resolved"))
    assert (row["sequence"], row["status"], row["event_type"]) == (2, "resolved", "resolved")
    assert (row["occurrence_count"], row["metadata"]) == (2, '{"value":12.5}')
    assert row["received_at"] == datetime(2026, 11, 21, 12, 0)  # when the record was written to its topic
    assert row["acknowledged_at"] is None


def test_a_devices_fields_and_its_tombstone() -> None:
    row = only(DEVICES_TABLE, device("Robot 5"))
    assert (row["name"], row["registered"], row["deleted"]) == ("Robot 5", True, False)
    assert json.loads(row["attributes"]) == {"site": "Winnenden"}

    [gone] = to_rows(DEVICES_TABLE, [record_of(None)]).table.to_pylist()
    assert (gone["device_id"], gone["vendor"], gone["registered"], gone["deleted"]) == (DEVICE, "karcher", False, True)


@pytest.mark.parametrize("with_origin", [True, False])
def test_a_dead_letters_fields(with_origin: bool) -> None:
    row = only(DEAD_LETTERS_TABLE, dead_letter(4, with_origin))
    assert json.loads(row["problems"]) == [
        {"path": "data.location", "reason": "wrong_type", "detail": "expected object"}
    ]
    assert row["origin_offset"] == (4 if with_origin else None)
    assert row["received_date"] == date(2026, 11, 21)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        b"",
        b"\xff\xfe",
        b"{",
        b'{"id": 1}',
        wire.encode(observation(1)).replace(b"2026-11-21", b"2026-13-41"),
        wire.encode(observation(1)).replace(b'"partition":0', b'"partition":99999999999'),
        wire.encode(observation(1)).replace(b'"value_number":1.0', b'"value_number":1e999'),
    ],
)
def test_a_record_that_cannot_be_read_costs_only_itself(bad: bytes | None) -> None:
    good = [record_of(wire.encode(observation(n)), offset=n) for n in range(10)]
    unreadable = record_of(bad, offset=10)
    rows = to_rows(READINGS_TABLE, [*good[:7], unreadable, *good[7:]])
    assert rows.table.num_rows == 20
    assert [record for record, _ in rows.unreadable] == [unreadable]

    [letter] = dead_letter_rows(rows.unreadable).to_pylist()
    assert (letter["stage"], letter["origin_topic"], letter["origin_offset"]) == ("sink", unreadable.topic, 10)
    assert letter["payload_bytes"] == len(bad or b"")
    assert json.loads(letter["problems"])[0]["detail"]
    assert letter["message_id"] == dead_letter_rows(rows.unreadable).to_pylist()[0]["message_id"]


def test_a_raw_record_whose_time_kafka_refused_was_written_when_it_was_received() -> None:
    (raw,) = raw_tables(("ogmen",))
    sent = Envelope("id", "ogmen.channel", "ogmen/websocket", DEVICE, NOON, b"{}")
    refused = ConsumedRecord(raw.topic, 0, sent.key, sent.data, -1, headers=sent.headers())
    [row] = to_rows(raw, [refused]).table.to_pylist()
    assert row["received_at"] == NAIVE.replace(microsecond=NAIVE.microsecond // 1000 * 1000), "as Kafka keeps it"
    assert row["received_date"] == NAIVE.date()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_records_make_no_rows(table: Table) -> None:
    rows = to_rows(table, [])
    assert rows.table.schema == table.schema
    assert rows.table.num_rows == 0


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_column_says_what_it_is(table: Table) -> None:
    assert list(table.comments) == table.schema.names
    assert all(table.comments.values())
    assert len(table.schema) <= 32, "Delta keeps statistics of 32 columns, by which the published views know them"


def test_rows_are_sorted_as_their_texts_are() -> None:
    words = ["b", None, "a", "é", "", "a", "aa", "Z", None]
    actual = sorted_rows(pa.table({"word": words, "number": list(range(9))}), ["word", "number"]).to_pylist()
    want = sorted(zip(words, range(9), strict=True), key=lambda one: (one[0] is None, (one[0] or "").encode(), one[1]))
    assert [(row["word"], row["number"]) for row in actual] == want
