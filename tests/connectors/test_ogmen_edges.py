"""The edges of Ogmen's pure parts: sampling, privacy, signatures, endpoints, answers, alerts."""

from __future__ import annotations

import hmac
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.ogmen import protocol
from connectors.ogmen.channel import Channel, Sampling, _angle
from connectors.ogmen.endpoints import ENDPOINTS, INSIGHT, LOGS, SLOW_STATES, Endpoint
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.seen_log_entries import SeenLogEntries
from connectors.ogmen.signature import Signature

NOW = datetime(2026, 3, 30, 10, tzinfo=UTC)
ROBOT = "ogmen:r"
SECOND = timedelta(seconds=1)
CONNECTIVITY, SYSTEM_USAGE, ACTIVITY, LOCATION = LOGS


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


# -- sampling


def odometry(seconds: float, x: float = 0.0, yaw: float = 0.0, z: float = 0.0, **header: Any) -> bytes:
    stamp = header.pop("stamp", {"sec": int(seconds), "nanosec": round(seconds % 1 * 1e9)})
    half = math.radians(yaw) / 2
    pose = {
        "position": {"x": x, "y": 0.0, "z": z},
        "orientation": {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)},
    }
    return encode({"topic": "odom", "header": {"stamp": stamp, "frame_id": "odom", **header}, "pose": {"pose": pose}})


def outcomes(sampling: Sampling, *messages: bytes, at: datetime = NOW) -> list[str]:
    channel = Channel(ROBOT, sampling)
    return [channel.message(each, at).left_out or "kept" for each in messages]


def test_sampling_is_off_without_a_criterion() -> None:
    assert Sampling().off and Sampling(still_seconds=5).off
    assert not Sampling(hz=1).off and not Sampling(metres=1).off and not Sampling(degrees=1).off


@pytest.mark.parametrize(
    ("passed", "outcome"), [(0.449, "sampling"), (0.451, "kept"), (-0.449, "sampling"), (-0.451, "kept")]
)
def test_a_tenth_of_the_period_is_allowed_for(passed: float, outcome: str) -> None:
    """Two per second, by the robot's clock; a late message counts like an early one."""
    assert outcomes(Sampling(hz=2), odometry(1000), odometry(1000 + passed)) == ["kept", outcome]


@pytest.mark.parametrize(
    ("moved", "outcome"),
    [
        ({"x": 0.1}, "kept"),
        ({"x": -0.1}, "kept"),
        ({"z": 0.1}, "kept"),
        ({"x": 0.099}, "deadband"),
        ({"yaw": 5.01}, "kept"),
        ({"yaw": -5.01}, "kept"),
        ({"yaw": 4.99}, "deadband"),
        ({}, "deadband"),
    ],
)
def test_a_robot_has_moved_by_metres_or_turned_by_degrees(moved: dict[str, float], outcome: str) -> None:
    assert outcomes(Sampling(metres=0.1, degrees=5), odometry(1000), odometry(1001, **moved)) == ["kept", outcome]


def test_one_criterion_alone_does_not_count_the_other() -> None:
    assert outcomes(Sampling(metres=0.1), odometry(1000), odometry(1001, yaw=90)) == ["kept", "deadband"]
    assert outcomes(Sampling(degrees=5), odometry(1000), odometry(1001, x=9)) == ["kept", "deadband"]


@pytest.mark.parametrize(("seconds", "outcome"), [(9.89, "deadband"), (9.91, "kept")])
def test_a_robot_that_stands_still_is_kept_every_ten_seconds(seconds: float, outcome: str) -> None:
    assert outcomes(Sampling(metres=0.1), odometry(1000), odometry(1000 + seconds)) == ["kept", outcome]
    assert Sampling().still_seconds == 10


def test_movement_is_measured_from_what_was_kept_last() -> None:
    steps = [odometry(1000 + n, x=0.06 * n) for n in range(5)]
    assert outcomes(Sampling(metres=0.1), *steps) == ["kept", "deadband", "kept", "deadband", "kept"]


def test_where_the_robots_clock_stands_still_ours_counts() -> None:
    channel = Channel(ROBOT, Sampling(hz=1))
    story = [(odometry(1000), 0.0), (odometry(1000), 0.5), (odometry(1000), 1.0), (odometry(1000), 1.5)]
    made = [channel.message(each, NOW + timedelta(seconds=at)).left_out for each, at in story]
    assert made == [None, "sampling", None, "sampling"]


@pytest.mark.parametrize("stamp", [{"sec": 0}, {"secs": 0, "nsecs": 0}, {}])
def test_without_a_time_of_the_robot_ours_counts(stamp: dict[str, int]) -> None:
    channel = Channel(ROBOT, Sampling(hz=1))
    made = [channel.message(odometry(0, stamp=stamp), NOW + timedelta(seconds=at)).left_out for at in (0, 0.5, 1)]
    assert made == [None, "sampling", None]


def test_stamps_of_either_ros() -> None:
    two = [{"secs": 1000, "nsecs": 0}, {"secs": 1000, "nsecs": 800_000_000}, {"secs": 1001, "nsecs": 0}]
    assert outcomes(Sampling(hz=1), *(odometry(0, stamp=each) for each in two)) == ["kept", "sampling", "kept"]


@pytest.mark.parametrize(
    ("one", "other", "angle"),
    [
        ((0, 0, 0, 1), (0, 0, 0, 1), 0),
        ((0, 0, 0, 2), (0, 0, 0, -7), 0),
        ((0, 0, 0, 1), (0, 0, 1, 0), 180),
        ((0, 0, 0, 1), (0, 0, math.sin(math.pi / 8), math.cos(math.pi / 8)), 45),
        ((0, 0, 0, 3), (0, 0, -math.sin(math.pi / 8), math.cos(math.pi / 8)), 45),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
        ((0, 0, 0, 0), (0, 0, 0, 1), 180),
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4), 0),
    ],
)
def test_the_angle_between_orientations(one: tuple[float, ...], other: tuple[float, ...], angle: float) -> None:
    assert math.isclose(_angle(one, other), angle, abs_tol=1e-5)
    assert math.isclose(_angle(other, one), angle, abs_tol=1e-5)


# -- other messages


@pytest.mark.parametrize(
    ("payload", "left_out"),
    [
        (b'{"message": "Websocket Connected Successfully to r."}', "greeting"),
        (b'{"message": "  websocket connected successfully"}', "greeting"),
        (b'{"message": "hello"}', "chatter"),
        (b'{"message": 3}', "chatter"),
        (b'{"command": ""}', "chatter"),
        (b'{"command": 3}', "chatter"),
        (b"hello", "chatter"),
        (b"17", "chatter"),
        (b'{"command": "go"}', None),
        (b'{"action": "go"}', None),
        (b'{"topic": "tf"}', None),
        (b"[1]", None),
    ],
)
def test_what_is_said_on_a_channel(payload: bytes, left_out: str | None) -> None:
    decoded = Channel(ROBOT).message(payload, NOW)
    assert decoded.left_out == left_out
    assert [each.data for each in decoded.envelopes] == ([] if left_out else [payload])


@pytest.mark.parametrize(
    ("payload", "reason"), [(b"{", "not_json"), (b"[1", "not_json"), (b'"\xff', "not_utf8"), (b"\xff", "not_utf8")]
)
def test_what_is_broken_is_a_dead_letter(payload: bytes, reason: str) -> None:
    decoded = Channel(ROBOT).message(payload, NOW)
    [letter] = decoded.dead_letters
    assert [each.reason for each in letter.problems] == [reason]
    assert (letter.vendor, letter.message_type, letter.device_id) == ("ogmen", "ogmen.channel", ROBOT)


def test_equal_messages_with_a_time_are_one_and_without_one_are_many() -> None:
    channel = Channel(ROBOT)

    def identity(payload: bytes, at: datetime) -> str:
        [envelope] = channel.message(payload, at).envelopes
        assert (envelope.type, envelope.source, envelope.received_at) == ("ogmen.channel", "ogmen/websocket", at)
        return envelope.id

    for timed in (
        b'{"topic": "a", "stamp": {"sec": 1}}',
        b'{"topic": "a", "timestamp" : "2026"}',
        b'{"topic": "a", "recorded_at":17}',
    ):
        assert identity(timed, NOW) == identity(timed, NOW + SECOND)
    for untimed in (b'{"topic": "a"}', b'{"topic": "a", "stamp": null}'):
        assert len({identity(untimed, NOW), identity(untimed, NOW), identity(untimed, NOW + SECOND)}) == 3


def test_a_command_to_keep_private_is_heeded_unless_the_mode_is_on() -> None:
    channel = Channel(ROBOT)
    assert channel.message(b'{"action": "enable_privacy"}', NOW).left_out == "privacy"
    assert (channel.gate.on, channel.gate.since) == (True, datetime.min.replace(tzinfo=UTC))
    other = Channel(ROBOT)
    assert other.message(b'{"action": "disable_privacy"}', NOW).left_out is None
    assert other.gate.on is False


# -- privacy


def at(minutes: float) -> datetime:
    return NOW + timedelta(minutes=minutes)


def test_the_edges_of_a_private_time_are_private() -> None:
    gate = PrivacyGate()
    gate.observe(False, at(20), at(5), at(10))
    assert [gate.hides(each) for each in (at(5) - SECOND, at(5), at(10), at(10) + SECOND)] == [False, True, True, False]
    assert [gate.was_on(each) for each in (at(5) - SECOND, at(5), at(10), at(10) + SECOND)] == [
        False,
        True,
        True,
        False,
    ]
    assert not gate.hides() and not gate.was_on(None)


@pytest.mark.parametrize(
    ("enabled_at", "disabled_at", "spans"),
    [
        (5, 10, [(5, 10)]),
        (10, 10, []),
        (11, 10, []),
        (5, 20, [(5, 20)]),
        (5, 21, []),
        (None, 10, []),
        (5, None, []),
    ],
)
def test_a_private_time_between_two_readings(
    enabled_at: int | None, disabled_at: int | None, spans: list[tuple[int, int]]
) -> None:
    gate = PrivacyGate()
    gate.observe(
        False, at(20), None if enabled_at is None else at(enabled_at), None if disabled_at is None else at(disabled_at)
    )
    assert gate.spans == [(at(start), at(end)) for start, end in spans]


@pytest.mark.parametrize(("disabled_at", "end"), [(8, 8), (2, 2), (1, 20), (21, 20), (20, 20), (None, 20)])
def test_a_private_time_ends_when_the_vendor_says_so_and_that_can_be(disabled_at: int | None, end: int) -> None:
    gate = PrivacyGate()
    gate.observe(False, at(0))
    gate.observe(True, at(3), at(2))
    gate.observe(False, at(20), at(2), None if disabled_at is None else at(disabled_at))
    assert gate.spans == [(at(2), at(end))]
    assert (gate.since, gate.on) == (None, False)


@pytest.mark.parametrize(("enabled_at", "since"), [(2, 2), (3, 3), (4, 0), (-1, 0), (None, 0)])
def test_since_when_the_mode_counts_as_on(enabled_at: int | None, since: int) -> None:
    gate = PrivacyGate()
    gate.observe(False, at(0))
    gate.observe(True, at(3), None if enabled_at is None else at(enabled_at))
    assert gate.since == at(since)
    gate.observe(True, at(5), at(1))
    assert gate.since == at(since), "the first report counts"


def test_without_a_reading_of_the_mode_a_reported_time_counts() -> None:
    gate = PrivacyGate()
    gate.observe(True, at(3), at(-100))
    assert gate.since == at(-100)
    assert [gate.was_on(at(each)) for each in (-101, -100, 0)] == [False, True, True]
    assert PrivacyGate().was_on(at(0)) and PrivacyGate().was_on(None)


def test_thirty_two_private_times_are_remembered_each_once() -> None:
    gate = PrivacyGate()
    for number in range(40):
        for _ in range(2):
            gate.observe(False, at(10 * number + 9), at(10 * number), at(10 * number + 5))
    assert len(gate.spans) == 32
    assert gate.spans[0] == (at(80), at(85)) and gate.spans[-1] == (at(390), at(395))


# -- seen entries


def test_the_latest_entries_are_remembered_and_the_oldest_named() -> None:
    seen = SeenLogEntries()
    assert seen.oldest is None
    seen.add([("a", NOW), ("b", None), ("c", NOW - SECOND)], 3)
    assert seen.oldest == NOW - SECOND
    seen.add([("a", NOW), ("d", NOW)], 3)
    assert list(seen.versions) == ["c", "a", "d"]
    assert "b" not in seen and "a" in seen
    assert SeenLogEntries.restored(seen.state()).versions == seen.versions
    assert SeenLogEntries.restored([["a", "soon"]]).versions == SeenLogEntries.restored(3).versions == {}


# -- signatures


@pytest.mark.parametrize(
    ("time", "off", "problem"),
    [
        ("1790000000", 300, None),
        ("1790000000", -300, None),
        ("1790000000", 300.5, "stale"),
        ("1790000000", -300.5, "stale"),
        ("1790000000000", 0, None),
        ("17900000000000", 0, "wrong"),
        ("17900000000", 0, "stale"),
        ("", 0, "missing"),
        ("-1790000000", 0, "wrong"),
        ("١٧٩٠٠٠٠٠٠٠", 0, "wrong"),
    ],
)
def test_a_signed_time_is_in_seconds_or_milliseconds(time: str, off: float, problem: str | None) -> None:
    signature = Signature(b"key", "X-Sig", timestamp_header="X-Time")
    digest = hmac.digest(b"key", time.encode() + b".body", "sha256").hex()
    assert signature.problem({"X-Time": time, "X-Sig": f" sha256={digest} "}, b"body", 1_790_000_000 + off) == problem


# -- endpoints and answers


def test_what_the_privacy_mode_hides_of_each_endpoint() -> None:
    assert {each.name for each in ENDPOINTS if each.private} == {"location", "insight"}
    assert {each.name: each.private_fields for each in ENDPOINTS if each.private_fields} == {
        "activity": frozenset({"description"})
    }
    assert {each.name: each.bookkeeping for each in ENDPOINTS if each.bookkeeping} == {
        "connectivity": frozenset({"is_synced", "synced_at"})
    }


def test_the_endpoints_and_their_counting_parameters() -> None:
    assert {each.name: each.count for each in (*LOGS, INSIGHT)} == {
        "connectivity": "no_of_logs",
        "system_usage": "no_of_logs",
        "activity": "no_of_activities",
        "location": "no_of_logs",
        "insight": "no_of_insights",
    }
    assert [each.name for each in SLOW_STATES] == [
        *("device", "storage", "network", "treat_bin", "camera_head", "device_settings"),
        *("volume", "display_brightness", "status_light_brightness"),
    ]
    assert [each.name for each in ENDPOINTS[:2]] == ["privacy", "battery"]
    assert not any(each.is_log for each in SLOW_STATES) and all(each.is_log for each in LOGS)
    assert (LOCATION.type, LOCATION.path_setting) == ("ogmen.location.log", "location_path")


@pytest.mark.parametrize(
    ("body", "entries"),
    [
        (b'{"a": 1}', [b'{"a": 1}']),
        (b' [{"a": 1}, {"b": 2}] ', [b'{"a": 1}', b'{"b": 2}']),
        (b'{"code": 200, "data": {"a": 1}}', [b'{"a": 1}']),
        (b'{"status": "Success", "data": [{"a": 1}]}', [b'{"a": 1}']),
        (b'{"message": "m", "data": "{\\"a\\": 1}"}', [b'{"a": 1}']),
        (b'{"data": {"a": 1}}', [b'{"data": {"a": 1}}']),
        (b'{"code": 200}', [b'{"code": 200}']),
        (b'{"code": "299", "data": {}}', []),
        (b'{"status": "ok", "data": "null"}', []),
        (b'{"status": "started", "data": null}', []),
        (b'""', []),
        (b" {} ", []),
        (b'{"code": true, "status": 3, "data": {"a": 1}}', [b'{"a": 1}']),
        (b'{"code": 200, "status": "error", "data": {"a": 1}}', [b'{"a": 1}']),
    ],
)
def test_answers_in_their_envelopes(body: bytes, entries: list[bytes]) -> None:
    assert protocol.entries(body) == entries


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"code": 300, "data": {}}', "the answer says code 300"),
        (b'{"code": 199, "data": {}}', "the answer says code 199"),
        (b'{"code": "404", "data": {}}', "the answer says code 404"),
        (b'{"status": "error", "data": {}}', "no success"),
        (b'"text"', "an entry is no object"),
        (b"[1]", "an entry is no object"),
        (b"7", "an entry is no object"),
        (b"{", "."),
        (b'{"code": 200, "data": "[}"}', "."),
    ],
)
def test_answers_that_cannot_be_used(body: bytes, reason: str) -> None:
    with pytest.raises(protocol.AnswerError, match=reason):
        protocol.entries(body)


def test_an_entry_is_known_by_its_content_or_by_its_reading() -> None:
    off = PrivacyGate(on=False)

    def read(endpoint: Endpoint, fields: object, when: datetime = NOW, gate: PrivacyGate = off) -> protocol.Entry:
        return protocol.read_entry(endpoint, encode(fields), ROBOT, when, gate)

    for name in ("recorded_at", "timestamp", "last_robot_synced_time"):
        assert read(SYSTEM_USAGE, {name: "2026-03-30T09:00:00Z"}).time == NOW - timedelta(hours=1)
    both = {
        "recorded_at": "soon",
        "timestamp": "2026-03-30T09:00:00Z",
        "last_robot_synced_time": "2026-03-30T08:00:00Z",
    }
    log = read(SYSTEM_USAGE, both)
    [envelope] = log.decoded.envelopes
    assert (envelope.id, envelope.time, log.stable) == (log.version, NOW - timedelta(hours=1), "")
    assert (envelope.type, envelope.source, envelope.device_id) == ("ogmen.system_usage.log", "ogmen/rest", ROBOT)
    assert read(SYSTEM_USAGE, both, NOW + SECOND).version == log.version

    untimed = read(SYSTEM_USAGE, {"a": 1})
    assert untimed.version == untimed.decoded.envelopes[0].id != ""
    state = SLOW_STATES[1]
    one, other = (read(state, {"a": 1}, NOW + n * SECOND) for n in (0, 1))
    assert one.version == other.version == "" and one.decoded.envelopes[0].id != other.decoded.envelopes[0].id

    copied = [read(CONNECTIVITY, {"a": 1, "is_synced": each, "synced_at": each}) for each in (1, 2)]
    assert copied[0].stable == copied[1].stable != "" and copied[0].version != copied[1].version
    assert read(CONNECTIVITY, {"a": 2}).stable != copied[0].stable


def test_a_hidden_entry_is_read_again_only_while_the_mode_may_change() -> None:
    entry = encode({"timestamp": "2026-03-30T09:00:00Z", "room": "hall"})
    past = PrivacyGate(on=False, spans=[(NOW - timedelta(hours=2), NOW)])
    for gate, remembered in ((past, True), (PrivacyGate(on=True), False), (PrivacyGate(), False)):
        read = protocol.read_entry(LOCATION, entry, ROBOT, NOW, gate)
        assert (read.decoded.left_out, bool(read.version)) == ("privacy", remembered)
        assert read.time == NOW - timedelta(hours=1)
    activity = encode({"timestamp": "2026-03-30T09:00:00Z", "description": "in the hall", "kind": "walk"})
    [envelope] = protocol.read_entry(ACTIVITY, activity, ROBOT, NOW, past).decoded.envelopes
    assert json.loads(envelope.data) == {"timestamp": "2026-03-30T09:00:00Z", "kind": "walk"}
    [envelope] = protocol.read_entry(ACTIVITY, activity, ROBOT, NOW, PrivacyGate(on=False)).decoded.envelopes
    assert envelope.data == activity


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"privacy_mode_enabled": True}, True),
        ({"privacy_mode_enabled": "False"}, False),
        ({"privacy_status": " 1 "}, True),
        ({"privacy_status": 0}, False),
        ({"privacy_mode_enabled": None, "privacy_status": True}, True),
        ({"privacy_mode_enabled": "perhaps"}, None),
        ({}, None),
    ],
)
def test_the_privacy_mode_as_answers_write_it(fields: object, status: bool | None) -> None:
    read = protocol.privacy_status(encode(fields))
    assert (None if read is None else read.enabled) is status


def test_the_times_of_the_privacy_mode() -> None:
    times = {"privacy_mode_enabled_at": "2026-03-30T10:00:00Z", "privacy_mode_disabled_at": "soon"}
    read = protocol.privacy_status(encode({"privacy_mode_enabled": True, **times}))
    assert read == protocol.PrivacyStatus(True, NOW, None)


@pytest.mark.parametrize(
    ("given", "native"), [("r", "r"), (7, "7"), (True, None), ("", None), (None, None), ([], None)]
)
def test_the_robot_of_an_entry(given: object, native: str | None) -> None:
    assert protocol.native_id_of(encode({"device_id": given})) == native


def test_the_record_of_a_robot() -> None:
    fields = {
        "model": "ORo",
        "serial_number": 7,
        "os_version": "1.2",
        "manufacturer": "Ogmen",
        "storage_capacity_gb": 64,
    }
    record = protocol.device_record(encode(fields | {"name": "Rex's robot"}), "r", NOW)
    assert (record.device_id, record.vendor, record.updated_at, record.name) == (ROBOT, "ogmen", NOW, None)
    assert (record.model, record.serial_number, record.firmware_version) == ("ORo", "7", "1.2")
    assert record.attributes == {"manufacturer": "Ogmen", "storage_capacity_gb": 64}
    bare = protocol.device_record(encode({"model": [], "storage_capacity_gb": "64"}), "r", NOW)
    assert (bare.model, bare.serial_number, bare.attributes) == (None, None, {})


# -- alerts

ALERT = {
    "timestamp": "2026-03-30T09:00:00Z",
    "uuid": "A1B2C3D4-0000-0000-0000-000000000001",
    "source": "battery",
    "severity": 1,
    "header": "Hot",
    "body": "Too hot",
    "action_required": "Wait",
}


def refusal(fields: object) -> tuple[str, str]:
    with pytest.raises(protocol.InvalidAlert) as caught:
        protocol.alert(encode(fields), "r", NOW)
    return caught.value.path, caught.value.reason


def test_an_alert_as_documented() -> None:
    envelope = protocol.alert(encode(ALERT), "r", NOW)
    assert (envelope.type, envelope.source, envelope.device_id) == ("ogmen.alert", "ogmen/webhook", ROBOT)
    assert (envelope.received_at, envelope.time) == (NOW, NOW - timedelta(hours=1))
    lower = protocol.alert(encode(ALERT | {"uuid": ALERT["uuid"].lower(), "body": "other"}), "r", NOW)  # type: ignore[attr-defined]
    assert lower.id == envelope.id != protocol.alert(encode(ALERT), "s", NOW).id


@pytest.mark.parametrize("name", ALERT)
def test_every_field_of_an_alert_is_required(name: str) -> None:
    assert refusal(ALERT | {name: None}) == (name, "missing")
    if name != "severity":
        assert refusal(ALERT | {name: 3}) == (name, "wrong_type")


def test_what_is_no_alert() -> None:
    assert refusal([]) == ("", "wrong_type")
    assert refusal(ALERT | {"severity": 0}) == refusal(ALERT | {"severity": 6}) == ("severity", "out_of_range")
    assert refusal(ALERT | {"severity": True}) == refusal(ALERT | {"severity": 2.5}) == ("severity", "wrong_type")
    assert refusal(ALERT | {"uuid": "x"}) == ("uuid", "wrong_type")
    assert refusal(ALERT | {"timestamp": "soon"}) == ("timestamp", "wrong_type")
    for link in ("link_for_favicon", "link_for_large_image"):
        assert refusal(ALERT | {link: 3}) == (link, "wrong_type")
        assert protocol.alert(encode(ALERT | {link: None}), "r", NOW)


def test_the_large_image_is_private() -> None:
    links = ALERT | {"link_for_favicon": "https://e.com/f", "link_for_large_image": "https://e.com/l"}
    private = json.loads(protocol.alert(encode(links), "r", NOW, private=True).data)
    assert "link_for_large_image" not in private and private["link_for_favicon"] == "https://e.com/f"
    assert "link_for_large_image" in json.loads(protocol.alert(encode(links), "r", NOW).data)
    assert protocol.alert(encode(ALERT), "r", NOW, private=True).data == encode(ALERT)


def test_templates_are_filled_with_encoded_ids() -> None:
    assert protocol.fill("/a/{device_id}/{dog_id}/{other}", device_id="r/1", dog_id="d") == "/a/r%2F1/d/{other}"
