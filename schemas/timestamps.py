"""Parsing of vendors' times (docs/contract.md, «Time») (pure: the clock is never read)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

NEVER = 1 << 62
"""Later than any time in microseconds since the epoch."""

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?)?\s*([Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)


def to_micros(moment: datetime) -> int:
    """Microseconds since the epoch of an aware datetime, exactly (no float on the way)."""
    return (moment - EPOCH) // MICROSECOND


def from_micros(micros: int) -> datetime:
    """UTC datetime of microseconds since the epoch; OverflowError outside the years 1 to 9999."""
    return EPOCH + timedelta(microseconds=micros)


def from_millis(millis: int | float) -> datetime:
    """UTC datetime of milliseconds since the epoch (Kärcher's socket); OverflowError outside the years 1 to 9999."""
    if type(millis) is int:  # exact, and three times faster
        return EPOCH + timedelta(0, millis // 1000, millis % 1000 * 1000)
    return EPOCH + timedelta(milliseconds=millis)


def parse_iso(text: str) -> datetime:
    """An ISO 8601 time as UTC, to the microsecond.

    Accepts the forms of the vendors' documents: `Z`, `+03`, `+03:00`, `+0300`, no zone (read as UTC), nanoseconds
    (truncated), and a date alone. The text of the ValueError says what is wrong.
    """
    if 20 <= len(text) <= 27 and text[-1] == "Z" and text[10] == "T" and text[7] == "-":
        try:  # the common case, twelve times faster
            return datetime.fromisoformat(text)
        except ValueError:
            pass
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an ISO 8601 time: {text[:40]!r}")
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    leap = second == "60"  # a leap second has no place in Python's datetime: it is the next second
    moment = datetime(
        int(year),
        int(month),
        int(day),
        int(hour or 0),
        int(minute or 0),
        59 if leap else int(second or 0),
        micros,
        _zone(zone),
    )
    return (moment + timedelta(seconds=1 if leap else 0)).astimezone(UTC)


def _zone(text: str | None) -> timezone:
    if text is None or text in "Zz":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


_MILLIS = re.compile(r"\s*+-?\d{1,18}+(\.\d++)?\s*+", re.ASCII)


def parse_moment(value: Any) -> datetime:
    """A time as vendors write it: ISO 8601 text, or epoch milliseconds as number or text (docs/contract.md, «Time»).

    ValueError or OverflowError when it is not a time.
    """
    if type(value) is int or isinstance(value, float):
        return from_millis(value)
    if not isinstance(value, str):
        raise ValueError(f"not a time: {type(value).__name__}")
    return from_millis(float(value)) if _MILLIS.fullmatch(value) else parse_iso(value)


def format_iso(moment: datetime) -> str:
    """RFC 3339 in UTC with `Z`; microseconds only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
