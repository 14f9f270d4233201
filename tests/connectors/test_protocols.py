"""The pure protocols with the documented payloads, and the limits."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.climasense.protocol import Provisioned, bearer, is_newer, read_keys, telemetry, version_key
from connectors.common.connection_state import ConnectionState
from connectors.common.rate_limits import RateWindow, reserve
from connectors.karcher import protocol as karcher
from connectors.karcher.settings import KarcherSettings
from connectors.wayscloud import objects
from connectors.wayscloud import protocol as wayscloud
from connectors.wayscloud.protocol import Inbox, Packet
from runtime.api_keys import hash_key
from runtime.backoff import Backoff
from schemas.climasense import SENSOR_TYPES
from schemas.envelope import GAP
from schemas.wire import Origin
from streams.normalise import Options, normalise

NOW = datetime(2026, 3, 30, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)

SPECIFICATION = {
    "machineId": "taPi9tj3PFLY6wrdDVp8A6",
    "generic": {
        "deviceType": "cleaning_machine",
        "registrationDate": "2022-01-26T18:30:44.971Z",
        "manufacturer": "Kaercher",
        "model": "B 40 W DOSE",
        "serial": "1.259-010.2;012199",
        "serialNumber": "012199",
        "materialNumber": "1.259-010.2",
        "resourceOwnerAssetId": "B40 at AKW",
    },
}
REPORT = {
    "reportId": "1.533-002.0-001004-repdahaedfksdj",
    "machineId": "bWDsBhPuVFP3ekfWS49yUg",
    "materialNumber": "1.533-001.0",
    "serialNumber": "000001",
    "battery": 0.24575998535156252,
    "finishedAt": "2024-01-30T10:51:17.800Z",
}
DATAPOINTS = (
    b'{ "type": "datapoints", "data": { "location": { "coordinateX": 1636, "coordinateY": 6355,'
    b' "mapId": "124b7f11-3d80-4a2b-b5a7-345835b2f465" } }, "timestamp": 1773645666755 }'
)
DEVICES = {"bWDsBhPuVFP3ekfWS49yUg": "karcher:1.533-001.0/000001"}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


# -- Kärcher


@pytest.mark.documented
def test_karcher_specifications_name_the_device() -> None:
    body = encode({"data": [SPECIFICATION], "pageInfo": {"totalCount": 9, "hasNextPage": True, "endCursor": "c"}})
    page = karcher.read_page(body)
    machine = karcher.read_machine(page.items[0], NOW)
    assert page.next_cursor == "c"
    assert machine.device_id == "karcher:1.259-010.2/012199"
    assert (machine.device.name, machine.device.model) == ("B40 at AKW", "B 40 W DOSE")
    assert machine.device.attributes["machineId"] == "taPi9tj3PFLY6wrdDVp8A6"


def test_karcher_takes_serial_where_the_numbers_are_missing_and_refuses_the_nameless() -> None:
    generic = {"serial": "1.259-010.2;012199"}
    machine = karcher.read_machine(encode({"machineId": "m", "generic": generic}), NOW)
    assert machine.device_id == "karcher:1.259-010.2/012199"
    for bad in ({}, {"machineId": "m"}, {"machineId": "m", "generic": None}, [], 3):
        with pytest.raises(karcher.AnswerError):
            karcher.read_machine(encode(bad), NOW)


@pytest.mark.documented
def test_karcher_status_page_keeps_elements_and_errors() -> None:
    element = b'{ "machineId": "bWDsBhPuVFP3ekfWS49yUg", "states": [ ] }'
    page = karcher.read_page(
        b'{"data":[' + element + b'],"errors":[{"machineId":"aW4iKdShK2RhgxuFmYZ18k","message":"invalidDevice"}]}'
    )
    assert (page.items, page.errors) == ([element], [("aW4iKdShK2RhgxuFmYZ18k", "invalidDevice")])
    one, two = (karcher.status(element, DEVICES, at).envelopes[0] for at in (NOW, LATER))
    assert one.data == element and one.id == two.id, "an unchanged status is the same message"
    assert karcher.read_page(b"[]").items == [] and karcher.read_page(b"{}").items == []


def test_karcher_unknown_machine_is_a_replayable_dead_letter() -> None:
    item = encode({"machineId": "nobody", "states": []})
    message = karcher.status(item, DEVICES, NOW)
    assert not message.envelopes
    assert message.dead_letters[0].problems[0].reason == "unknown_machine"
    assert message.dead_letters[0].payload.encode() == item


@pytest.mark.documented
def test_karcher_socket_messages_go_on_byte_for_byte() -> None:
    (envelope,) = karcher.socket_message(DATAPOINTS, "karcher:1.454-500.0/002005", NOW, 1).envelopes
    assert (envelope.data, envelope.type) == (DATAPOINTS, "karcher.datapoints")
    assert envelope.time == datetime(2026, 3, 16, 7, 21, 6, 755000, tzinfo=UTC)
    (again,) = karcher.socket_message(DATAPOINTS, "karcher:1.454-500.0/002005", LATER, 2).envelopes
    (other,) = karcher.socket_message(DATAPOINTS, "karcher:other", NOW, 1).envelopes
    assert again.id == envelope.id != other.id


def test_karcher_equal_messages_without_a_time_are_not_repeats() -> None:
    ids = {
        karcher.socket_message(b'{"type":"datapoints","data":{}}', "karcher:a", NOW, n).envelopes[0].id for n in (1, 2)
    }
    assert len(ids) == 2


@pytest.mark.documented
def test_karcher_report_is_the_same_by_socket_and_by_rest() -> None:
    by_rest = karcher.cleaning_report(encode(REPORT), DEVICES, NOW).envelopes[0]
    turned = dict(reversed(REPORT.items()))
    message = {"type": "datapoints", "data": {"cleaningReport": turned, "robotStatus": "Idle"}, "timestamp": 1}
    report, rest = karcher.socket_message(encode(message), "karcher:1.533-001.0/000001", LATER, 1).envelopes
    assert (report.id, report.type) == (by_rest.id, "karcher.cleaning.report")
    assert json.loads(rest.data) == {"type": "datapoints", "data": {"robotStatus": "Idle"}, "timestamp": 1}
    alone = {**message, "data": {"cleaningReport": turned}}
    assert len(karcher.socket_message(encode(alone), "karcher:1.533-001.0/000001", NOW, 1).envelopes) == 1
    changed = karcher.cleaning_report(encode({**REPORT, "battery": 0.3}), DEVICES, NOW).envelopes[0]
    assert changed.id != by_rest.id


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"", b'{"a":NaN,}', b'{"type":"datapoints","da' + b"x" * 1_048_576])
def test_karcher_unparsable_is_a_dead_letter_of_the_connector(payload: bytes) -> None:
    (letter,) = karcher.socket_message(payload, "karcher:a", NOW, 1).dead_letters
    assert (letter.stage, letter.device_id, letter.payload_bytes) == ("connector", "karcher:a", len(payload))
    assert len(letter.payload) < 600


@pytest.mark.parametrize("payload", [b"3", b"[]", b'"text"', b'{"data":7}', b'{"data":{"cleaningReport":"x"}}'])
def test_karcher_odd_json_goes_raw(payload: bytes) -> None:
    assert [e.data for e in karcher.socket_message(payload, "karcher:a", NOW, 1).envelopes] == [payload]


@pytest.mark.documented
def test_karcher_notification_identity() -> None:
    fields = {"machineId": "bWDsBhPuVFP3ekfWS49yUg", "category": "c", "code": "999998", "type": "Reminder"}
    fields |= {"recordedAt": "2025-02-10T07:00:42.582Z", "severity": "Major", "status": "open", "data": "{broken"}
    one = karcher.notification(encode(fields), DEVICES, NOW).envelopes[0]
    assert karcher.notification(encode(fields), DEVICES, LATER).envelopes[0].id == one.id
    assert karcher.notification(encode({**fields, "status": "closed"}), DEVICES, NOW).envelopes[0].id != one.id


def test_karcher_urls() -> None:
    settings = KarcherSettings()
    assert settings.urls[0] == "https://auth.fds.kaercher.com/oauth2/token"
    url = karcher.socket_url(settings.urls[2], "1.454-500.0", "00 2005", "a+b/c=")
    assert url.endswith("?materialNumber=1.454-500.0&serialNumber=00+2005&accessToken=a%2Bb%2Fc%3D")
    assert settings.is_robotic("1.454-505.0") and settings.is_robotic("1.533-014.0")
    assert not settings.is_robotic("1.259-010.2")
    assert [len(c) for c in karcher.chunks([str(n) for n in range(21)])] == [10, 10, 1]


# -- WAYSCloud


@pytest.mark.parametrize(
    ("topic", "device"),
    [
        ("devices/sensor-001/sensors/temperature", "sensor-001"),
        ("devices/a b:ä/sensors/all", "a b:ä"),
        ("devices/x/sensors/floor/3", "x"),
        ("devices//sensors/t", None),
        ("other/x/sensors/t", None),
        ("devices/x", None),
    ],
)
def test_wayscloud_device_of_a_topic(topic: str, device: str | None) -> None:
    assert wayscloud.native_id(topic, ["$share/g/devices/+/sensors/#"]) == device


def test_wayscloud_redelivery() -> None:
    inbox = Inbox(["devices/+/sensors/#"])

    def identity(payload: bytes, at: datetime, dup: bool = False) -> str:
        return inbox.packet(Packet("devices/a/sensors/t", payload, False, dup), at).envelopes[0].id

    assert identity(b"1", NOW) != identity(b"1", NOW), "equal values without a time are two readings"
    last = identity(b"1", LATER)
    assert identity(b"1", LATER, dup=True) == last, "but a packet with DUP set is one of them"
    assert identity(b"2", NOW, dup=True) != last, "of which nothing like it was seen is news"
    timed = b'{"value":1,"timestamp":"2026-03-30T09:55:00Z"}'
    assert identity(timed, NOW) == identity(timed, LATER)
    assert inbox.packet(Packet("devices/a/sensors/t", b"1", True, False), NOW).left_out == "retained"


def test_wayscloud_packets_are_told_apart_by_their_identifier() -> None:
    inbox = Inbox(["devices/+/sensors/#"])

    def identity(number: int, dup: bool = False) -> str:
        packet = Packet("devices/a/sensors/t", b"1", False, dup, f"fleetlake/{number}")
        return inbox.packet(packet, NOW).envelopes[0].id

    first = identity(1)
    assert identity(1, dup=True) == first
    assert identity(2, dup=True) != first, "equal in content, but its first delivery never came"


def test_wayscloud_definitions_go_with_the_packet() -> None:
    inbox = Inbox(
        ["devices/+/sensors/#"], {"t": objects.Datapoint("dp-1", "°F", "number"), "x": objects.Datapoint("2")}
    )

    def attached(topic: str, payload: bytes) -> str | None:
        packet = Packet(topic, payload, False, False)
        return inbox.packet(packet, NOW).envelopes[0].attributes.get("datapoints")

    assert attached("devices/a/sensors/t", b"1") == '{"t":{"id":"dp-1","unit":"°F","type":"number"}}'
    both = attached("devices/a/sensors/all", b'{"t": 1, "x": 2, "y": 3}')
    assert both is not None and set(json.loads(both)) == {"t", "x"}
    assert attached("devices/a/sensors/y", b"1") is None


def test_wayscloud_subscriptions() -> None:
    filters = ["devices/+/sensors/#", "own/+/+"]
    assert wayscloud.subscriptions(filters) == tuple(filters)
    assert wayscloud.subscriptions(filters, "g") == ("$share/g/devices/+/sensors/#", "$share/g/own/+/+")
    assert wayscloud.subscriptions(filters, device="s 1") == ("devices/s 1/sensors/#", "own/s 1/+")


# -- ClimaSense


def test_climasense_keys() -> None:
    digest = hash_key("k")
    assert read_keys(json.dumps({"a:b": digest.upper()}), toml=False) == [Provisioned("a:b", digest)]
    full = {"sha256": digest, "role": "hub", "batch": "b1", "serial_number": "s"}
    assert read_keys(json.dumps({"a": full}), toml=False) == [Provisioned("a", digest, "hub", "b1", "s")]
    assert read_keys(f'["a.b"]\nsha256 = "{digest}"\nrole = "sensor"', toml=True) == [
        Provisioned("a.b", digest, "sensor")
    ]
    wrong = [full | {"role": "king"}, full | {"batch": 3}, full | {"colour": "red"}, {"role": "hub"}]
    for bad in (
        *('{"a": 3}', '{"a": "k"}', "[]", "{", f'{{"a": "{digest}", "b": "{digest}"}}', f'{{"": "{digest}"}}'),
        *(json.dumps({"a": entry}) for entry in wrong),
    ):
        with pytest.raises(ValueError) as caught:
            read_keys(bad, toml=False)
        assert digest not in str(caught.value)
    assert [bearer(h) for h in ("Bearer k", "bearer  k ", "Basic k", "Bearer", None)] == ["k", "k", None, None, None]


VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2, 2) | st.just(10**400)
    | st.sampled_from(["23.5", " -1e3 ", "1e999", "warm", "true", "0", "", "nan", "1" * 500])
    | st.just([1]) | st.just({})
)  # fmt: skip
TIMES: st.SearchStrategy[object] = st.sampled_from(
    [
        None,
        "2026-03-29T12:00:00Z",
        "2026-03-29T12:00:00+03",
        "yesterday",
        "",
        7,
        1774785600000,
        "1774785600000",
        10**30,
        [],
    ]
)
TYPES = st.sampled_from([*SENSOR_TYPES, "radon", " ", "", "x" * 201, None, 3])


@given(TYPES, VALUES, TIMES, st.booleans())
def test_what_climasense_is_told_to_be_accepted_is_what_the_normaliser_takes(
    kind: object, value: object, time: object, whole: bool
) -> None:
    reading = {"sensor_type": kind, "value": value, "timestamp": time}
    body = json.dumps({"readings": [reading if whole else {k: v for k, v in reading.items() if v is not None}, 7]})
    taken = telemetry(body.encode(), "climasense:d", NOW, 1)
    result = normalise(taken.envelope, Origin("t", 0, 0), Options())
    assert taken.accepted == (len(result.observation.readings) if result.observation else 0)
    assert result.dead_letter is not None, "7 is no reading"
    kept = [p for p in result.dead_letter.problems if not p.path.startswith("readings[1]")]
    assert taken.accepted or kept or value is None, "what is not accepted is a dead letter"


def test_climasense_versions_are_ordered_as_semantic_versions() -> None:
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "1.2.9", "1.10", "v2.0.0+build.7", "10.0.0.1"]
    keys = [version_key(text) for text in ordered]
    assert None not in keys and sorted(keys) == keys and len(set(keys)) == len(keys)  # type: ignore[type-var]
    assert version_key("1.3") == version_key("1.3.0") and version_key("tuesday") is None
    assert is_newer("1.3.0", "1.2.9") and not is_newer("1.3.0", "1.3.0") and not is_newer("1.3.0", "1.10.0")
    assert is_newer("1.3.0", "factory") and is_newer("2.0.0", "")


# -- limits


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5), st.floats(0.5, 10))
def test_no_window_ever_holds_more_reservations_than_allowed(gaps: list[float], limit: int, window: float) -> None:
    now, times, granted = 1000.0, [], []
    for gap in gaps:
        now += gap
        at, times = reserve(times, now, limit, window)
        assert at >= now
        granted.append(at)
    for start, end in zip(granted, granted[limit:], strict=False):
        assert end - start >= window - 1e-6


def test_a_clock_that_was_set_back_does_not_block_for_ever() -> None:
    _, times = reserve([], 1_000_000.0, 1, 10)
    at, _ = reserve(times, 1000.0, 1, 10)
    assert at == 1000.0


def test_rate_windows_forget_the_silent() -> None:
    window = RateWindow(2, 60)
    assert [window.check("a", t) for t in (0, 1)] == [0, 0]
    assert window.check("a", 2) == pytest.approx(58)
    assert window.check("a", 61) == 0
    assert window.check("b", 200) == 0 and "a" not in window._seen


def test_backoff_grows_jitters_and_is_capped() -> None:
    backoff = Backoff(base=1, cap=8)
    assert [backoff.next(0.0) for _ in range(5)] == [0.5, 1, 2, 4, 4]
    assert backoff.next(0.999) <= 8
    backoff.reset()
    assert backoff.next(0.5) == 0.75


def test_a_gap_during_which_the_clock_was_set_back_does_not_end_before_it_begins() -> None:
    connection = ConnectionState("ogmen", "websocket", "ogmen:r")
    connection.connected(LATER)
    connection.lost(LATER, "closed, code 1006")
    gap = connection.connected(NOW)
    assert gap is not None and (gap.start, gap.end) == (NOW, NOW)
    connection.closed()


def test_a_connection_gives_its_gap_once() -> None:
    connection = ConnectionState("ogmen", "websocket", "ogmen:r")
    connection.lost(NOW, "refused")
    assert connection.connected(NOW) is None, "never connected before: nothing is known to be missing"
    connection.lost(NOW, "closed, code 1006")
    connection.lost(LATER, "refused")
    gap = connection.connected(LATER)
    assert gap is not None and connection.connected(LATER) is None
    envelope = gap.envelope("ogmen:r")
    assert envelope.type == GAP and json.loads(envelope.data) == {
        "from": "2026-03-30T10:00:00Z",
        "to": "2026-03-30T10:00:01Z",
        "reason": "closed, code 1006",
        "channel": "websocket",
    }
    connection.closed()
