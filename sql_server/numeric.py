"""PostgreSQL's `numeric` as bytes: digits to the base 10,000. Pure."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

_POSITIVE, _NEGATIVE, _NAN = 0x0000, 0x4000, 0xC000
_DIGITS = 4


def binary_numeric(value: Any) -> bytes:
    """A decimal or whole number as `numeric_send` writes it."""
    number = Decimal(value)
    sign, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        return struct.pack("!hhHh", 0, 0, _NAN, 0)
    scale = max(-exponent, 0)
    whole = int("".join(map(str, digits))) * 10 ** max(exponent, 0)
    before, after = divmod(whole, 10**scale)
    fraction = f"{after:0{scale}}" if scale else ""
    fraction += "0" * (-len(fraction) % _DIGITS)
    front = str(before) if before else ""
    front = "0" * (-len(front) % _DIGITS) + front
    groups = [int((front + fraction)[at : at + _DIGITS]) for at in range(0, len(front + fraction), _DIGITS)]
    weight = len(front) // _DIGITS - 1
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    while groups and groups[-1] == 0:
        groups.pop()
    head = struct.pack(
        "!hhHh", len(groups), weight if groups else 0, _NEGATIVE if sign and groups else _POSITIVE, scale
    )
    return head + struct.pack(f"!{len(groups)}h", *groups)


def decimal_text(raw: bytes) -> str:
    """The number that `numeric_send` wrote, as text. struct.error where it is cut."""
    count, weight, sign, scale = struct.unpack_from("!hhHh", raw)
    if sign == _NAN:
        return "NaN"
    groups = struct.unpack_from(f"!{count}h", raw, 8)
    whole = sum(group * 10 ** (_DIGITS * (count - 1 - at)) for at, group in enumerate(groups))
    exponent = _DIGITS * (weight - count + 1) + scale  # of the last digit that is shown
    shown = whole * 10**exponent if exponent >= 0 else whole // 10**-exponent
    digits = f"{shown:0{scale + 1}}"
    text = f"{digits[:-scale]}.{digits[-scale:]}" if scale else digits
    return f"-{text}" if sign == _NEGATIVE else text
