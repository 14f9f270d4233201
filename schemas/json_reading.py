"""Reading JSON as vendors write it, the same way for redaction, connectors and normalisers (pure).

Beyond RFC 8259, a byte order mark before the text is skipped, and `NaN`, infinities and numbers that no double holds
are read, so that they cost their field and not the message. Strings must be Unicode: a lone surrogate is no text.
Whatever is wrong is a `NotJson`; nothing else is raised.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

BOM = "\ufeff"
_BOM_BYTES = BOM.encode()
_LONGEST_INTEGER = 400
"""Digits. A double has at most 309 before the point, and reading an integer takes time quadratic in its length."""


class NotJson(ValueError):
    """The payload is not JSON in UTF-8: `reason` is the code for the dead letter, the text says where it broke."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Verbatim:
    """JSON whose numbers are kept as they are written: each that is no plain integer is a `msgspec.Raw`."""

    value: Any
    repeats_names: bool
    """Whether an object has a name twice; `value` has the last member, the text has both."""


def without_bom(payload: bytes) -> bytes:
    """The payload without the byte order marks before it."""
    while payload.startswith(_BOM_BYTES):
        payload = payload[len(_BOM_BYTES) :]
    return payload


def read_json(payload: bytes) -> Any:
    """Any JSON value. A number that no double holds is a `msgspec.Raw` of its text, so that it can be written again.

    Raises NotJson.
    """
    return _read(payload, _KEPT)


def read_values(payload: bytes) -> Any:
    """Any JSON value. A number that no double holds is an infinity or NaN. Raises NotJson."""
    return _read(payload, _VALUES)


def read_verbatim(text: str) -> Verbatim:
    """Any JSON value with its numbers as they are written. Raises NotJson."""
    repeated: list[bool] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            repeated.append(True)
        return fields

    decoder = json.JSONDecoder(
        object_pairs_hook=members, parse_float=_raw, parse_int=_integer_or_raw, parse_constant=_raw
    )
    return Verbatim(_checked(text, decoder), bool(repeated))


def elements(payload: bytes) -> list[bytes]:
    """The elements of an array, byte for byte where it is JSON by the letter. NotJson where it is no array."""
    try:
        return [bytes(raw) for raw in msgspec.json.decode(payload, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = read_verbatim(text_of(payload)).value
    if not isinstance(value, list):
        raise NotJson("wrong_type", "an array is due")
    return [encode(item) for item in value]


def members(payload: bytes) -> dict[str, bytes]:
    """The members of an object, byte for byte where it is JSON by the letter. NotJson where it is no object."""
    try:
        fields = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
        return {name: bytes(raw) for name, raw in fields.items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        value = read_verbatim(text_of(payload)).value
    if not isinstance(value, dict):
        raise NotJson("wrong_type", "an object is due")
    return {name: encode(item) for name, item in value.items()}


def text_of(payload: bytes) -> str:
    """The payload as text, without byte order marks. NotJson where it is not UTF-8."""
    try:
        return payload.decode().lstrip(BOM)
    except UnicodeDecodeError as error:
        raise NotJson("not_utf8", f"byte {error.start}") from error


def path_of_a_number_beyond_doubles(value: Any, path: str = "") -> str | None:
    """Where `read_json` found a number that no double holds, such as `readings.0.value`; None where there is none."""
    if isinstance(value, msgspec.Raw):
        return path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    paths = (path_of_a_number_beyond_doubles(item, f"{path}.{name}" if path else str(name)) for name, item in items)
    return next((wrong for wrong in paths if wrong is not None), None)


def encode(value: Any) -> bytes:
    """The JSON of what `read_json` and `read_verbatim` read."""
    return _encode(value)


def _read(payload: bytes, lenient: json.JSONDecoder) -> Any:
    try:
        return msgspec.json.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _checked(text_of(payload), lenient)


def _checked(text: str, decoder: json.JSONDecoder) -> Any:
    try:
        value = decoder.decode(text)
        _encode(value)  # an escaped lone surrogate is no text: nothing could write it
    except RecursionError as error:
        raise NotJson("not_json", "nested too deeply") from error
    except ValueError as error:
        raise NotJson("not_json", str(error)[:200]) from error
    return value


def _raw(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _integer_or(other: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: int(text) if len(text) <= _LONGEST_INTEGER else other(text)


_integer_or_raw = _integer_or(_raw)


def _float_or_raw(text: str) -> float | msgspec.Raw:
    value = float(text)
    return value if math.isfinite(value) else _raw(text)


_KEPT = json.JSONDecoder(parse_float=_float_or_raw, parse_int=_integer_or_raw, parse_constant=_raw)
_VALUES = json.JSONDecoder(parse_float=float, parse_int=_integer_or(float), parse_constant=float)
_encode = msgspec.json.Encoder().encode
