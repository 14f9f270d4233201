"""Kärcher's states, contacts and notifications: which of their times counts, and what may be missing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.normalised import RECEIVED, events_of, normalised, problems_of, readings_of

NOTIFIED = {"category": "alarm", "code": "7", "type": "error", "title": "Stuck"}
EARLY, LATE = datetime(2026, 3, 16, 6, 0, tzinfo=UTC), datetime(2026, 3, 16, 7, 0, tzinfo=UTC)


def test_a_notification_has_the_time_it_was_recorded_else_received_else_ours() -> None:
    both = NOTIFIED | {"recordedAt": "2026-03-16T06:00:00Z", "receivedAt": "2026-03-16T07:00:00Z"}
    without = NOTIFIED | {"receivedAt": "2026-03-16T07:00:00Z"}
    for payload, expected in ((both, EARLY), (without, LATE), (NOTIFIED, RECEIVED)):
        (event,) = events_of(normalised("karcher.notification", payload))
        assert event.occurred_at == expected


def test_a_notification_is_known_by_what_identifies_it() -> None:
    def event_id(**fields: object) -> str:
        (event,) = events_of(normalised("karcher.notification", NOTIFIED | fields))
        return event.event_id

    assert event_id(note="other words") == event_id()
    others = {event_id(**{name: "another"}) for name in ("category", "code", "type")}
    others.add(event_id(recordedAt="2026-03-16T06:00:00Z"))
    assert len(others) == 4 and event_id() not in others


@pytest.mark.parametrize(
    ("name", "metric"),
    [("lastConnected", "connection.last_connected"), ("lastContact", "connection.last_contact")],
)
def test_a_contact_alone_is_a_whole_status_and_was_observed_when_it_says(name: str, metric: str) -> None:
    result = normalised("karcher.status", {name: "2026-03-16T06:00:00Z"})
    assert problems_of(result) == []
    reading = readings_of(result)[metric]
    assert reading.observed_at == EARLY
    assert reading.value_text is not None and reading.value_text.startswith("2026-03-16T06:00:00")


@pytest.mark.parametrize(
    ("report", "wrong"),
    [
        ({"reportId": "r", "finishedAt": "soon"}, "finishedAt"),
        ({"reportId": "r", "startedAt": "soon"}, "startedAt"),
        ({"reportId": "r", "startedAt": "2026-03-16T06:00:00Z", "finishedAt": "soon"}, "finishedAt"),
    ],
)
def test_a_bad_time_of_a_report_is_named_by_its_place_whichever_way_it_came(report: object, wrong: str) -> None:
    assert problems_of(normalised("karcher.cleaning.report", report)) == [(wrong, "bad_time")]
    socket = {"type": "datapoints", "data": {"cleaningReport": report}, "timestamp": 1773645667000}
    assert problems_of(normalised("karcher.datapoints", socket)) == [(f"data.cleaningReport.{wrong}", "bad_time")]


def test_a_status_without_states_and_contacts_is_no_status() -> None:
    assert problems_of(normalised("karcher.status", {"machineId": "m"})) == [("", "missing")]
    assert problems_of(normalised("karcher.status", {"lastContact": "soon", "states": []}))[0][0] == "lastContact"
    assert problems_of(normalised("karcher.status", {"states": {}})) == [("", "wrong_type")]


def test_each_state_has_its_own_time_and_one_without_a_name_costs_only_itself() -> None:
    states = [
        {"name": "batteryLevel", "value": 80, "timestamp": "2026-03-16T06:00:00Z"},
        {"value": 1, "timestamp": "2026-03-16T06:00:00Z"},
        {"name": "robotStatus", "value": "Idle", "timestamp": "2026-03-16T07:00:00Z"},
    ]
    result = normalised("karcher.status", {"states": states})
    assert problems_of(result) == [("states[1]", "missing")]
    assert {reading.observed_at for reading in readings_of(result).values()} == {EARLY, LATE}
