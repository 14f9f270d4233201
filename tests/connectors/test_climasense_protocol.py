"""ClimaSense's bodies in, envelopes out: bounds, identities, refusals."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from connectors.climasense.protocol import (
    COMMAND_RESULT,
    OTA_STATUS,
    SENSOR_PAIRED,
    TELEMETRY,
    Identity,
    InvalidRequest,
    Pairing,
    command_result,
    device_record,
    is_good,
    ota_status,
    parse,
    read_keys,
    redacted,
    sensor_id_of,
    sensor_paired,
    telemetry,
    version_key,
)
from connectors.climasense.store.records import DeviceState, Update
from runtime.api_keys import hash_key
from schemas.climasense import SensorPaired, SettingsUpdate

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
DEVICE = "climasense:d"
GOOD = {"sensor_type": "temperature", "value": 20.5, "timestamp": "2026-03-30T09:00:00Z"}


def body(readings: object = (GOOD,), **fields: object) -> bytes:
    return json.dumps({"readings": readings, **fields}).encode()


def refusal(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        telemetry(data, DEVICE, NOW, 1)
    return caught.value


def test_telemetry_goes_on_as_it_is_with_the_latest_of_its_times() -> None:
    earlier = GOOD | {"timestamp": "2026-03-30T08:00:00Z"}
    data = body([earlier, GOOD, {"sensor_type": "humidity", "value": 1}], firmware="1.2")
    taken = telemetry(data, DEVICE, NOW, 1)
    assert taken.accepted == 3
    envelope = taken.envelope
    assert (envelope.type, envelope.source, envelope.device_id) == (TELEMETRY, "climasense/http", DEVICE)
    assert (envelope.received_at, envelope.time) == (NOW, datetime(2026, 3, 30, 9, tzinfo=UTC))
    assert json.loads(envelope.data) == json.loads(data)


def test_a_body_with_times_is_the_same_message_when_posted_again() -> None:
    ids = [
        telemetry(body(), DEVICE, NOW, 1).envelope.id,
        telemetry(body(), DEVICE, NOW + timedelta(seconds=1), 2).envelope.id,
    ]
    assert ids[0] == ids[1]
    assert telemetry(body(), "climasense:e", NOW, 1).envelope.id != ids[0]
    untimed = body([{"sensor_type": "temperature", "value": 20}])
    keyed = [telemetry(untimed, DEVICE, NOW + timedelta(hours=n), n, key) for n, key in ((1, "k"), (2, "k"), (3, "l"))]
    assert keyed[0].envelope.id == keyed[1].envelope.id != keyed[2].envelope.id, "the same request, posted again"
    assert [each.content for each in keyed] == ["", "", ""] and telemetry(body(), DEVICE, NOW, 1).content == ""
    assert telemetry(body(), DEVICE, NOW, 1, "k").envelope.id == ids[0], "with a time the content says it"
    assert telemetry(untimed, DEVICE, NOW, 1).content == telemetry(untimed, DEVICE, NOW, 2).content != ""
    assert telemetry(untimed, DEVICE, NOW, 1).envelope.time is None
    different = {
        telemetry(untimed, DEVICE, at, number).envelope.id
        for at in (NOW, NOW + timedelta(microseconds=1))
        for number in (1, 2)
    }
    assert len(different) == 4


@pytest.mark.parametrize(("name", "bound"), [("latitude", 90), ("longitude", 180)])
def test_positions_are_within_the_globe(name: str, bound: int) -> None:
    for inside in (bound, -bound, 0, None, bound - 0.001):
        assert telemetry(body(**{name: inside}), DEVICE, NOW, 1).accepted == 1
    for outside in (bound + 1, -bound - 1, bound + 0.001):
        wrong = refusal(body(**{name: outside}))
        assert (wrong.path, wrong.reason, wrong.status, wrong.code) == (name, "out_of_range", 400, "invalid_request")
        assert str(wrong) == f"{name}: must be between -{bound} and {bound}"
    for text in ("5", True, [], {}):
        wrong = refusal(body(**{name: text}))
        assert (wrong.path, wrong.reason, str(wrong)) == (name, "wrong_type", f"{name}: must be a number")


@pytest.mark.parametrize(
    ("data", "path", "reason", "detail"),
    [
        (b"[]", "", "wrong_type", "the body must be an object"),
        (b"{}", "readings", "missing", "readings: is required"),
        (b'{"readings": {}}', "readings", "wrong_type", "readings: must be an array"),
        (body([]), "readings", "out_of_range", "readings: must hold 1 to 100 readings, not 0"),
        (body([GOOD] * 101), "readings", "out_of_range", "readings: must hold 1 to 100 readings, not 101"),
        (b"{", "", "not_json", "the body is not JSON in UTF-8"),
        (b"\xff", "", "not_utf8", "the body is not JSON in UTF-8"),
    ],
)
def test_bodies_that_cannot_be_taken_say_why(data: bytes, path: str, reason: str, detail: str) -> None:
    wrong = refusal(data)
    assert (wrong.path, wrong.reason) == (path, reason)
    assert str(wrong).startswith(detail)
    assert redacted(data) is None if reason.startswith("not_") else redacted(data) is not None


def test_one_to_a_hundred_readings_are_taken() -> None:
    assert telemetry(body([GOOD] * 100), DEVICE, NOW, 1).accepted == 100
    assert telemetry(body([GOOD]), DEVICE, NOW, 1).accepted == 1


@pytest.mark.parametrize(
    ("reading", "good"),
    [
        (GOOD, True),
        ({"sensor_type": "temperature", "value": 0}, True),
        ({"sensor_type": "temperature", "value": "1" * 300}, True),
        ({"sensor_type": "temperature", "value": "0" * 400}, True),
        ({"sensor_type": "temperature", "value": "0" * 401}, False),
        ({"sensor_type": "temperature", "value": True}, False),
        ({"sensor_type": "temperature", "value": None}, False),
        ({"sensor_type": "temperature", "value": [1]}, False),
        ({"sensor_type": "temperature", "value": 10**400}, False),
        ({"sensor_type": " ", "value": 1}, False),
        ({"sensor_type": 3, "value": 1}, False),
        (GOOD | {"timestamp": "soon"}, False),
        ({"sensor_type": "power_availability", "value": 1}, True),
        ({"sensor_type": "power_availability", "value": 1.0}, True),
        ({"sensor_type": "power_availability", "value": True}, True),
        ({"sensor_type": "power_availability", "value": " FALSE "}, True),
        ({"sensor_type": "power_availability", "value": "2"}, False),
        ({"sensor_type": "power_availability", "value": 2}, False),
        ({"sensor_type": "power_availability", "value": [1]}, False),
        ({"sensor_type": "x" * 200, "value": "any"}, True),
        ({"sensor_type": "x" * 201, "value": "any"}, False),
        ({"sensor_type": "radon", "value": {"a": 1}}, True),
        ({"sensor_type": "radon", "value": 10**400}, False),
        ("text", False),
    ],
)
def test_which_readings_are_accepted(reading: Any, good: bool) -> None:
    assert is_good(reading) is good


def test_a_key_is_recognised_by_its_digest() -> None:
    identity = Identity(hash_key("secret"), "d", "sensor")
    assert identity.has("secret") is True
    assert identity.has("Secret") is False
    assert identity.device_id == DEVICE


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "must map device ids to digests"),
        ({"": "a" * 64}, "needs a name"),
        ({"d": "a" * 63}, "device 'd': not a SHA-256"),
        ({"d": {"sha256": 3}}, "device 'd': not a SHA-256"),
        ({"d": {"sha256": "a" * 64, "zz": 1, "colour": 1}}, "device 'd': unknown member 'colour'"),
        ({"d": {"sha256": "a" * 64, "role": "king"}}, "role must be device, hub or sensor"),
        ({"d": {"sha256": "a" * 64, "batch": 1}}, "batch and serial_number must be texts"),
        ({"d": {"sha256": "a" * 64, "serial_number": 1}}, "batch and serial_number must be texts"),
        ({"d": "a" * 64, "e": "A" * 64}, "device 'e': another device has the same key"),
    ],
)
def test_what_is_wrong_in_a_file_of_keys(content: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_keys(json.dumps(content), toml=False)


def test_the_first_wrong_field_of_a_body_is_named() -> None:
    assert parse(b'{"reporting_interval_seconds": 60}', SettingsUpdate).reporting_interval_seconds == 60
    cases = {
        b'{"reporting_interval_seconds": 0}': ("reporting_interval_seconds", "out_of_range"),
        b'{"location": {"latitude": 91, "longitude": 0}}': ("location.latitude", "out_of_range"),
        b'{"location": {"latitude": 1, "longitude": 181}}': ("location.longitude", "out_of_range"),
        b'{"reporting_interval_seconds": "often"}': ("reporting_interval_seconds", "wrong_type"),
        b"[": ("", "not_json"),
    }
    for data, expected in cases.items():
        with pytest.raises(InvalidRequest) as caught:
            parse(data, SettingsUpdate)
        assert (caught.value.path, caught.value.reason) == expected


def test_reports_are_the_same_message_when_they_say_the_same_of_the_same() -> None:
    data = b'{"status":"completed"}'
    result = command_result(data, DEVICE, "c1", "reboot", NOW)
    assert (result.type, result.source, result.device_id) == (COMMAND_RESULT, "climasense/http", DEVICE)
    assert (result.received_at, result.data, result.attributes) == (NOW, data, {"commandtype": "reboot"})
    assert command_result(data, DEVICE, "c1", "reboot", NOW + timedelta(days=1)).id == result.id
    others = [
        command_result(b'{"status":"failed"}', DEVICE, "c1", "reboot", NOW),
        command_result(data, DEVICE, "c2", "reboot", NOW),
        command_result(data, "climasense:e", "c1", "reboot", NOW),
        ota_status(data, DEVICE, 1, NOW),
        ota_status(data, DEVICE, 2, NOW),
        ota_status(data, "climasense:e", 1, NOW),
        ota_status(b"{}", DEVICE, 1, NOW),
    ]
    assert len({result.id, *(each.id for each in others)}) == 8
    update = others[3]
    assert (update.type, update.source, update.received_at) == (OTA_STATUS, "climasense/http", NOW)
    assert (update.data, update.attributes, update.device_id) == (data, {"attempt": "1"}, DEVICE)


def test_a_pairing_names_the_sensor_and_hides_its_key() -> None:
    answer = SensorPaired(sensor_id=sensor_id_of("s"), serial_number="SN")
    pairing = Pairing("climasense:hub", "climasense:s", answer, 1)
    envelope = sensor_paired(b'{"ieee_address": "00:11", "room": "attic"}', pairing, NOW)
    fields = msgspec.json.decode(envelope.data)
    assert (fields["sensor_device_id"], fields["sensor_id"]) == ("climasense:s", sensor_id_of("s"))
    assert (fields["serial_number"], fields["room"]) == ("SN", "attic")
    assert b"00:11" not in envelope.data
    assert (envelope.type, envelope.device_id, envelope.received_at) == (SENSOR_PAIRED, "climasense:hub", NOW)
    assert envelope.source == "climasense/http"
    again = [Pairing("climasense:hub", "climasense:s", answer, 2), Pairing("climasense:h", "climasense:s", answer, 1)]
    ids = {envelope.id, *(sensor_paired(b"{}", each, NOW).id for each in again)}
    assert len(ids) == 3
    assert sensor_paired(b"{}", pairing, NOW).id == envelope.id


def test_a_sensors_id_stays_as_it_is() -> None:
    """Hubs keep it."""
    assert sensor_id_of("s") == "7727e3e6-dadf-56bc-9c8d-47ea86a07503"


def test_a_record_of_little_is_known_by_its_name() -> None:
    record = device_record(DeviceState("d", "device"), NOW)
    assert (record.device_id, record.serial_number, record.attributes) == (
        DEVICE,
        "d",
        {"role": "device", "reporting_interval_seconds": 60},
    )
    located = DeviceState(
        "d", "sensor", hub="h", settings={"location": {"latitude": 1}, "reporting_interval_seconds": 5}
    )
    assert device_record(located, NOW).attributes == {
        "role": "sensor",
        "hub": "climasense:h",
        "location": {"latitude": 1},
        "reporting_interval_seconds": 5,
    }


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ("1.2.0", ((1, 2), True, ())),
        (" v1.0 ", ((1,), True, ())),
        ("0.0", ((), True, ())),
        ("1-rc.2", ((1,), False, ((True, 0, "rc"), (False, 2, "2")))),
        ("1." + "0" * 97, ((1,), True, ())),
        ("1." + "0" * 99, None),
        ("1.x", None),
    ],
)
def test_versions_as_keys(version: str, key: object) -> None:
    assert version_key(version) == key


@pytest.mark.parametrize(("status", "ended"), [("completed", True), ("failed", True), ("downloading", False)])
def test_an_update_has_ended_with_its_last_report(status: str, ended: bool) -> None:
    assert Update("1.0", 1, status).ended is ended
