"""What WAYSCloud's API answers, read by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.wayscloud import objects
from connectors.wayscloud.objects import Datapoint
from schemas.envelope import BackfillWindow
from schemas.timestamps import format_iso

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
DEVICE = "wayscloud:s"


def encode(fields: object) -> bytes:
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("fields", "goes_on"),
    [
        ({"has_more": True}, True),
        ({"has_more": False}, False),
        ({"has_more": 1}, False),
        ({}, False),
        ({"total": 2}, False),
        ({"total": 3}, True),
        ({"total": 4, "page": 2}, False),
        ({"total": 5, "page": 2}, True),
        ({"total": 6, "page": 2, "page_size": 3}, False),
        ({"total": 7, "page": 2, "page_size": 3}, True),
        ({"page_size": 2}, True),
        ({"page_size": 1}, True),
        ({"page_size": 3}, False),
        ({"page_size": 0}, False),
        ({"page_size": True, "total": True}, False),
    ],
)
def test_a_list_may_go_on_by_any_of_its_signs(fields: dict[str, Any], goes_on: bool) -> None:
    page = objects.read_page(encode({"devices": [{"a": 1}, {"b": 2}], **fields}), "devices")
    assert (page.items, page.may_go_on) == ([{"a": 1}, {"b": 2}], goes_on)


def test_a_page_needs_its_array_and_leaves_out_what_is_no_object() -> None:
    assert objects.read_page(encode({"devices": [1, {"a": 1}, None]}), "devices").items == [{"a": 1}]
    for wrong in ({"devices": {}}, {"alarms": []}):
        with pytest.raises(ValueError, match="no array `devices`"):
            objects.read_page(encode(wrong), "devices")
    for body in (b"[]", b"{", b""):
        with pytest.raises(ValueError, match=r".+"):
            objects.read_page(body, "devices")


def test_the_record_of_a_device() -> None:
    fields = {
        "device_id": "s",
        "name": "Sensor",
        "device_type": "ESP32",
        "firmware_version": 2,
        "description": "d",
        "is_active": True,
        "tags": ["roof"],
        "metadata": {"password": "1234", "floor": 3},
        "created_at": None,
        "battery_level": 5,
    }
    record = objects.device_record(fields, {"group_id": ["g"]}, NOW)
    assert (record.device_id, record.vendor, record.updated_at) == (DEVICE, "wayscloud", NOW)
    assert (record.name, record.model, record.firmware_version) == ("Sensor", "ESP32", "2")
    attributes = dict(record.attributes)
    metadata = attributes.pop("metadata")
    assert attributes == {"description": "d", "is_active": True, "tags": ["roof"], "group_id": ["g"]}
    assert metadata["floor"] == 3 and metadata["password"] != "1234"
    bare = objects.device_record({"device_id": 7}, {}, NOW)
    assert (bare.device_id, bare.name, bare.model, bare.attributes) == ("wayscloud:7", None, None, {})


def test_only_changed_values_are_published() -> None:
    names = ("is_online", "last_seen", "connection_status", "stability_score")
    fields = dict.fromkeys((*names, "messages_24h", "battery_level", "signal_strength"), 1)
    assert objects.changed_values(fields | {"name": "n"}, {}) == fields
    assert objects.changed_values(fields | {"is_online": None}, dict.fromkeys(fields, 1)) == {}
    assert objects.changed_values(fields, fields | {"is_online": 2}) == {"is_online": 1}


def test_values_of_a_device_object_are_told_apart_by_their_time() -> None:
    made = objects.device_values({"is_online": True}, DEVICE, NOW)
    assert (made.type, made.source, made.device_id, made.received_at) == (
        "wayscloud.device",
        "wayscloud/rest",
        DEVICE,
        NOW,
    )
    assert (json.loads(made.data), made.time) == ({"is_online": True}, None)
    others = [
        objects.device_values({"is_online": False}, DEVICE, NOW),
        objects.device_values({"is_online": True}, "wayscloud:t", NOW),
        objects.device_values({"is_online": True}, DEVICE, NOW + timedelta(seconds=1)),
    ]
    assert len({made.id, *(each.id for each in others)}) == 4


def test_a_health_that_says_the_same_is_the_same() -> None:
    body = encode({"health_score": 90, "checked_at": "2026-03-30T09:00:00Z"})
    made = objects.health(body, DEVICE, NOW)
    assert (made.type, made.source, made.time) == ("wayscloud.health", "wayscloud/rest", NOW - timedelta(hours=1))
    assert objects.health(body, DEVICE, NOW + timedelta(1)).id == made.id
    assert objects.health(body, "wayscloud:t", NOW).id != made.id
    assert objects.health(encode({"checked_at": 3}), DEVICE, NOW).time is None
    assert objects.health(encode({"checked_at": "soon"}), DEVICE, NOW).time is None


def test_tags() -> None:
    assert objects.tags(encode({"tags": ["a", 1]})) == ["a", "1"]
    with pytest.raises(ValueError, match="no array `tags`"):
        objects.tags(encode({"tags": "a"}))


def test_memberships_are_by_id_or_name_and_the_shortest_interval_counts() -> None:
    groups = [
        {"id": "g1", "name": "Floor", "description": "d", "color": None, "owner": "x"},
        {"id": "g2", "name": "Roof"},
    ]
    profiles = [
        {"id": "p1", "name": "P", "reporting_interval_seconds": 60, "expected_topics": ["a/#"]},
        {"id": "p2", "name": "Q", "reporting_interval_seconds": 30},
        {"id": "p3", "name": "R", "reporting_interval_seconds": "often"},
    ]
    made = objects.memberships(
        groups, profiles, {"g1": ["s", "t"], "Floor": ["s"], "Roof": ["s"]}, {"P": ["s"], "p2": ["s"], "R": ["u"]}
    )
    assert made["s"]["group_id"] == ["g1", "g2"] and made["s"]["profile_id"] == ["p1", "p2"]
    assert made["s"]["groups"] == [{"id": "g1", "name": "Floor", "description": "d"}, {"id": "g2", "name": "Roof"}]
    assert made["s"]["reporting_interval_seconds"] == 30
    assert made["t"] == {"groups": [{"id": "g1", "name": "Floor", "description": "d"}], "group_id": ["g1"]}
    assert "reporting_interval_seconds" not in made["u"] and made["u"]["profile_id"] == ["p3"]
    assert set(made) == {"s", "t", "u"}


@pytest.mark.parametrize(
    ("filters", "uncovered"),
    [
        (["#"], []),
        (["a/#"], ["b/c", "b/d/e"]),
        (["a/+", "b/+"], ["a/#", "b/d/e"]),
        (["+/+"], ["a/#", "b/d/e"]),
        (["b/d/e"], ["a/#", "a/b", "b/c"]),
        (["a/b/c", "b/c"], ["a/#", "a/b", "b/d/e"]),
        ([], ["a/#", "a/b", "b/c", "b/d/e"]),
    ],
)
def test_topics_that_profiles_expect_and_no_filter_covers(filters: list[str], uncovered: list[str]) -> None:
    profiles = [
        {"expected_topics": ["b/c", "a/b", "a/#"]},
        {"expected_topics": ["b/d/e", "a/b"]},
        {},
        {"expected_topics": 3},
    ]
    assert objects.uncovered_topics(profiles, filters) == uncovered


def test_definitions_say_name_or_key() -> None:
    full = {"name": "t", "key": "k", "id": "1", "unit": "°C", "data_type": "number"}
    assert objects.datapoint(full) == ("t", Datapoint("1", "°C", "number"))
    assert objects.datapoint({"key": "k", "id": 7}) == ("k", Datapoint("7"))
    assert objects.datapoint({"name": 3, "key": "k"}) is objects.datapoint({}) is None


def test_an_alarms_signature_changes_with_what_happens_to_it() -> None:
    fields = {"status": "active", "severity": "major", "occurrence_count": 1, "triggered_at": "x"}
    first = objects.alarm_signature(fields)
    assert len(first) == 12
    assert objects.alarm_signature(fields | {"title": "t"}) == first
    changed = [objects.alarm_signature(fields | {name: "y"}) for name in fields]
    assert len({first, *changed}) == 5


def test_an_alarm_with_its_timeline() -> None:
    made = objects.alarm({"device_id": "s", "id": "a"}, b'[{"id": 1}]', NOW)
    assert (made.type, made.source, made.device_id, made.received_at) == (
        "wayscloud.alarm.event",
        "wayscloud/rest",
        DEVICE,
        NOW,
    )
    assert json.loads(made.data) == {"alarm": {"device_id": "s", "id": "a"}, "timeline": [{"id": 1}]}
    ids = {
        made.id,
        objects.alarm({"device_id": "s", "id": "a"}, b"[]", NOW).id,
        objects.alarm({"device_id": "t", "id": "a"}, b'[{"id": 1}]', NOW).id,
    }
    assert len(ids) == 3
    with pytest.raises(ValueError, match="alarm a names no device"):
        objects.alarm({"id": "a"}, b"[]", NOW)
    for timeline in (b"{}", b"["):
        with pytest.raises(ValueError, match=r".+"):
            objects.alarm({"device_id": "s"}, timeline, NOW)


@pytest.mark.parametrize(
    ("tls", "websockets", "port"), [(False, False, 1883), (True, False, 8883), (False, True, 443), (True, True, 443)]
)
def test_the_broker_of_the_credentials(tls: bool, websockets: bool, port: int) -> None:
    body = encode({"mqtt_broker": {"host": "h", "port": 1883, "tls_port": 8883, "websocket_port": 443}})
    assert objects.broker_of(body, tls, websockets) == ("h", port)
    assert objects.broker_of(body, False) == ("h", 1883)


@pytest.mark.parametrize(
    "broker", [None, "h", {}, {"host": "h"}, {"port": 1}, {"host": 3, "port": 1}, {"host": "h", "port": "1"}]
)
def test_no_broker_in_the_answer(broker: object) -> None:
    with pytest.raises(ValueError, match="no broker in the answer"):
        objects.broker_of(encode({"mqtt_broker": broker}), tls=False)


def test_steps_of_a_time() -> None:
    hour = timedelta(hours=1)
    assert list(objects.steps(NOW, NOW + 2.5 * hour, hour)) == [
        (NOW, NOW + hour),
        (NOW + hour, NOW + 2 * hour),
        (NOW + 2 * hour, NOW + 2.5 * hour),
    ]
    assert list(objects.steps(NOW, NOW, hour)) == []


# -- stored telemetry

WINDOW = BackfillWindow(NOW, NOW + timedelta(hours=1), 10.0)


def row(seconds: float, value: object = 1) -> dict[str, Any]:
    return {"name": "t", "value": value, "measured_at": format_iso(NOW + timedelta(seconds=seconds))}


def test_rows_of_the_window_come_with_those_around_it() -> None:
    body = encode([row(3600 + 20), row(3600 + 19), row(30), row(-20), row(-21), row(0)])
    [made] = objects.stored_telemetry(body, DEVICE, WINDOW, NOW)
    assert json.loads(made.data) == [row(-20), row(0), row(30), row(3600 + 19)]
    assert (made.type, made.source, made.attributes) == (
        "wayscloud.telemetry.log",
        "wayscloud/rest",
        WINDOW.attributes(),
    )
    assert (made.device_id, made.received_at, made.time) == (DEVICE, NOW, None)
    [same] = objects.stored_telemetry(body, DEVICE, WINDOW, NOW + timedelta(1))
    [other] = objects.stored_telemetry(body, "wayscloud:t", WINDOW, NOW)
    assert same.id == made.id != other.id


def test_without_a_row_in_the_window_there_is_no_record() -> None:
    assert objects.stored_telemetry(encode([row(-5), row(3600)]), DEVICE, WINDOW, NOW) == []
    assert objects.stored_telemetry(b"[]", DEVICE, WINDOW, NOW) == []


def test_rows_without_a_time_are_in_the_first_record_only() -> None:
    odd = [{"name": "t"}, 7, {"measured_at": "soon"}]
    [made] = objects.stored_telemetry(encode(odd), DEVICE, WINDOW, NOW)
    assert json.loads(made.data) == odd
    many = [row(second) for second in range(1_000)]
    first, second = objects.stored_telemetry(encode([*many, *odd]), DEVICE, WINDOW, NOW)
    assert [each in json.loads(first.data) for each in odd] == [True] * 3
    assert not any(each in json.loads(second.data) for each in odd)


@given(st.lists(st.integers(0, 3599), min_size=1, max_size=30), st.integers(1, 60))
def test_every_row_is_in_the_window_of_one_record(seconds: list[int], times: int) -> None:
    """Each record has about five hundred rows of its own; the windows follow on one another."""
    rows = [row(second, number) for number, second in enumerate(seconds * times)]
    made = objects.stored_telemetry(encode(rows), DEVICE, WINDOW, NOW)
    windows = [BackfillWindow.of(each.attributes) for each in made]
    assert windows[0].start == WINDOW.start and windows[-1].end == WINDOW.end
    assert all(one.end == other.start for one, other in pairwise(windows))
    own = []
    for each, window in zip(made, windows, strict=True):
        held = json.loads(each.data)
        own += [each["value"] for each in held if window.contains(datetime.fromisoformat(each["measured_at"]))]
    assert sorted(own) == list(range(len(rows)))


def test_a_record_ends_after_five_hundred_rows() -> None:
    made = objects.stored_telemetry(encode([row(second) for second in range(1_500)]), DEVICE, WINDOW, NOW)
    starts = [BackfillWindow.of(each.attributes).start for each in made]
    assert starts == [NOW, NOW + timedelta(seconds=500), NOW + timedelta(seconds=1_000)]
    together = [row(0) for _ in range(700)] + [row(1), row(2)]
    made = objects.stored_telemetry(encode(together), DEVICE, WINDOW, NOW)
    assert [BackfillWindow.of(each.attributes).start for each in made] == [NOW, NOW + timedelta(seconds=1)]
