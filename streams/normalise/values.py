"""Reading single values as vendors write them: numbers in strings, ratios, durations, times, JSON in strings (pure).

Every function takes one JSON value that is not null and returns it typed, or raises `FieldError`. Scaling is done in
decimal arithmetic: the ratio `"0.55"` is exactly 55 % (docs/contract.md, «Values»).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from schemas.json_reading import NotJson, read_values
from schemas.timestamps import parse_moment


class FieldError(ValueError):
    """A value that cannot be used. `reason` is a code of `records.Problem`, `detail` describes the value."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def shown(value: object) -> str:
    """A value, short, for the detail of a problem."""
    text = repr(value) if len(str(value)) <= 60 else f"{str(value)[:60]!r}…"
    return f"{type(value).__name__} {text}"


_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
_NOT_FINITE = re.compile(r"\s*[+-]?(nan|inf(inity)?)\s*", re.ASCII | re.IGNORECASE)
_LONGEST_NUMBER = 400


def decimal_text(text: str) -> Decimal:
    """The number a text spells; FieldError where it spells none."""
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        try:
            return Decimal(text.strip())
        except ArithmeticError as error:  # an exponent that decimal arithmetic does not hold
            raise FieldError("not_finite", shown(text)) from error
    if _NOT_FINITE.fullmatch(text):
        raise FieldError("not_finite", shown(text))
    raise FieldError("wrong_type", f"a number is due, found {shown(text)}")


def decimal(value: Any) -> Decimal:
    """Any number as the decimal its digits spell; booleans are not numbers."""
    if isinstance(value, str):
        return decimal_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise FieldError("wrong_type", f"a number is due, found {shown(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise FieldError("not_finite", str(value))
    return Decimal(repr(value) if isinstance(value, float) else value)


def finite(value: Decimal | float | int) -> float:
    """The nearest double; FieldError beyond its range."""
    try:
        result = float(value)
    except OverflowError as error:
        raise FieldError("not_finite", "beyond the range of a double") from error
    if not math.isfinite(result):
        raise FieldError("not_finite", "beyond the range of a double")
    return result


def number(value: Any) -> float:
    """A finite number, given as such or as text."""
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int:
        return finite(value)
    return finite(decimal(value))


def scaled(factor: str) -> Callable[[Any], float]:
    """A parser of numbers that multiplies by `factor`, in decimal arithmetic."""
    multiplier = Decimal(factor)

    def parse(value: Any) -> float:
        try:
            return finite(decimal(value) * multiplier)
        except ArithmeticError as error:
            raise FieldError("not_finite", shown(value)) from error

    return parse


class Divided:
    """A parser of numbers that divides. The quotient of two integers is correctly rounded without `Decimal`."""

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        self._general = scaled(str(Decimal(1) / divisor))

    def __call__(self, value: Any) -> float:
        """The quotient; FieldError where the value is no number."""
        if type(value) is int and -(1 << 53) < value < 1 << 53:
            return value / self.divisor
        return self._general(value)


percent = scaled("100")
"""A ratio (0 to 1) as percent."""


def degrees(value: Any) -> float:
    """An angle in degrees, brought into (−180, 180]."""
    return wrap_degrees(number(value))


def wrap_degrees(angle: float) -> float:
    """The same direction in (−180, 180]."""
    wrapped = math.remainder(angle, 360.0)
    return 180.0 if wrapped == -180.0 else wrapped


def boolean(value: Any) -> bool:
    """A boolean as such, as `"true"`/`"false"` in any case, or as 1/0."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and (word := value.strip().lower()) in ("true", "false", "1", "0"):
        return word in ("true", "1")
    if isinstance(value, int | float) and value in (0, 1):
        return value == 1
    raise FieldError("wrong_type", f"a boolean is due, found {shown(value)}")


def text(value: Any) -> str:
    """A text; numbers are taken too (ids), objects, arrays and booleans are not."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise FieldError("wrong_type", f"a text is due, found {shown(value)}")


_encode_json = msgspec.json.Encoder(order="sorted").encode


def json_text(value: Any) -> str:
    """A structured value as JSON text with sorted keys, NaN as null; JSON inside a string is read first."""
    return dump_json(structured(value))


def dump_json(value: Any) -> str:
    """JSON text with sorted keys: equal values have equal text."""
    return _encode_json(value).decode()


def structured(value: Any) -> Any:
    """An object or array, given as such or as JSON inside a string."""
    parsed = load_json(value.encode()) if isinstance(value, str) else value
    if not isinstance(parsed, dict | list):
        raise FieldError("wrong_type", f"an object or array is due, found {shown(parsed)}")
    return parsed


def mapping(value: Any) -> dict[str, Any]:
    """An object, given as such or as JSON inside a string."""
    if type(value) is dict:
        return value
    parsed = structured(value)
    if not isinstance(parsed, dict):
        raise FieldError("wrong_type", f"an object is due, found {shown(parsed)}")
    return parsed


def member(members: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A member that must be there and be an object."""
    value = members.get(name)
    if value is None:
        raise FieldError("missing", name)
    if not isinstance(value, dict):
        raise FieldError("wrong_type", f"{name}: an object is due, found {shown(value)}")
    return value


def load_json(data: bytes) -> Any:
    """Any JSON value. FieldError `not_utf8` or `not_json`.

    `NaN`, `Infinity` and numbers beyond a double are not JSON but common; they are read as such, so that they cost
    their field and not the message.
    """
    try:
        return read_values(data)
    except NotJson as error:
        raise FieldError(error.reason, str(error)) from error


_ISO_DURATION = re.compile(
    r"([+-])?P(?:(\d+(?:[.,]\d+)?)W)?(?:(\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?:(\d+(?:[.,]\d+)?)H)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)S)?)?",
    re.ASCII,
)
_CLOCK_DURATION = re.compile(r"(-)?(?:(\d+) days?, )?(\d+):([0-5]?\d):([0-5]?\d(?:\.\d+)?)", re.ASCII)
_ISO_SECONDS = (604800, 86400, 3600, 60, 1)
_LONGEST_DURATION = 100


def seconds(value: Any) -> float:
    """A duration in seconds: a number of seconds, `PT4H12M45S`, or `98:53:50.295718` (hours may exceed 24)."""
    if not isinstance(value, str):
        return number(value)
    written = value.strip()
    if len(written) > _LONGEST_DURATION:
        raise FieldError("wrong_type", f"a duration is due, found {shown(value)}")
    if (iso := _ISO_DURATION.fullmatch(written)) and any(iso.groups()[1:]):
        parts = (Decimal((part or "0").replace(",", ".")) for part in iso.groups()[1:])
        total = sum((p * s for p, s in zip(parts, _ISO_SECONDS, strict=True)), Decimal(0))
        return finite(-total if iso[1] == "-" else total)
    if clock := _CLOCK_DURATION.fullmatch(written):
        sign, days, hours, minutes, rest = clock.groups()
        total = int(days or 0) * 86400 + int(hours) * 3600 + int(minutes) * 60 + Decimal(rest)
        return finite(-total if sign else total)
    try:
        return finite(decimal_text(written))
    except FieldError as error:
        raise FieldError(error.reason, f"a duration is due, found {shown(value)}") from error


def moment(value: Any) -> datetime:
    """A time: ISO 8601 text, or epoch milliseconds as number or text. FieldError `bad_time`.

    Source: docs/contract.md, «Time».
    """
    try:
        return parse_moment(value)
    except (ValueError, OverflowError) as error:
        raise FieldError("bad_time", shown(value)) from error


def iso_time_text(value: Any) -> str:
    """A time that is itself the value of a reading: checked, and kept as the vendor wrote it."""
    if not isinstance(value, str):
        raise FieldError("wrong_type", f"a time is due, found {shown(value)}")
    moment(value)
    return value
