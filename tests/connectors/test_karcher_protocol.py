"""Kärcher's answers and messages in, envelopes out: identities, times, what is missing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.karcher import protocol
from connectors.karcher.protocol import AnswerError, Execution

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
ROBOT = "karcher:1.533-002.0/000001"
DEVICES = {"kira": ROBOT}


def encode(fields: object) -> bytes:
    return json.dumps(fields).encode()


# -- pages and machines


@pytest.mark.parametrize(
    ("answer", "items", "cursor"),
    [
        ([{"a": 1}, 2], [b'{"a": 1}', b"2"], None),
        ({"data": [1], "pageInfo": {"hasNextPage": True, "endCursor": "c"}}, [b"1"], "c"),
        ({"data": [1], "pageInfo": {"hasNextPage": False, "endCursor": "c"}}, [b"1"], None),
        ({"data": [1], "pageInfo": {"endCursor": "c"}}, [b"1"], None),
        ({"data": None}, [], None),
        ({}, [], None),
    ],
)
def test_pages_of_either_shape(answer: object, items: list[bytes], cursor: str | None) -> None:
    page = protocol.read_page(b" " + encode(answer))
    assert (page.items, page.next_cursor, page.errors) == (items, cursor, [])


def test_a_page_names_the_machines_that_failed() -> None:
    errors = [{"machineId": "kira", "message": "offline"}, {}]
    assert protocol.read_page(encode({"errors": errors})).errors == [("kira", "offline"), ("", "")]


@pytest.mark.parametrize("body", [b"", b"7", b'{"data": 7}', b"[", b"\xff"])
def test_other_answers_are_refused(body: bytes) -> None:
    with pytest.raises(AnswerError):
        protocol.read_page(body)


def test_a_machine_of_the_registry() -> None:
    generic = {
        "serial": "x;y",
        "materialNumber": "1.533-002.0",
        "serialNumber": "000001",
        "model": "KIRA",
        "resourceOwnerAssetId": "hall 3",
        "manufacturer": "Kaercher",
        "empty": None,
    }
    machine = protocol.read_machine(encode({"machineId": "kira", "generic": generic}), NOW)
    assert (machine.machine_id, machine.material_number, machine.serial_number) == ("kira", "1.533-002.0", "000001")
    assert machine.device_id == ROBOT
    device = machine.device
    assert (device.vendor, device.updated_at, device.registered) == ("karcher", NOW, True)
    assert (device.name, device.model, device.serial_number) == ("hall 3", "KIRA", "000001")
    assert device.attributes == {
        "serial": "x;y",
        "materialNumber": "1.533-002.0",
        "manufacturer": "Kaercher",
        "machineId": "kira",
    }


def test_serial_stands_for_numbers_that_are_missing() -> None:
    machine = protocol.read_machine(encode({"machineId": "m", "generic": {"serial": "1.2;3"}}), NOW)
    assert (machine.material_number, machine.serial_number, machine.device.name) == ("1.2", "3", None)
    wrong: list[Any] = [
        {"machineId": "m", "generic": {"serial": "1.2"}},
        {"machineId": "m", "generic": {"serial": ";3"}},
        {"machineId": "m", "generic": {"serial": "3", "materialNumber": "1.2"}},
        {"generic": {"serial": "1.2;3"}},
        {"machineId": "m", "generic": []},
        [],
    ]
    for fields in wrong:
        with pytest.raises(AnswerError):
            protocol.read_machine(encode(fields), NOW)


def test_requests_are_of_ten_machines_at_most() -> None:
    ids = [str(number) for number in range(21)]
    assert [len(chunk) for chunk in protocol.chunks(ids)] == [10, 10, 1]
    assert [each for chunk in protocol.chunks(ids) for each in chunk] == ids
    assert list(protocol.chunks([])) == []


# -- elements of lists


def test_a_status_is_the_same_as_long_as_it_says_the_same() -> None:
    item = encode({"machineId": "kira", "lastContact": "2026-03-30T09:00:00Z"})
    [first] = protocol.status(item, DEVICES, NOW).envelopes
    assert (first.type, first.source, first.device_id) == ("karcher.status", "karcher/rest", ROBOT)
    assert (first.time, first.received_at, first.data) == (NOW - timedelta(hours=1), NOW, item)
    [later] = protocol.status(item, DEVICES, NOW + timedelta(minutes=1)).envelopes
    assert later.id == first.id
    [changed] = protocol.status(encode({"machineId": "kira"}), DEVICES, NOW).envelopes
    assert changed.id != first.id and changed.time is None
    [other] = protocol.status(item, {"kira": "karcher:other"}, NOW).envelopes
    assert other.id != first.id


def test_a_notification_is_known_by_what_it_says_and_its_version_by_status_and_severity() -> None:
    fields = {
        "machineId": "kira",
        "category": "c",
        "code": "1",
        "type": "Reminder",
        "recordedAt": "2026-03-30T09:00:00Z",
        "status": "OPEN",
        "severity": "Major",
    }
    [first] = protocol.notification(encode(fields), DEVICES, NOW).envelopes
    assert (first.type, first.source, first.time) == ("karcher.notification", "karcher/rest", NOW - timedelta(hours=1))
    ids = {first.id}
    for name in fields.keys() - {"machineId"}:
        [changed] = protocol.notification(encode(fields | {name: "x"}), DEVICES, NOW).envelopes
        ids.add(changed.id)
    assert len(ids) == len(fields)
    [same] = protocol.notification(encode(fields | {"receivedAt": "later"}), DEVICES, NOW + timedelta(1)).envelopes
    assert same.id == first.id
    assert protocol.received_time(encode({"receivedAt": "2026-03-30T10:00:00Z"})) == NOW
    assert protocol.received_time(b"[]") is None


@pytest.mark.parametrize(
    ("item", "path", "reason"),
    [
        (b'{"machineId": "other"}', "machineId", "unknown_machine"),
        (b'{"machineId": 3}', "machineId", "missing"),
        (b"{}", "machineId", "missing"),
        (b"[]", "machineId", "missing"),
        (b"{", "", "not_json"),
    ],
)
def test_an_element_of_no_known_machine_is_a_dead_letter(item: bytes, path: str, reason: str) -> None:
    for read, kind in ((protocol.status, "status"), (protocol.notification, "notification")):
        message = read(item, DEVICES, NOW)
        [letter] = message.dead_letters
        assert not message.envelopes
        assert [(each.path, each.reason) for each in letter.problems] == [(path, reason)]
        assert (letter.vendor, letter.message_type, letter.received_at) == ("karcher", f"karcher.{kind}", NOW)
        assert letter.device_id is None


def test_the_dead_letter_of_an_unknown_machine_can_be_read_again() -> None:
    item = encode({"machineId": "other", "long": "a b " * 5_000})
    [letter] = protocol.status(item, DEVICES, NOW).dead_letters
    assert letter.payload == item.decode()


def test_the_registry_decides_whose_a_report_is_and_the_report_where_it_does_not_know() -> None:
    report = {"machineId": "kira", "materialNumber": "9.9", "serialNumber": "7", "reportId": "r"}
    [known] = protocol.cleaning_report(encode(report), DEVICES, NOW).envelopes
    [unknown] = protocol.cleaning_report(encode(report), {}, NOW).envelopes
    assert (known.device_id, unknown.device_id) == (ROBOT, "karcher:9.9/7")
    for missing in ("materialNumber", "serialNumber"):
        message = protocol.cleaning_report(encode(report | {missing: ""}), {}, NOW)
        assert not message.envelopes and len(message.dead_letters) == 1
    assert protocol.cleaning_report(b"[]", {}, NOW).dead_letters


def test_a_report_that_changed_is_a_new_version_and_its_order_of_fields_is_none() -> None:
    report = {"machineId": "kira", "reportId": "r", "battery": 1, "finishedAt": "2026-03-30T09:00:00Z"}
    [first] = protocol.cleaning_report(encode(report), DEVICES, NOW).envelopes
    assert (first.type, first.source, first.time) == (
        "karcher.cleaning.report",
        "karcher/rest",
        NOW - timedelta(hours=1),
    )
    turned = dict(reversed(report.items()))
    named = report | {"materialNumber": "1.533-002.0", "serialNumber": "000001"}
    for same in (turned, named):
        [again] = protocol.cleaning_report(encode(same), DEVICES, NOW).envelopes
        assert again.id == first.id
    for change in ({"battery": 2}, {"reportId": "s"}):
        [changed] = protocol.cleaning_report(encode(report | change), DEVICES, NOW).envelopes
        assert changed.id != first.id


# -- commands


def test_an_execution_of_the_history() -> None:
    item = encode({"executionId": "e", "createdAt": "2026-03-30T10:00:00Z"})
    assert protocol.read_execution(item) == Execution("e", NOW, item)
    assert protocol.read_execution(b'{"executionId": "e"}') == Execution("e", None, b'{"executionId": "e"}')
    for wrong in (b"{}", b'{"executionId": ""}', b'{"executionId": 3}', b"[]"):
        with pytest.raises(AnswerError):
            protocol.read_execution(wrong)


def details(*statuses: str, **fields: object) -> dict[str, Any]:
    events = [{"status": each, "updatedAt": f"2026-03-30T09:0{n}:00Z"} for n, each in enumerate(statuses)]
    return {"executionId": "e", "executionEvents": events, **fields}


def test_each_event_of_an_execution_is_an_envelope_oldest_first() -> None:
    read = protocol.execution(encode(details("SUCCEEDED", "STARTED", note="n")), ROBOT, NOW)
    assert read.finished is True
    statuses = [json.loads(each.data)["executionEvents"] for each in read.message.envelopes]
    assert [[event["status"] for event in events] for events in statuses] == [["STARTED"], ["SUCCEEDED"]]
    assert [each.time for each in read.message.envelopes] == [
        NOW - timedelta(minutes=59),
        NOW - timedelta(minutes=60),
    ]
    for each in read.message.envelopes:
        assert (each.type, each.source, each.device_id) == ("karcher.command", "karcher/rest", ROBOT)
        assert json.loads(each.data)["note"] == "n"
    wrapped = protocol.execution(encode({"data": details("SUCCEEDED", "STARTED", note="n")}), ROBOT, NOW)
    assert [each.id for each in wrapped.message.envelopes] == [each.id for each in read.message.envelopes]


@pytest.mark.parametrize(
    ("status", "finished"),
    [
        *(("SUCCEEDED", True), ("failed", True), ("CANCELLED", True), ("CANCELED", True), ("REJECTED", True)),
        *(("TIMED_OUT", True), ("TIMEOUT", True), ("EXPIRED", True), ("REMOVED", True), ("DELETED", True)),
        *(("STARTED", False), ("", False)),
    ],
)
def test_final_statuses_end_an_execution(status: str, finished: bool) -> None:
    assert protocol.execution(encode(details("STARTED", status)), ROBOT, NOW).finished is finished


def test_cancelled_has_two_spellings_and_one_id() -> None:
    one, other = (
        protocol.execution(encode(details(word)), ROBOT, NOW).message.envelopes[0].id
        for word in ("CANCELED", "cancelled")
    )
    assert one == other
    started = protocol.execution(encode(details("STARTED")), ROBOT, NOW).message.envelopes[0].id
    assert started != one


def test_an_execution_without_events_is_one_envelope_of_its_creation() -> None:
    fields = {"executionId": "e", "createdAt": "2026-03-30T09:00:00Z"}
    read = protocol.execution(encode(fields), ROBOT, NOW)
    [envelope] = read.message.envelopes
    assert (read.finished, envelope.time) == (False, NOW - timedelta(hours=1))
    assert json.loads(envelope.data) == {**fields, "executionEvents": []}
    odd = protocol.execution(encode({"executionId": "e", "executionEvents": ["odd", "other"]}), ROBOT, NOW)
    assert len({each.id for each in odd.message.envelopes}) == 2


def test_details_without_an_id_are_a_dead_letter() -> None:
    for data, path, reason in (
        (b"{}", "executionId", "missing"),
        (b'{"data": {}}', "executionId", "missing"),
        (b"{", "", "not_json"),
    ):
        read = protocol.execution(data, ROBOT, NOW)
        [letter] = read.message.dead_letters
        assert (read.finished, letter.problems[0].path, letter.problems[0].reason) == (False, path, reason)
        assert (letter.device_id, letter.message_type) == (ROBOT, "karcher.command")
    inner = {"executionId": "outer", "data": {"other": 1}}
    assert len(protocol.execution(encode(inner), ROBOT, NOW).message.envelopes) == 1
    text = {"executionId": "outer", "data": "executionId"}
    assert len(protocol.execution(encode(text), ROBOT, NOW).message.envelopes) == 1


# -- sockets


@pytest.mark.parametrize("stamp", [1774864800000, "1774864800000", 1774864800000.0])
def test_a_message_with_a_time_is_the_same_whenever_it_comes(stamp: object) -> None:
    data = encode({"data": {"docked": True}, "timestamp": stamp})
    [first] = protocol.socket_message(data, ROBOT, NOW, 0).envelopes
    [again] = protocol.socket_message(data, ROBOT, NOW + timedelta(1), 7).envelopes
    assert first.id == again.id and first.time == NOW
    assert (first.type, first.source, first.data) == ("karcher.datapoints", "karcher/websocket", data)
    [other] = protocol.socket_message(data, "karcher:other", NOW, 0).envelopes
    assert other.id != first.id


@pytest.mark.parametrize("stamp", [True, None, "soon", [], 1e300])
def test_messages_without_a_time_are_told_apart_by_receipt_and_number(stamp: object) -> None:
    data = encode({"data": {}, "timestamp": stamp})
    ids = {
        protocol.socket_message(data, ROBOT, at, number).envelopes[0].id
        for at in (NOW, NOW + timedelta(microseconds=1))
        for number in (1, 2)
    }
    assert len(ids) == 4
    assert protocol.socket_message(data, ROBOT, NOW, 1).envelopes[0].time is None


def test_a_report_in_a_message_goes_by_itself() -> None:
    report = {"reportId": "r", "battery": 1}
    both = encode({"data": {"cleaningReport": report, "docked": True}, "timestamp": 1774864800000})
    first, rest = protocol.socket_message(both, ROBOT, NOW, 0).envelopes
    assert (first.type, first.source, json.loads(first.data)) == (
        "karcher.cleaning.report",
        "karcher/websocket",
        report,
    )
    assert json.loads(rest.data) == {"data": {"docked": True}, "timestamp": 1774864800000}
    [alone] = protocol.socket_message(encode({"data": {"cleaningReport": report}}), ROBOT, NOW, 0).envelopes
    assert alone.id == first.id


@pytest.mark.parametrize(
    "fields",
    [
        {"data": {"cleaningReport": {"battery": 1}}},
        {"data": {"cleaningReport": [1]}},
        {"data": ["cleaningReport"], "x": {"cleaningReport": 1}},
        {"cleaningReport": {"reportId": "r"}},
    ],
)
def test_what_only_looks_like_a_report_stays_in_its_message(fields: object) -> None:
    [envelope] = protocol.socket_message(encode(fields), ROBOT, NOW, 0).envelopes
    assert (envelope.type, envelope.data) == ("karcher.datapoints", encode(fields))


@pytest.mark.parametrize(
    "number", [{"name": "doorCode", "value": "SECRET471"}, [{"pin": "SECRET471"}], True, None, 1.5]
)
def test_what_is_no_number_of_a_machine_names_none(number: object) -> None:
    """It may hold anything: as a part of the device's id it would be shown."""
    report = {"reportId": "r", "machineId": "unknown", "materialNumber": "1.454-500.0", "serialNumber": number}
    read = protocol.cleaning_report(json.dumps(report).encode(), {}, NOW)
    assert read.envelopes == [] and "SECRET471" not in read.dead_letters[0].payload
    for generic in ({"materialNumber": "1", "serialNumber": number}, {"serial": number}):
        with pytest.raises(protocol.AnswerError):
            protocol.read_machine(json.dumps({"machineId": "m", "generic": generic}).encode(), NOW)
    with pytest.raises(protocol.AnswerError):
        protocol.read_machine(json.dumps({"machineId": number, "generic": {"serial": "1;2"}}).encode(), NOW)
