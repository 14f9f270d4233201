"""Redaction cannot be walked around, hides nothing that is no secret, and takes linear time."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import redact_patterns
from schemas.json_reading import NotJson, read_json, read_values
from schemas.redact import excerpt, is_secret_name, redact, redact_text
from schemas.redact_patterns import mask, mask_unparsed

BOM = "\ufeff"


@pytest.mark.parametrize("name", ["sensors", "", "mode"])
@pytest.mark.parametrize(
    "payload",
    [
        BOM + '{"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}',
        json.dumps('{"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}'),
        json.dumps(json.dumps('{"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}')),
        json.dumps(BOM + '{"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}'),
        'state: {"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}',
        json.dumps('state: {"pin":"4711","wifi_ssid":"HomeNet","temperature":21.25}'),
        'state: {"pin":"4711","wifi_ssid":{"a":"}","b":"HomeNet"},"temperature":21.25',
        'state: {"name":"pin","value":"4711"} {"value":"HomeNet","name":"ssid"} 21.25',
        '{"pin":"4711","pin":null,"wifi_ssid":"HomeNet","wifi_ssid":null,"temperature":21.25}',
        '{"pin":4711,"wifi_ssid":["HomeNet"],"temperature":21.25,"x":NaN}',
    ],
)
def test_secrets_are_hidden_in_whatever_form_json_comes(payload: str, name: str) -> None:
    clean = redact_text(payload.encode(), name).decode()
    assert "4711" not in clean and "HomeNet" not in clean and "21.25" in clean
    assert redact_text(clean.encode(), name).decode() == clean, "redacting twice changes nothing"


@pytest.mark.parametrize(
    "name",
    [
        *("secretKey", "accessKey", "passphrase", "psk", "pwd", "userPin", "passcode", "doorCode", "credentials"),
        *("wifi_network", "user_pin", "USER-PIN", "settings.userPin", "access_code", "newPassword", "authKey"),
    ],
)
def test_names_that_were_missed(name: str) -> None:
    assert is_secret_name(name)
    assert b"4711" not in redact(json.dumps({name: "4711"}).encode())
    assert "4711" not in excerpt(f'{{"{name}": "4711"'.encode())


@pytest.mark.parametrize(
    "name",
    [
        *("errorCode", "status_code", "treatBin", "spinning", "keyboard", "machineId", "wifiSignal", "compass"),
        *("publicKey", "batteryKey", "bypass", "network_type", "networkStatus", "timestamp", "opinion"),
    ],
)
def test_names_that_are_none(name: str) -> None:
    assert not is_secret_name(name)
    payload = json.dumps({name: "4711"}).encode()
    assert redact(payload) == payload


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Authorization: bearer abc.def", "abc.def"),
        ("https://h/blob?sv=1&sig=a%2Fb", "a%2Fb"),
        ("https://h/#access_token=abcdef", "abcdef"),
        ("at 2001:0db8:0000:0000:0000:ff00:0042:8329 now", "8329"),
        ("mapped ::ffff:192.168.3.4", "168"),
        ("joined from 10.0.0.7.", "10.0.0.7"),
        ("the PIN: 4711", "4711"),
        ("password=hunter2 and more", "hunter2"),
    ],
)
def test_patterns_that_were_missed(text: str, secret: str) -> None:
    for payload in ({"note": text}, {"inner": json.dumps({"note": text})}):
        assert secret not in redact(json.dumps(payload).encode()).decode()
    assert secret not in redact_text(text.encode(), "note").decode()


def test_addresses_as_names_of_members_are_hidden_and_none_is_lost() -> None:
    clean = json.loads(redact(b'{"24:cf:24:3f:95:ec":1,"ann@example.com":2,"[redacted]":3,"rssi":-50}'))
    assert list(clean) == ["[redacted]", "[redacted]-2", "[redacted]-3", "rssi"]
    assert list(clean.values()) == [1, 2, 3, -50]


@pytest.mark.parametrize(
    "networks",
    [
        [{"name": "HomeNet"}],
        [{"wifi": "HomeNet"}],
        ["HomeNet"],
        {"HomeNet": {"rssi": -50}},
        {"list": [{"x": [{"y": "HomeNet"}]}]},
    ],
)
@pytest.mark.parametrize("name", ["savedWifiNetworks", "known_networks", "wifi_networks"])
def test_saved_networks_are_names_in_whatever_member(networks: Any, name: str) -> None:
    inner = json.dumps(networks)
    for payload in (
        {name: networks},
        {name: inner},
        {"states": [{"name": name, "value": inner, "timestamp": "2026-11-28T01:00:00Z"}]},
    ):
        clean = redact(json.dumps(payload).encode()).decode()
        assert "HomeNet" not in clean
        json.loads(clean)
    shown = json.loads(redact(json.dumps({"name": name, "value": inner}).encode()))["value"]
    assert type(json.loads(shown)) is type(networks), "a normaliser can still count them"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"name":"softwareVersion","value":"1.3.23.4"}',
        b'{"softwareVersion":{"value":"1.3.23.4","parts":["1.3.23.4"]}}',
        b'{"states":[{"name":"softwareVersion","value":"{\\"a\\":\\"1.3.23.4\\"}"}]}',
        b'{"description":"updated to version 1.3.23.4, firmware v2.0.0.1"}',
        b'{"os_version":"10.0.0.7","fw":"1.2.3.4"}',
        b'{"privacy_mode_enabled_by":"MAPP","privacy_enabled_by":"System"}',
    ],
)
def test_what_is_no_secret_stays(payload: bytes) -> None:
    assert redact(payload) == payload


@pytest.mark.parametrize(
    "number", ["NaN", "-Infinity", "1e999", "1e99999999999999999999", "9" * 5000, "-" + "9" * 5000, "0.50"]
)
def test_numbers_that_no_double_holds_cost_nothing_else(number: str) -> None:
    clean = redact(f'{{"pin":1,"value":{number}}}'.encode())
    assert clean == f'{{"pin":"[redacted]","value":{number}}}'.encode()
    assert list(read_json(clean)) == list(read_values(clean)) == ["pin", "value"]


SHAPES: dict[str, Callable[[int], str]] = {
    "names in a name": lambda n: '{"note":"{%s}"}' % ("pass" * (n // 4)),
    "letters": lambda n: '"%s"' % ("a" * n),
    "dotted": lambda n: '"%s"' % ("a." * (n // 2)),
    "at signs": lambda n: '"%s"' % ("a@" * (n // 2)),
    "short base64": lambda n: '"%s"' % (("A" * 199 + " ") * (n // 200)),
    "colons": lambda n: '"%s"' % ("a:" * (n // 2)),
    "addresses": lambda n: '"%s"' % ("aa:aa:aa:aa:aa:" * (n // 15)),
    "names": lambda n: '"{%s"' % ("pinx:" * (n // 5)),
    "brackets": lambda n: '"{pin:%s"' % ("{[" * (n // 2)),
    "quotes": lambda n: '"{pass%s"' % ("'" * n),
    "spaces": lambda n: '"bearer{pass%s"' % (" " * n),
    "backslashes": lambda n: '"{pin:%s"' % ("\\\\" * (n // 2)),
    "keys": lambda n: json.dumps({f"a@{number}": 1 for number in range(n // 9)}),
    "versions": lambda n: '"%s"' % ("v 1.2.3.4 " * (n // 10)),
    "queries": lambda n: '"%s"' % ("?sig=&" * (n // 6)),
    "arrays in text": lambda n: '"x%s"' % ("[1]" * (n // 3)),
    "open arrays": lambda n: "[" * n,
    "digits": lambda n: "9" * n,
}


def seconds(work: Callable[[], object]) -> float:
    """The least CPU time of three runs."""
    times = []
    for _ in range(3):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)


def clean_or_not(payload: bytes) -> None:
    with contextlib.suppress(NotJson):
        redact(payload)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "work",
    [
        clean_or_not,
        lambda payload: excerpt(payload, len(payload)),
        lambda payload: mask(payload.decode()),
        lambda payload: mask_unparsed(payload.decode(), "breed|first_line"),
        lambda payload: redact_text(b"note: " + payload, "note"),
    ],
    ids=["redact", "excerpt", "mask", "mask_unparsed", "redact_text"],
)
def test_time_grows_with_the_length_and_not_faster(shape: str, work: Callable[[bytes], object]) -> None:
    small, large = (SHAPES[shape](n).encode() for n in (16_000, 64_000))
    least = seconds(lambda: work(small))
    most = seconds(lambda: work(large))
    assert most < 7 * least + 0.005, "four times the length takes four times as long, sixteen if quadratic"
    assert most < 0.5


PIECES = st.sampled_from(
    [
        "pass",
        "pin",
        "{",
        "}",
        "[",
        "]",
        '"',
        "'",
        "\\",
        ":",
        "=",
        " ",
        "@",
        ".",
        "a",
        "1",
        "::",
        "bearer ",
        "?sig=",
        "eyJ",
    ]
)


@settings(deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=12), st.integers(200, 2000))
def test_no_repetition_of_pieces_takes_long(pieces: list[str], times: int) -> None:
    text = "".join(pieces) * times
    started = time.process_time()
    clean_or_not(json.dumps(text).encode())
    excerpt(text.encode(), len(text))
    assert time.process_time() - started < 0.2 + 2e-5 * len(text)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_pin_is_hidden_whatever_text_is_around_it(before: str, after: str) -> None:
    payload = (before + '{"pin":"SECRET471","t":1}' + after).encode(errors="replace")
    try:
        shown = redact_text(payload, "note").decode()
    except NotJson:
        shown = excerpt(payload)
    assert "SECRET471" not in shown


@given(st.text(st.sampled_from('piPIıİnNsſSkKKoOtTeE:="\\ _-xΣσς1') | st.characters(), max_size=60))
def test_letters_of_any_case_name_a_secret(text: str) -> None:
    """The search in folded text finds what a search without regard to case does."""
    pattern = redact_patterns._candidates(False, "breed")
    regardless = re.compile(f"(?i){pattern.pattern}")
    folded = redact_patterns._folded(text)
    assert len(folded) == len(text)
    assert [m.span() for m in pattern.finditer(folded)] == [m.span() for m in regardless.finditer(text)]
