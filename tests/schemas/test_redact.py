"""Redaction: nothing secret gets through, nothing else is touched."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.redact import NotJson, excerpt, is_secret_name, redact, redact_text
from schemas.redact_names import FieldKind, kind_of

CV50 = {
    "settings": {"beep": {"status": 0}, "robotName": {"robotName": "Talvikangas uusi"}, "lockcode": {"code": 9999}},
    "savedWifiNetworks": [{"ssid": "HRD", "mac": "24:cf:24:3f:95:ec"}],
    "wifiStatus": {
        "macAddress": "00:D6:CB:8D:F2:2C",
        "ipv6Address": "fe80::ac02:62ff:fea0:9aaf%dummy0",
        "signalStrength": -57,
        "ipv4Address": "192.168.31.129",
        "networkName": "HRD",
        "subnetMask": 0,
        "defaultGateway": "192.168.31.1",
    },
}
SECRETS = ("9999", "HRD", "24:cf:24", "00:D6", "fe80", "9aaf", "192.168")


def states(named: dict[str, Any]) -> bytes:
    """A Kärcher status, whose values are JSON in strings."""
    return json.dumps(
        {"machineId": "m", "states": [{"name": n, "value": json.dumps(v)} for n, v in named.items()]}
    ).encode()


@pytest.mark.documented
@pytest.mark.parametrize("payload", [json.dumps(CV50).encode(), states(CV50), json.dumps([[CV50]]).encode()])
def test_the_documented_secrets_of_a_cv50_are_hidden(payload: bytes) -> None:
    clean = redact(payload).decode()
    assert not [secret for secret in SECRETS if secret in clean]
    assert "-57" in clean and "Talvikangas uusi" in clean


@pytest.mark.documented
@pytest.mark.parametrize(
    ("payload", "secret", "kept"),
    [
        (
            {"commandName": "cv50_set", "commandParameters": {"keys": [{"settings.lockcode": {"code": 1234}}]}},
            "1234",
            "cv50_set",
        ),
        ({"name": "lockcode", "value": "4711"}, "4711", "lockcode"),
        ({"ssid": "HomeWiFi", "security_protocol": "WPA2", "mac_address": "1.2.3"}, "HomeWiFi", "WPA2"),
        ({"ssid": "HomeWiFi", "security_protocol": "WPA2", "mac_address": "1.2.3"}, "1.2.3", "WPA2"),
        ({"privacy_enabled_by": "Ann", "volume": 3}, "Ann", "3"),
        ({"privacy_mode_enabled_by": "Ann", "privacy_mode_enabled": True}, "Ann", "true"),
        ({"user_id": "123e4567", "activity_type": "Movement"}, "123e4567", "Movement"),
        ({"address": {"first_line": "1 High St", "city": "Leeds"}, "resolution": 0.05}, "Leeds", "0.05"),
        ({"s3_path": "users_data/maps/x/map.pgm", "mode": "trinary"}, "users_data", "trinary"),
        ({"password_hash": "Who are you", "ogmen_id": "OGM123"}, "Who", "OGM123"),
        ({"registration_key": "abc", "model": "ORo"}, "abc", "ORo"),
        ({"description": "mail to ann.b+c@example.com now"}, "example.com", "now"),
        ({"note": "joined 24-CF-24-3F-95-EC at 10.0.0.7"}, "3F-95", "joined"),
        ({"url": "https://h/x?accessToken=abcdefgh&a=1"}, "abcdefgh", "a=1"),
        ({"image": "aGVsbG8=", "w": 1}, "aGVsbG8", "w"),
        ({"frame": "QUJD" * 100, "w": 1}, "QUJDQUJD", "w"),
        ({"sensor_api_key": "sk_sensor_abc123", "ieee_address": "0x00124b001cce5a7d"}, "sk_sensor", "ieee_address"),
        ({"sensor_api_key": "sk_sensor_abc123", "ieee_address": "0x00124b001cce5a7d"}, "124b001", "ieee_address"),
    ],
)
def test_each_kind_of_secret_is_hidden(payload: dict[str, Any], secret: str, kept: str) -> None:
    for text in (
        json.dumps(payload),
        json.dumps({"data": json.dumps(payload)}),
        json.dumps(payload, ensure_ascii=True),
    ):
        clean = redact(text.encode()).decode()
        assert secret not in clean and kept in clean


@pytest.mark.documented
@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"datapoints","data":{"location":{"coordinateX":1636,"coordinateY":6355,'
        b'"mapId":"124b7f11-3d80-4a2b-b5a7-345835b2f465"}},"timestamp":1773645666755}',
        b'{ "name": "softwareVersion", "value": "1.3.23-1.1.42-1.3.22", "timestamp": "2025-02-11T18:30:44.971Z" }',
        b'{"softwareVersion":"2.2.1.0","x":0.50,"y":1e999,"z":1.0}',
        b'{"name":"machinePosistion","value":"{\\"accuracy\\":30,\\"latitude\\":51.9158493}"}',
        b'{"duration":"00:15:00","service":"98:53:50.295718","at":"12:00:00+03:00"}',
        b'{"repeatExecutionId":"1.533-002.0:020146-ad0978ae-62c2-498d-9dec-dc737200304e"}',
        b'{"connection_status":"Connected","network_type":"WIFI","signal_strength":-50,"description":"ok"}',
    ],
)
def test_what_needs_no_redaction_stays_byte_for_byte(payload: bytes) -> None:
    assert redact(payload) == payload


def test_numbers_keep_their_text_when_something_else_is_hidden() -> None:
    assert redact(b'{"x":0.50,"n":123456789012345678901234567890,"y":1E+999,"ssid":"a"}') == (
        b'{"x":0.50,"n":123456789012345678901234567890,"y":1E+999,"ssid":"[redacted]"}'
    )


def test_escaped_names_are_seen_through() -> None:
    assert b"HRD" not in redact(b'{"\\u0073sid":"HRD"}')


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not_json"),
        (b"", "not_json"),
        (b'{"a":NaN,}', "not_json"),
        (b'{"ssid":"\\ud800"}', "not_json"),
        (b'{"a":' * 900 + b"NaN" + b"}" * 900, "not_json"),
        (b"[" * 100_000, "not_json"),
        (b'"\xff"', "not_utf8"),
    ],
)
def test_what_cannot_be_parsed_is_said_so(payload: bytes, reason: str) -> None:
    with pytest.raises(NotJson) as caught:
        redact(payload)
    assert caught.value.reason == reason


def test_a_text_datapoint_is_kept_and_a_secret_one_hidden() -> None:
    assert redact_text("früh 0012".encode(), "mode") == "früh 0012".encode()
    assert redact_text(b"HomeWiFi", "ssid") == b"[redacted]"
    assert redact_text(b'{"value":"Home","timestamp":"t"}', "wifi_ssid") == b'{"value":"[redacted]","timestamp":"t"}'
    with pytest.raises(NotJson):
        redact_text(b'{"value":', "mode")


NAMES = st.sampled_from(
    [
        "ssid",
        "networkName",
        "network_name",
        "MAC",
        "macAddress",
        "ipv4Address",
        "lockcode",
        "pin",
        "email",
        "user_id",
        "password_hash",
        "accessToken",
        "api_key",
        "registration_key",
        "s3_path",
        "privacy_enabled_by",
        "client_secret",
    ]
)
SECRET = st.from_regex(r"SEC[A-Za-z0-9]{6,12}RET", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, str]:
    """A document with a secret somewhere in it, at any depth, in JSON strings too; and the secret."""
    secret = draw(SECRET)
    value: Any = {draw(NAMES): draw(st.sampled_from([secret, [secret], {"code": secret}]))}
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.integers(0, 2)):
            case 0:
                value = {**draw(st.dictionaries(TEXT, JSON, max_size=2)), "inner": value}
            case 1:
                value = [draw(JSON), value]
            case _:
                value = {"value": json.dumps(value, ensure_ascii=draw(st.booleans()))}
    return json.dumps(value, ensure_ascii=draw(st.booleans())), secret


@given(documents())
def test_no_secret_gets_through(document: tuple[str, str]) -> None:
    text, secret = document
    clean = redact(text.encode())
    assert secret not in clean.decode()
    json.loads(clean)
    assert redact(clean) == clean, "redacting twice changes nothing"


@given(JSON)
def test_what_is_parsed_means_the_same_afterwards(value: Any) -> None:
    payload = json.dumps(value).encode()
    clean = redact(payload)
    if b"[redacted]" not in clean:
        assert clean == payload


@given(documents(), st.data())
def test_no_secret_is_in_an_excerpt_of_what_cannot_be_parsed(document: tuple[str, str], data: st.DataObject) -> None:
    text, secret = document
    cut = text[: data.draw(st.integers(0, len(text)))]
    shown = excerpt(cut.encode() + b"\xff")
    assert secret not in shown
    assert secret[:8] not in shown, "nor the most of it"


@given(NAMES)
def test_names_are_secret_however_they_are_spelt(name: str) -> None:
    assert all(is_secret_name(n) for n in (name, name.upper(), f"settings.{name}", name.replace("_", "-")))


@pytest.mark.parametrize(
    "secret",
    [
        "someone@example.com",
        "192.168.31.129",
        "24:cf:24:3f:95:ec",
        "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln",
        "fe80::ac02:62ff:fea0:9aaf%dummy0",
    ],
)
def test_what_looks_like_a_secret_is_masked(secret: str) -> None:
    assert secret not in excerpt(f'{{"found": "{secret}", "broken'.encode())


@pytest.mark.parametrize(
    "text", ['{"networkName":"HRD"', '{"lockcode":{"code":9999}', '"access_token": "abc', "Bearer abc"]
)
def test_values_of_secret_names_are_masked(text: str) -> None:
    masked = excerpt(text.encode())
    assert not any(word in masked for word in ("HRD", "9999", "abc"))


def test_plain_telemetry_is_left_as_it_is() -> None:
    text = '{"type":"datapoints","data":{"location":{"coordinateX":1636,"coordinateY":6355'
    assert excerpt(text.encode()) == text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(
            (name, FieldKind.SECRET)
            for name in ("networkName", "settings.lockcode", "user_pin", "api-key", "macAddresses")
        ),
        *((name, FieldKind.WIFI_NETWORKS) for name in ("savedWifiNetworks", "wifi_list", "knownWifis")),
        *((name, FieldKind.VERSION) for name in ("fwVersion", "firmware_version")),
        *((name, FieldKind.PLAIN) for name in ("batteryLevel", "spinning", "createdBy")),
    ],
)
def test_a_name_has_one_kind_however_it_is_spelt(name: str, kind: FieldKind) -> None:
    assert kind_of(name) is kind
    assert is_secret_name(name) is (kind in (FieldKind.SECRET, FieldKind.WIFI_NETWORKS))
