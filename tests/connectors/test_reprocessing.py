"""Refused messages, read again with what the registry knows by now."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from connectors.climasense.reprocessing import ClimasenseReprocessor
from connectors.common.reprocessing import Devices, RefusedMessage, Reprocessing
from connectors.karcher import protocol
from connectors.karcher.reprocessing import KarcherReprocessor

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
ROBOT = "karcher:1.533-002.0/000001"
THERMOMETER = "climasense:kitchen"


def refused(message_type: str, fields: object, device: str | None = None) -> RefusedMessage:
    return RefusedMessage(message_type, json.dumps(fields).encode(), device, NOW)


@pytest.mark.parametrize(
    ("message_type", "fields"),
    [
        (protocol.STATUS, {"machineId": "kira", "lastContact": "2026-11-28T11:00:00Z"}),
        (protocol.NOTIFICATION, {"machineId": "kira", "code": "1", "recordedAt": "2026-11-28T11:00:00Z"}),
        (protocol.REPORT, {"machineId": "kira", "reportId": "r"}),
    ],
)
def test_a_machine_that_the_registry_knows_by_now_gets_its_messages(message_type: str, fields: object) -> None:
    unknown: list[Devices] = [{}, {ROBOT: {}}, {ROBOT: {"machineId": "other"}}]
    for devices in unknown:
        message = KarcherReprocessor(devices)(refused(message_type, fields))
        assert message is not None and not message.envelopes
        assert [letter.problems[0].reason for letter in message.dead_letters] == ["unknown_machine"]
    message = KarcherReprocessor({ROBOT: {"machineId": "kira"}})(refused(message_type, fields))
    assert message is not None and not message.dead_letters
    [envelope] = message.envelopes
    assert (envelope.type, envelope.device_id, envelope.received_at) == (message_type, ROBOT, NOW)


def test_messages_of_a_connection_are_those_of_the_device_that_it_was_for() -> None:
    read = KarcherReprocessor({})
    # The second has no time: its identity is that of a first message of a connection, however often it is read.
    for datapoints in ({"timestamp": 1795262400000, "data": {"docked": True}}, {"data": {"docked": True}}):
        message = read(refused(protocol.DATAPOINTS, datapoints, ROBOT))
        assert message is not None
        first = protocol.socket_message(json.dumps(datapoints).encode(), ROBOT, NOW, 0)
        assert message.envelopes == first.envelopes != []
    history = {"executionId": "e", "createdAt": "2026-11-28T11:00:00Z"}
    message = read(refused(protocol.COMMAND, history, ROBOT))
    assert message is not None
    assert message.envelopes == protocol.execution(json.dumps(history).encode(), ROBOT, NOW).message.envelopes != []


@pytest.mark.parametrize("message_type", [protocol.DATAPOINTS, protocol.COMMAND, "karcher.other"])
def test_what_takes_more_than_the_payload_is_not_read(message_type: str) -> None:
    assert KarcherReprocessor({ROBOT: {"machineId": "kira"}})(refused(message_type, {"executionId": "e"})) is None


def test_a_message_of_a_device_but_of_no_kind_that_can_be_read_is_left() -> None:
    assert KarcherReprocessor({})(refused("karcher.other", {"executionId": "e"}, ROBOT)) is None


def test_telemetry_of_climasense_is_read_again_or_refused_again() -> None:
    read = ClimasenseReprocessor({})
    good = {"readings": [{"sensor_type": "temperature", "value": 20, "timestamp": "2026-11-28T11:00:00Z"}]}
    message = read(refused("climasense.telemetry", good, THERMOMETER))
    assert message is not None and not message.dead_letters
    assert [(each.type, each.device_id) for each in message.envelopes] == [("climasense.telemetry", THERMOMETER)]
    assert read(refused("climasense.telemetry", good)) is None
    assert read(refused("climasense.settings", good, THERMOMETER)) is None

    wrong = refused("climasense.telemetry", {"readings": []}, THERMOMETER)
    message = read(wrong)
    assert message is not None and not message.envelopes
    [letter] = message.dead_letters
    [problem] = letter.problems
    assert (problem.path, problem.reason) == ("readings", "out_of_range")
    assert problem.detail == "readings: must hold 1 to 100 readings, not 0"
    assert (letter.vendor, letter.message_type, letter.device_id) == ("climasense", "climasense.telemetry", THERMOMETER)
    assert letter.received_at == NOW


def test_each_vendor_reads_its_own_messages_with_its_own_devices() -> None:
    read = Reprocessing({"karcher": {ROBOT: {"machineId": "kira"}}})
    status = refused(protocol.STATUS, {"machineId": "kira"})
    for _ in range(2):  # the reprocessor is kept
        message = read(status)
        assert message is not None
        assert [envelope.device_id for envelope in message.envelopes] == [ROBOT]
    posted = read(refused("climasense.telemetry", {"readings": [{"sensor_type": "a", "value": 1}]}, THERMOMETER))
    assert posted is not None and posted.envelopes
    assert read(refused("wayscloud.mqtt", {})) is None, "registers no reprocessor"
    assert read(refused("nobody.status", {})) is None
