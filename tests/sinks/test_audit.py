"""The audit's pure parts: what a record should be in its table, runs of offsets, stored offsets."""

from __future__ import annotations

import pytest

from schemas import wire
from sinks.delta.audit import (
    ExpectedRows,
    OffsetRun,
    PartitionAudit,
    Problem,
    expected_rows,
    identity_of,
    offset_problems,
    offset_runs,
)
from sinks.delta.tables import ALARM_EVENTS_TABLE, DEAD_LETTERS_TABLE, DEVICES_TABLE, EVENTS_TABLE, READINGS_TABLE
from tests.support.records import record_of
from tests.support.samples import alarm_event, dead_letter, event_set, observation


def test_neighbouring_offsets_are_one_run_across_a_transaction_marker() -> None:
    assert list(offset_runs([(0, 5, 2), (0, 6, 1), (0, 8, 2), (0, 11, 1), (1, 12, 3)])) == [
        OffsetRun(0, 5, 8, 3, 5),
        OffsetRun(0, 11, 11, 1, 1),
        OffsetRun(1, 12, 12, 1, 3),
    ]


def test_no_offsets_make_no_runs() -> None:
    assert list(offset_runs([])) == []


def audit(stored: int | None) -> PartitionAudit:
    return PartitionAudit("readings", "t", 3, begin=10, end=20, stored=stored)


@pytest.mark.parametrize("stored", [None, 10, 15, 20])
def test_a_stored_offset_within_the_log_is_no_problem(stored: int | None) -> None:
    assert offset_problems(audit(stored)) == []


def test_a_stored_offset_past_the_end_is_a_problem() -> None:
    detail = "offset 22 is stored as the next, and the log ends at 20"
    assert offset_problems(audit(22)) == [Problem("offset", "readings", detail, "t", 3, 20, 21, 2)]


def test_records_deleted_before_they_were_written_are_a_problem() -> None:
    detail = "Kafka deleted records before they were written"
    assert offset_problems(audit(7)) == [Problem("expired", "readings", detail, "t", 3, 7, 9, 3)]


def test_each_kind_of_record_has_its_identity_and_rows() -> None:
    raw = "telemetry.raw.karcher.v1/0"
    assert expected_rows(READINGS_TABLE, record_of(wire.encode(observation(7)))).identity == f"{raw}/7"
    assert expected_rows(READINGS_TABLE, record_of(wire.encode(observation(7)))).rows == 2
    assert expected_rows(EVENTS_TABLE, record_of(wire.encode(event_set(3)))) == ExpectedRows(0, 0, f"{raw}/3", 1)
    alarm = alarm_event(2, "active", "triggered")
    assert expected_rows(ALARM_EVENTS_TABLE, record_of(wire.encode(alarm))).identity == alarm.event_id
    assert expected_rows(DEVICES_TABLE, record_of(None, 4, "devices")) == ExpectedRows(0, 4, "devices/0/4", 1)
    letters = [
        expected_rows(DEAD_LETTERS_TABLE, record_of(wire.encode(dead_letter(1, origin)))) for origin in (True, False)
    ]
    assert [one.identity for one in letters] == [f"d1|normalise|{raw}/1", "d1|normalise"]
    assert [one.rows for one in letters] == [1, 1]


@pytest.mark.parametrize("value", [b"not json", b"\xff\xfe", b'{"origin": 5}', b""])
def test_a_record_that_cannot_be_read_has_no_identity(value: bytes) -> None:
    assert expected_rows(READINGS_TABLE, record_of(value, 9)) == ExpectedRows(0, 9, None, 0)


def test_alarm_events_are_identified_without_their_origin() -> None:
    assert identity_of(ALARM_EVENTS_TABLE).columns == ("event_id",)
    origin = ("origin_topic", "origin_partition", "origin_offset")
    assert identity_of(READINGS_TABLE).columns == identity_of(DEVICES_TABLE).columns == origin
    assert identity_of(DEAD_LETTERS_TABLE).columns == ("message_id", "stage", *origin)


def test_a_problem_is_one_unless_it_says_otherwise() -> None:
    assert Problem("file", "readings", "it is missing").count == 1
