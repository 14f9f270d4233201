"""Hostile messages: recorded ones, changed in their structure and in their bytes, some with a secret in them.

An input is a function of seed and number, so that a finding can be made again.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from schemas.json_reading import BOM
from tests.support.recordings import RECORDINGS, payload_of

SECRET = "SECRET471"
"""Stands for a PIN code, a Wi-Fi name, a token."""

SECRET_NAMES = (
    *("pin", "userPin", "ssid", "wifi_ssid", "networkName", "password", "secretKey", "accessToken", "doorCode", "psk"),
    *("macAddress", "ipv4Address", "lockcode", "email", "user_id", "passphrase", "savedWifiNetworks", "credentials"),
)
_NUMBERS = (
    *("1e999", "-1e999", "1e99999999999999999999", "NaN", "Infinity", "9" * 5000, "1e-999", "-0", "0.1e-7", "1E400"),
    *("18446744073709551616", "-9223372036854775809", "9" * 400, "0." + "3" * 500, "1e308", "2e308"),
)
_LEAVES: tuple[Any, ...] = (
    *(None, True, False, "", " ", "null", "0", "-1", "NaN", "1e999", "\x00", "\ufeff", "{", "[", '"', "{}", "[]"),
    *("2026-11-28T01:00:00Z", "9999-12-31T23:59:59.999999999+99:99", "0000-00-00", "PT1e9S", "P99999999999W", "٣"),
    *([], {}, [[]], [None], {"": ""}, {"value": {}}, "9" * 5000, "x" * 3000, 1 << 63, -(1 << 63), 10**30, 1.5, 0),
    *("pass" * 400, "a@" * 300, "aa:" * 300, "\\" * 500, "'\"" * 200, "eyJ" * 200, "1.2.3." * 200, "{[" * 200),
)
_TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u", b"\\ud800", b"\x00", b"\xff", b"\xef\xbb\xbf", b"NaN"),
    *(b"1e999", b"-", b"e", b".", b"null", b"\xf0\x9f\x98\x80", b"\xed\xa0\x80", b'"pin":', b'"data":', b"[" * 600),
)


@dataclass(frozen=True, slots=True)
class Input:
    """One message. `hides_a_secret` where `SECRET` stands in it such that nothing may show it."""

    payload: bytes
    hides_a_secret: bool


class _Number:
    """A number as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text


@cache
def recorded() -> tuple[Any, ...]:
    """The recorded messages that are JSON, parsed."""
    parsed = []
    for path in RECORDINGS:
        try:
            parsed.append(json.loads(payload_of(json.loads(path.read_text()))))
        except ValueError:
            continue
    return tuple(parsed)


def make_input(seed: int, number: int) -> Input:
    """The input of a number."""
    chance = random.Random(seed * 1_000_003 + number)
    value = json.loads(json.dumps(chance.choice(recorded())))
    for _ in range(chance.randrange(4)):
        value = _changed(value, chance)
    hides = chance.random() < 0.5
    if hides:
        value = _with_secret(value, chance)
    text = _wrapped(_written(value), chance)
    payload = text.encode(errors="replace")
    if hides or chance.random() < 0.3:
        return Input(payload, hides)
    for _ in range(1 + chance.randrange(4)):
        payload = _changed_bytes(payload, chance)
    return Input(payload, False)


def _written(value: Any) -> str:
    """JSON of a value; `_Number`s as they are written."""
    numbers: list[str] = []

    def default(item: _Number) -> str:
        numbers.append(item.text)
        return f"\x01{len(numbers) - 1}\x01"

    text = json.dumps(value, default=default)
    for index, number in enumerate(numbers):
        text = text.replace(f'"\\u0001{index}\\u0001"', number)
    return text


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Container and key of every value."""
    places: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting and len(places) < 300:
        container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, item in items:
            places.append((container, key))
            if isinstance(item, dict | list):
                waiting.append(item)
    return places


def _changed(value: Any, chance: random.Random) -> Any:
    """The value with one of its parts replaced, nested, quoted, doubled or dropped."""
    places = _places(value) if isinstance(value, dict | list) else []
    if not places:
        return copy.deepcopy(chance.choice(_LEAVES))
    container, key = chance.choice(places)
    match chance.randrange(6):
        case 0:
            container[key] = _Number(chance.choice(_NUMBERS))
        case 1:
            container[key] = copy.deepcopy(chance.choice(_LEAVES))
        case 2:
            container[key] = _written(container[key])
        case 3:
            container[key] = [container[key]] * chance.choice((1, 2, 50))
        case 4:
            container[key] = {chance.choice(("value", "data", "name", "", "a@b.cd")): container[key]}
        case _:
            del container[key]
    return value


def _with_secret(value: Any, chance: random.Random) -> Any:
    """The value with a member of a sensitive name somewhere in it."""
    name = chance.choice(SECRET_NAMES)
    hidden = chance.choice((SECRET, [SECRET], {"code": SECRET}, {"a": [{"b": SECRET}]}))
    member: dict[str, Any] = chance.choice(({name: hidden}, {"name": name, "value": SECRET}, {name: SECRET, "x": 1}))
    objects = [value] if isinstance(value, dict) else []
    objects += [c[k] for c, k in (_places(value) if isinstance(value, dict | list) else ()) if isinstance(c[k], dict)]
    if not objects:
        return member
    place = chance.choice(objects)
    if chance.random() < 0.3:
        place["inner"] = _written(member)
    elif not place.keys() & member.keys():
        place.update(member)
    else:
        place["more"] = member
    return value


_WRAPS: Sequence[Callable[[str], str]] = (
    lambda text: text,
    lambda text: text,
    lambda text: BOM + text,
    json.dumps,
    lambda text: json.dumps(json.dumps(text)),
    lambda text: json.dumps(BOM + text),
    lambda text: f'{{"data": {text}}}',
    lambda text: f"[{text}, {text}]",
    lambda text: f'{{"note": {json.dumps("state: " + text)}}}',
    lambda text: f"\n\t {text}  ",
)


def _wrapped(text: str, chance: random.Random) -> str:
    return chance.choice(_WRAPS)(text)


def _changed_bytes(payload: bytes, chance: random.Random) -> bytes:
    """The payload with some of its bytes cut, replaced, doubled, or others put between."""
    at = chance.randrange(len(payload) + 1)
    match chance.randrange(5):
        case 0:
            return payload[:at]
        case 1:
            return payload[:at] + chance.choice(_TOKENS) + payload[at:]
        case 2:
            return payload[:at] + bytes([chance.randrange(256)]) + payload[at + 1 :]
        case 3:
            end = min(len(payload), at + chance.choice((1, 10, 100)))
            return payload[:at] + payload[at:end] * chance.choice((0, 2, 30)) + payload[end:]
        case _:
            return payload[at:]
