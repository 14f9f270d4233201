"""Ogmen's pure parts: the channel and its sampling, alerts, answers, privacy, what was told, account data."""

from __future__ import annotations

import base64
import hmac
import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.ogmen import account_data, protocol
from connectors.ogmen.channel import Channel, Sampling
from connectors.ogmen.endpoints import BATTERY, INSIGHT, LOGS, PRIVACY, Endpoint
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.seen_log_entries import SeenLogEntries
from connectors.ogmen.settings import OgmenSettings
from connectors.ogmen.signature import Signature
from schemas.envelope import message_id
from schemas.topics import MAX_MESSAGE_BYTES

NOW = datetime(2026, 3, 30, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)
CONNECTIVITY, SYSTEM_USAGE, ACTIVITY, LOCATION = LOGS


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def off() -> PrivacyGate:
    return PrivacyGate(on=False)


# -- the channel


def odometry(seconds: float, x: float = 0.0, yaw: float = 0.0, **fields: Any) -> bytes:
    stamp = {"sec": int(seconds), "nanosec": int(seconds % 1 * 1e9)}
    position = {"x": x, "y": 0.0, "z": 0.0}
    half = math.radians(yaw) / 2
    orientation = {"x": 0.0, "y": 0.0, "z": math.sin(half), "w": math.cos(half)}
    pose = {"pose": {"position": position, "orientation": orientation}, "covariance": [0.0] * 36}
    return encode({"topic": "odom", "header": {"stamp": stamp, "frame_id": "odom"}, "pose": pose} | fields)


def test_odometry_is_sampled_by_the_robots_time() -> None:
    channel = Channel("ogmen:r", Sampling(hz=2))
    outcomes = [channel.message(odometry(1000 + n / 20), NOW) for n in range(100)]
    kept = [d for d in outcomes if d.envelopes]
    assert 9 <= len(kept) <= 12 and {d.left_out for d in outcomes if not d.envelopes} == {"sampling"}
    assert channel.message(odometry(10), NOW).envelopes, "late"
    everything = Channel("ogmen:r")
    assert all(everything.message(odometry(5), NOW).envelopes for _ in range(2))


@pytest.mark.parametrize("wrapper", ["msg", "data"])
def test_wrapped_and_slashed_odometry_is_sampled_as_well(wrapper: str) -> None:
    channel = Channel("ogmen:r", Sampling(hz=2))
    bare = json.loads(odometry(1000))
    bare["header"]["stamp"] = {"secs": 1000, "nsecs": 5}  # ROS 1
    del bare["topic"]
    message = encode({"op": "publish", "topic": "/odom", wrapper: bare})
    assert channel.message(message, NOW).envelopes
    assert channel.message(message, NOW).left_out == "sampling"


def test_a_robot_that_stands_still_is_told_every_so_often_and_counted_otherwise() -> None:
    channel = Channel("ogmen:r", Sampling(hz=2, metres=0.05, degrees=2, still_seconds=10))
    outcomes = [channel.message(odometry(1000 + n / 2, x=0.001 * (n % 2)), NOW) for n in range(61)]
    assert [n / 2 for n, d in enumerate(outcomes) if d.envelopes] == [0, 10, 20, 30]
    assert {d.left_out for d in outcomes if not d.envelopes} == {"deadband"}
    assert channel.message(odometry(1031, x=0.06), NOW).envelopes, "it moved"
    assert channel.message(odometry(1032, x=0.06, yaw=3), NOW).envelopes, "it turned"
    assert channel.message(odometry(1033, x=0.06, yaw=4), NOW).left_out == "deadband"
    assert channel.message(odometry(1034, x=0.06, yaw=-178), NOW).envelopes


def test_slow_creeping_is_not_lost_in_the_dead_band() -> None:
    channel = Channel("ogmen:r", Sampling(metres=0.05, still_seconds=1e6))
    kept = [n for n in range(1000) if channel.message(odometry(1000 + n, x=n * 0.001), NOW).envelopes]
    assert len(kept) == 20, "measured from what was kept last, not from one message to the next"


@pytest.mark.parametrize("stamp", [0.0, 1000.0], ids=["no clock", "a clock that stands still"])
def test_a_robot_without_a_usable_clock_is_sampled_by_ours(stamp: float) -> None:
    channel = Channel("ogmen:r", Sampling(hz=1))
    times = [NOW + timedelta(seconds=n / 10) for n in range(101)]
    assert len([t for t in times if channel.message(odometry(stamp), t).envelopes]) == 11


@pytest.mark.parametrize("fields", [{"pose": None}, {"pose": {"pose": {"position": {"x": "left"}}}}, {"battery": 3}])
def test_unusual_odometry_is_never_sampled_away(fields: dict[str, Any]) -> None:
    channel = Channel("ogmen:r", Sampling(hz=2, metres=1))
    channel.message(odometry(1000), NOW)
    assert channel.message(odometry(1000.01, **fields), NOW).envelopes


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(-0.2, 0.2)), max_size=60),
    st.sampled_from([0.0, 0.5, 2.0, 10.0]),
    st.sampled_from([0.0, 0.05, 0.3]),
)
def test_what_sampling_promises(steps: list[tuple[float, float]], hz: float, metres: float) -> None:
    """Kept ones are a period apart, and nothing is left out that moved or waited long enough since the last kept."""
    still = 5.0
    channel = Channel("ogmen:r", Sampling(hz=hz, metres=metres, still_seconds=still))
    at, x, last = 1000.0, 0.0, None
    for seconds, metre in steps:
        at, x = at + seconds, x + metre
        kept = bool(channel.message(odometry(at, x), NOW).envelopes)
        if last is not None:
            passed, far = at - last[0], abs(x - last[1])
            if kept:
                assert not hz or passed >= 0.89 / hz
                assert not metres or far >= metres - 1e-9 or passed >= 0.98 * still
            else:
                assert (hz and passed <= 1 / hz) or (metres and far <= metres + 1e-9 and passed <= still)
        if kept:
            last = (at, x)


@pytest.mark.documented
def test_greeting_and_chatter_are_left_out_politely() -> None:
    channel = Channel("ogmen:r", Sampling(hz=2))
    assert channel.message(b'{"message": "Websocket Connected Successfully to r."}', NOW).left_out == "greeting"
    for chatter in (b'{"hello": "robot"}', b"ping", b"3", b'"text"', b'{"command": null}'):
        assert channel.message(chatter, NOW).left_out == "chatter"
    for taken in (b'{"topic": "goal_pose", "x": 1}', b'{"command": "throw_ball"}', b'{"action": "dock"}', b"[1]"):
        assert channel.message(taken, NOW).envelopes
    for broken in (b'{"topic":', b"[1,", b"\xff\xfe", b""):
        assert channel.message(broken, NOW).dead_letters[0].device_id == "ogmen:r" or broken == b""


def big_map(cells: int, **fields: Any) -> bytes:
    origin = {"position": {"x": -3.65, "y": -3.59, "z": 0.0}, "orientation": {"x": 0, "y": 0, "z": 0, "w": 1}}
    info = {
        "map_load_time": {"sec": 0, "nanosec": 0},
        "resolution": 0.05,
        "width": cells,
        "height": 1,
        "origin": origin,
    }
    header = {"stamp": {"sec": 1773645666, "nanosec": 7}, "frame_id": "map"}
    data = [(-1, 0, 100)[n % 3] for n in range(cells)]
    message = {"topic": "map", "header": header, "info": info, "data": data} | fields
    return json.dumps(message, separators=(",", ":")).encode()


def test_a_map_of_eight_megabytes_goes_raw_byte_for_byte_and_soon() -> None:
    payload = big_map(2_640_000)
    assert 0.9 * MAX_MESSAGE_BYTES < len(payload) < MAX_MESSAGE_BYTES - 16 * 1024
    started = time.process_time()
    (envelope,) = Channel("ogmen:r").message(payload, NOW).envelopes
    assert envelope.data == payload
    assert time.process_time() - started < 1, "its cells are not searched for secrets one by one"


def test_a_map_without_secrets_is_not_written_anew() -> None:
    """Its message id is made of its bytes: the spaces are the robot's."""
    spaced = json.loads(big_map(5000))
    for message in (spaced, {"topic": "/map", "msg": spaced}, {"topic": "map", "data": spaced}, {"topic": "map"}):
        payload = json.dumps(message, indent=1).encode()
        (envelope,) = Channel("ogmen:r").message(payload, NOW).envelopes
        assert envelope.data == payload


def test_secrets_beside_the_cells_of_a_map_are_taken_out() -> None:
    secrets = {"operator": "someone@example.com", "ssid": "HomeWiFi", "display_name": "John Doe"}
    for payload in (
        big_map(5000, **secrets),
        encode({"topic": "/map", "msg": json.loads(big_map(5000, **secrets))}),
        big_map(5000, data=[*range(2000), "someone@example.com"]),
    ):
        data = Channel("ogmen:r").message(payload, NOW).envelopes[0].data
        assert not [s for s in (b"someone@", b"HomeWiFi", b"John Doe") if s in data]
        assert data.count(b",") > 1900


def test_what_kafka_would_refuse_is_a_dead_letter_with_its_beginning() -> None:
    payload = big_map(3_000_000)
    (letter,) = Channel("ogmen:r").message(payload, NOW).dead_letters
    assert (letter.problems[0].reason, letter.payload_bytes) == ("too_large", len(payload))
    assert letter.payload.startswith('{"topic":"map"') and len(letter.payload) < 600


# -- privacy mode


def test_privacy_mode_hides_where_the_robot_is() -> None:
    channel = Channel("ogmen:r", gate=PrivacyGate(on=True))
    for message in (odometry(1), encode({"topic": "/tf"}), encode({"topic": "map"}), b'{"topic":"camera"}', b"[1]"):
        assert channel.message(message, NOW).left_out == "privacy"
    assert channel.message(b'{"command": "throw_ball", "play_location": {"x": 12.5}}', NOW).left_out == "privacy"
    (letter,) = channel.message(odometry(1, x=12.5)[:-9], NOW).dead_letters
    assert letter.payload == "" and letter.payload_bytes > 0, "what is broken may say it too"
    unknown = Channel("ogmen:r", gate=PrivacyGate())
    assert unknown.message(odometry(1), NOW).left_out == "privacy", "not known is not off"


def test_being_told_to_keep_private_is_heeded_before_the_next_poll() -> None:
    channel = Channel("ogmen:r")
    assert channel.message(odometry(1), NOW).envelopes
    channel.message(b'{"action": "enable_privacy", "keep_until_disabled": true}', NOW)
    assert channel.message(odometry(2), NOW).left_out == "privacy"
    channel.gate.observe(False, LATER)
    assert channel.message(odometry(LATER.timestamp() + 1), LATER).envelopes


def test_late_odometry_of_the_private_time_is_not_taken_afterwards() -> None:
    channel = Channel("ogmen:r")
    channel.gate.observe(True, NOW, NOW)
    channel.gate.observe(False, NOW + timedelta(minutes=5), NOW, NOW + timedelta(minutes=4))
    during, after = NOW + timedelta(minutes=2), NOW + timedelta(minutes=5)
    assert channel.message(odometry(during.timestamp()), after).left_out == "privacy"
    assert channel.message(odometry(after.timestamp()), after).envelopes


def minutes(number: float) -> datetime:
    return NOW + timedelta(minutes=number)


def test_the_gate_remembers_when_it_was_shut() -> None:
    gate = PrivacyGate()
    assert gate.hides() and gate.hides(minutes(-99))
    gate.observe(False, minutes(0))
    assert not gate.hides() and not gate.hides(minutes(-1))
    gate.observe(True, minutes(2))
    gate.observe(True, minutes(3), minutes(1))  # told late since when
    assert gate.hides() and gate.was_on(minutes(0.5)) and not gate.was_on(minutes(-1))
    gate.observe(False, minutes(10), minutes(1), minutes(8))
    assert [gate.hides(minutes(n)) for n in (-1, 0, 5, 8, 9)] == [False, True, True, True, False]
    gate.observe(False, minutes(20), minutes(12), minutes(14))
    assert gate.hides(minutes(13)) and not gate.hides(minutes(15)), "on and off between two readings"


def test_the_gate_does_not_believe_impossible_times() -> None:
    gate = PrivacyGate()
    gate.observe(False, minutes(0))
    gate.observe(True, minutes(1), enabled_at=minutes(-500))
    assert gate.since == minutes(0), "it was seen off since then"
    gate.observe(False, minutes(2), disabled_at=minutes(-100))
    assert gate.spans == [(minutes(0), minutes(2))]
    fresh = PrivacyGate()
    fresh.observe(True, minutes(0), enabled_at=minutes(9))
    fresh.observe(False, minutes(1))
    assert fresh.hides(minutes(-100_000)), "nobody knows since when"


def test_the_gate_survives_a_restart() -> None:
    gate = PrivacyGate()
    gate.observe(False, minutes(0), minutes(-9), minutes(-5))
    gate.observe(True, minutes(1), minutes(1))
    woken = PrivacyGate()
    woken.restore(json.loads(json.dumps(gate.state())))
    assert woken.on is None and woken.hides(), "whether it is on has to be asked"
    woken.observe(False, minutes(7), minutes(1), minutes(6))
    assert woken.spans == [(minutes(-9), minutes(-5)), (minutes(1), minutes(6))]
    for broken in (None, {}, {"since": 3, "spans": []}, {"since": None, "spans": [["x"]]}):
        woken.restore(broken)
        assert len(woken.spans) == 2


# -- answers of REST


@pytest.mark.documented
def test_answers_of_every_shape() -> None:
    entry = b'{ "log_id": 1 }'
    envelope = b'{"code": 200, "status": "SUCCESS", "message": "m", "data": ' + entry + b"}"
    for body, count in (
        (entry, 1),
        (b"[" + entry + b"," + entry + b"]", 2),
        (envelope, 1),
        (b"[" + envelope + b"]", 1),
        (b'{"code":200,"data":[' + entry + b"," + entry + b"]}", 2),
        (b'{"status":"success","data":[' + envelope + b"]}", 1),
        (b'{"code":"200","status":"Success","data":' + entry + b"}", 1),
        (b'{"code":200,"data":' + json.dumps(entry.decode()).encode() + b"}", 1),
        (b'{"code":200,"data":"null"}', 0),
        (b'{"code":200,"data":null}', 0),
        (b'{"code":200,"data":{}}', 0),
        (b"[]", 0),
        (b"null", 0),
    ):
        assert protocol.entries(body) == [entry] * count, body
    camera = b'{"device_id":"r","status":"OK","cam_head_position":45}'
    assert protocol.entries(camera) == [camera], "a status of its own makes no envelope"
    for bad in (
        b"",
        b"3",
        b"<html>",
        b'["x"]',
        b'{"code":200,"data":7}',
        b'{"code":404,"status":"error","message":"Device not found.","data":null}',
        b'{"code":"500","data":{"log_id":1}}',
        b'{"status":"error","data":{"log_id":1}}',
    ):
        with pytest.raises(protocol.AnswerError):
            protocol.entries(bad)


def read(endpoint: Endpoint, at: datetime = NOW, gate: PrivacyGate | None = None, **fields: Any) -> protocol.Entry:
    return protocol.read_entry(endpoint, encode(fields), "ogmen:r", at, gate or off())


def test_a_changed_entry_is_a_new_version_and_a_state_without_time_is_news() -> None:
    def identity(endpoint: Endpoint, at: datetime, **fields: Any) -> str:
        return read(endpoint, at, **fields).message.envelopes[0].id

    entry = {"log_id": 1, "recorded_at": "2025-03-12T12:00:00Z", "resolved": False}
    assert identity(ACTIVITY, NOW, **entry) == identity(ACTIVITY, LATER, **entry)
    assert identity(ACTIVITY, NOW, **entry) != identity(ACTIVITY, NOW, **entry | {"resolved": True})
    assert identity(BATTERY, NOW, battery_level=85) != identity(BATTERY, LATER, battery_level=85)
    battery = read(BATTERY, battery_level=85, last_charging_time="2025-01-01T00:00:00Z")
    assert battery.time is None and battery.message.envelopes[0].time is None
    synced = {"log_id": 1, "recorded_at": "2025-03-12T12:00:00Z", "signal_strength": -50}
    one, other = (read(CONNECTIVITY, is_synced=flag, **synced) for flag in (False, True))
    assert one.version != other.version and one.stable == other.stable


def test_entries_of_the_private_time_are_left_out_also_later() -> None:
    gate = off()
    gate.observe(False, minutes(20), minutes(0), minutes(10))
    inside, outside = "2026-03-30T10:05:00Z", "2026-03-30T10:15:00Z"
    for endpoint in (LOCATION, INSIGHT):
        assert read(endpoint, gate=gate, recorded_at=inside, room_name="Hall").message.left_out == "privacy"
        assert read(endpoint, gate=gate, recorded_at=outside, room_name="Hall").message.envelopes
    moved = {"activity_type": "Movement", "description": "Device moved to kitchen"}
    assert b"kitchen" not in read(ACTIVITY, gate=gate, recorded_at=inside, **moved).message.envelopes[0].data
    assert b"kitchen" in read(ACTIVITY, gate=gate, recorded_at=outside, **moved).message.envelopes[0].data
    assert read(BATTERY, gate=PrivacyGate(on=True), battery_level=3).message.envelopes


@pytest.mark.documented
def test_the_registry_is_told_what_a_robot_is_and_not_whose() -> None:
    entry = {
        "device_id": "123e4567-e89b-12d3-a456-426614174000",
        "model": "ORo",
        "manufacturer": "Ogmen Robotics",
        "os_version": "1.2.3",
        "serial_number": "SN123456789",
        "battery_health": 95,
        "secure_enclave_id": "e",
        "storage_capacity_gb": 256,
        "email": "user@example.com",
        "owner": {"display_name": "John Doe"},
    }
    record = protocol.device_record(encode(entry), "r", NOW)
    assert (record.model, record.serial_number, record.firmware_version) == ("ORo", "SN123456789", "1.2.3")
    assert record.attributes == {"manufacturer": "Ogmen Robotics", "storage_capacity_gb": 256}
    assert protocol.native_id_of(b'{"device_id": "device123"}') == "device123"
    assert protocol.native_id_of(b'{"device_id": 7}') == "7"
    assert [protocol.native_id_of(b) for b in (b"{}", b'{"device_id": null}', b'{"device_id": ""}')] == [None] * 3


def test_privacy_status_of_either_answer() -> None:
    on = b'{"privacy_mode_enabled": true, "privacy_mode_enabled_at": "2026-03-30T10:00:00Z"}'
    assert protocol.privacy_status(on) == protocol.PrivacyStatus(True, NOW)
    assert protocol.privacy_status(b'{"privacy_status": "False", "volume": 0}') == protocol.PrivacyStatus(False)
    assert protocol.privacy_status(b'{"privacy_mode_enabled": null}') is None
    assert PRIVACY.type == "ogmen.privacy.log"


@pytest.mark.parametrize("name", ["privacy_mode_enabled", "privacy_status"])
def test_privacy_is_on_or_off_only_where_the_answer_says_so(name: str) -> None:
    said = {True: [True, "true", " TRUE ", "1", 1], False: [False, "false", "False ", "0", 0], None: ["on", "", 2, []]}
    for enabled, values in said.items():
        expected = None if enabled is None else protocol.PrivacyStatus(enabled)
        for value in values:
            assert protocol.privacy_status(encode({name: value})) == expected, value


def test_seen_entries_are_remembered_in_bounds() -> None:
    seen = SeenLogEntries()
    seen.add([(str(n), minutes(n)) for n in range(10)], most=6)
    assert "3" not in seen and "4" in seen and seen.oldest == minutes(4)
    seen.add([("4", minutes(4)), ("x", None)], most=6)
    assert "4" in seen and "5" not in seen, "an entry added again is the latest"
    restored = SeenLogEntries.restored(json.loads(json.dumps(seen.state())))
    assert restored.versions == seen.versions
    for broken in (None, 3, [["a"]], [["a", "b"]]):
        assert SeenLogEntries.restored(broken).versions == {}


def test_settings_name_the_template_without_its_id() -> None:
    with pytest.raises(ValueError, match=r"insight_path must hold \{dog_id\}"):
        OgmenSettings(insight_path="/insights/{device_id}")
    with pytest.raises(ValueError, match=r"socket_url must hold \{device_id\}"):
        OgmenSettings(socket_url="wss://example.com/ws")
    assert OgmenSettings(volume_path="").volume_path == ""


# -- alerts

ALERT = {
    "timestamp": "2019-08-24T14:15:22Z",
    "uuid": "095be615-a8ad-4c33-8e9c-c7612fbf6c9f",
    "source": "string",
    "severity": 1,
    "header": "string",
    "body": "string",
    "action_required": "string",
    "link_for_favicon": "https://assets.example.com/icon.png",
    "link_for_large_image": "https://assets.example.com/large.gif",
}


@pytest.mark.documented
def test_an_alert_keeps_its_links_but_not_its_picture_in_privacy_mode() -> None:
    taken = protocol.alert(encode(ALERT), "r", NOW)
    assert json.loads(taken.data) == ALERT
    private = protocol.alert(encode(ALERT), "r", NOW, private=True)
    assert private.id == taken.id, "the same alert"
    shouted = protocol.alert(encode(ALERT | {"uuid": ALERT["uuid"].upper()}), "r", NOW)  # type: ignore[attr-defined]
    assert shouted.id == taken.id == message_id(["ogmen.alert", "ogmen:r", str(ALERT["uuid"])])
    assert json.loads(private.data) == {k: v for k, v in ALERT.items() if k != "link_for_large_image"}


def test_severities_are_one_to_five() -> None:
    for level in range(1, 6):
        assert protocol.alert(encode(ALERT | {"severity": level}), "r", NOW)
    for wrong in (0, 6, -1, 2.5, "1", True, None, [1]):
        with pytest.raises(protocol.InvalidAlert, match="severity"):
            protocol.alert(encode(ALERT | {"severity": wrong}), "r", NOW)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("encoding", ["hex", "base64"])
@pytest.mark.parametrize("prefix", ["", "v1="])
def test_signatures(algorithm: str, encoding: str, prefix: str) -> None:
    signature = Signature(b"key", "X-Sig", algorithm, prefix, encoding)
    digest = hmac.digest(b"key", b"body", algorithm)
    text = digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()
    assert signature.problem({"X-Sig": prefix + text}, b"body", 0) is None
    assert signature.problem({"X-Sig": prefix + text}, b"other", 0) == "wrong"
    assert signature.problem({}, b"body", 0) == "missing"
    for wrong in (prefix, prefix + "zz", prefix + "ä", prefix + text[:-2], "x" + text):
        assert signature.problem({"X-Sig": wrong}, b"body", 0) == ("wrong" if wrong else "missing")


def test_a_signed_time_bounds_the_age_of_an_alert() -> None:
    signature = Signature(b"key", "X-Sig", timestamp_header="X-Time", tolerance_seconds=300)

    def headers(time: str) -> dict[str, str]:
        return {"X-Time": time, "X-Sig": "sha256=" + hmac.digest(b"key", time.encode() + b".body", "sha256").hex()}

    now = 1_790_000_000.0
    assert signature.problem(headers("1790000000"), b"body", now + 299) is None
    assert signature.problem(headers("1790000000123"), b"body", now) is None
    assert signature.problem(headers("1790000000"), b"body", now + 301) == "stale"
    assert signature.problem(headers("1790000400"), b"body", now) == "stale"
    moved = headers("1790000000") | {"X-Time": "1790000001"}
    assert signature.problem(moved, b"body", now) == "wrong", "the time is signed, too"
    assert signature.problem(headers("soon"), b"body", now) == "wrong"
    assert signature.problem({"X-Sig": headers("1")["X-Sig"]}, b"body", now) == "missing"


# -- account data

POISON = {
    "account_id": "a1b2c3d4-e5f6-7g8h-9i0j-k1l2m3n4o5p6",
    "ogmen_id": "OGM123",
    "email": "user@example.com",
    "display_name": "John Doe",
    "password_hash": "Who are you",
    "last_login_time": "2031-03-12T08:00:00Z",
    "subscription_plan": "Premium",
    "billing_cycle": "Monthly",
    "owner_id": "a1b2c3d4-owner",
    "breed": "Golden Retriever",
    "medical_history": {"allergy": "chicken"},
    "name": "Buddy",
    "veterinarian_contact": "Dr Vet, Main Road 5",
    "insurance_policy_number": "POL-778",
    "profile_photo_url": "https://photos.example.com/me.jpg",
    "emergency_instructions": "key under the mat",
    "address": {"first_line": "1 High Street", "city": "Oslo", "pincode": "0150"},
    "triggered_by": "Jane Roe",
    "privacy_enabled_by": "Jane Roe",
    "s3_path": "users_data/12345/photos/afbf86a3.jpg",
}
SECRETS = [
    *("a1b2c3d4", "OGM123", "user@example.com", "John Doe", "Who are you", "2031-03-12", "Premium", "Monthly"),
    *("Golden Retriever", "chicken", "Buddy", "Dr Vet", "POL-778", "photos.example", "under the mat"),
    *("High Street", "Oslo", "0150", "Jane Roe", "users_data"),
]


PET = """pet_name species breed pet_date_of_birth pet_age pet_sex neutered_spayed current_weight current_height
    vaccination_status next_vaccination_due_date known_medical_conditions medications next_medication_due_date
    veterinarian_contact food_type feeding_times_per_day portion_size daily_exercise_minutes sleep_routine
    living_environment household_members other_pets_at_home temperament socialization training_obedience
    play_preferences insurance_provider insurance_renewal_due_date insurance_policy_number coverage_type
    insurance_validity_start insurance_validity_end claim_contact profile_photo_url emergency_instructions special_notes
    pet_id account_id activity_level"""
ANSWERS: dict[str, tuple[str, str]] = {
    "account": (
        "account_id ogmen_id email display_name password_hash last_login_time two_factor_enabled device_id",
        "device_id",
    ),
    "subscription": (
        "subscription_id account_id subscription_plan subscription_status start_date end_date storage_limit_gb "
        "billing_cycle auto_renewal",
        "",
    ),
    "registration": ("registration_id registration_key message", "message"),
    "dog": (
        "dog_id owner_id name breed age weight medical_history activity_level dietary_preferences last_updated",
        "dog_id last_updated",
    ),
    "pet profile": (f"{PET} device_id created_at updated_at", "device_id created_at updated_at"),
    "map": (
        "map_id device_id map_name address mode resolution pgm_file s3_path",
        "map_id device_id map_name mode resolution",
    ),
    "address": ("first_line second_line city pincode country", ""),
    "presigned URL": ("status s3_path presigned_url", "status"),
}
"""Fields of answers as Ogmen's API document has them, and those of them that are neither account nor household."""
TOO_COMMON = {"name", "age", "weight", "activity_level", "start_date", "end_date"}
DOCUMENTED = sorted(
    {name for fields, kept in ANSWERS.values() for name in {*fields.split()} - {*kept.split()}} - TOO_COMMON
)


@pytest.mark.parametrize("answer", ANSWERS)
def test_of_an_answer_about_an_account_nothing_personal_is_left(answer: str) -> None:
    fields, kept = (names.split() for names in ANSWERS[answer])
    left = json.loads(account_data.clean(encode(dict.fromkeys(fields, 7))))
    assert left == dict.fromkeys(kept, 7)


def leaked(data: bytes | str) -> list[str]:
    text = data if isinstance(data, str) else data.decode(errors="replace")
    return [secret for secret in SECRETS if secret in text]


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


@pytest.mark.parametrize("spell", [str, camel, str.upper, lambda name: name.replace("_", "-")])
@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_account_field_is_dropped_however_spelt(name: str, spell: Any) -> None:
    payload = encode({"log_id": 1, "nested": [{spell(name): "Jane Roe"}]})
    assert json.loads(account_data.clean(payload)) == {"log_id": 1, "nested": [{}]}


@pytest.mark.parametrize(
    "poisoned",
    [
        encode({"battery_level": 3} | POISON),
        encode({"log_id": 1, "user": POISON, "users": [[POISON]]}),
        encode({"log_id": 1, "inner": json.dumps(POISON)}),
        encode({"log_id": 1, "inner": json.dumps(POISON)[:-3]}),
        encode({f"user.{name}": value for name, value in POISON.items()}),
        json.dumps(POISON).replace("email", "\\u0065mail").replace("display", "\\u0064isplay").encode(),
    ],
)
def test_account_data_is_dropped_wherever_it_stands(poisoned: bytes) -> None:
    assert leaked(poisoned)
    assert leaked(account_data.clean(poisoned)) == []


def test_what_is_no_account_data_stays_byte_for_byte() -> None:
    for payload in (
        b'{ "battery_level" : 85.10 }',
        b'{"room_name": "Living Room", "display_brightness": 3, "triggered_by": "System"}',
        b'{"name": "Home", "age": 3, "activity_level": "Low", "start_date": "2025-01-01"}',
    ):
        assert account_data.clean(payload) == payload


@pytest.mark.parametrize("cut", [1, 40, 333])
def test_broken_account_data_does_not_reach_the_dead_letter(cut: int) -> None:
    broken = encode({"user": POISON})[:-cut]
    (letter,) = Channel("ogmen:r").message(broken, NOW).dead_letters
    assert leaked(str(letter)) == [] and letter.payload_bytes == len(broken)
