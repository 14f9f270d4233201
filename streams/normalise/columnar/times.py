"""Times of many records at once, as text and as microseconds since the epoch (pure)."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np

from runtime.kafka_records.columns import Bytes, Flags, Ints, rows

_LONG = 27  # 2026-03-16T12:34:56.789000Z
_SHORT = 20  # without microseconds
_WHOLE = 6  # digits of hour, minute and second
_DIGITS = np.array([11, 12, 14, 15, 17, 18, *range(20, 26)])
_WEIGHTS = np.zeros((len(_DIGITS), 4))
_WEIGHTS[0:2, 0] = _WEIGHTS[2:4, 1] = _WEIGHTS[4:6, 2] = (10, 1)
_WEIGHTS[_WHOLE:, 3] = (100_000, 10_000, 1000, 100, 10, 1)
_PLACES = np.array([10, 13, 16])
_SEPARATORS = np.frombuffer(b"T::", np.uint8)
_DAY_US = 86_400_000_000
_LATEST_MS = 4_102_444_800_000  # 2100; what is later goes the general path
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_LATEST_DAY = date(2100, 1, 1).toordinal() - _EPOCH_ORDINAL


def written_times(buffer: Bytes, start: Ints, length: Ints) -> tuple[Ints, Flags]:
    """Microseconds of times that are written as `schemas.timestamps.format_iso` does, and which of them are."""
    found = rows(buffer, start, _LONG).view(np.uint8).reshape(len(start), _LONG)
    long = length == _LONG
    digits = found[:, _DIGITS] - np.uint8(ord("0"))
    if not long.all():  # a whole second: the digits behind it are zero
        digits[~long, _WHOLE:] = 0
    hour, minute, second, micros = (digits.astype(np.float64) @ _WEIGHTS).T
    sound = (digits <= 9).all(axis=1) & (found[:, _PLACES] == _SEPARATORS).all(axis=1)
    sound &= np.where(long, (found[:, 19] == ord(".")) & (found[:, 26] == ord("Z")) & (micros > 0), length == _SHORT)
    sound &= long | (found[:, 19] == ord("Z"))
    sound &= (hour < 24) & (minute < 60) & (second < 60)
    days, dated = _days(np.ascontiguousarray(found[:, :10]))
    within = (hour * 3600 + minute * 60 + second) * 1e6 + micros  # whole numbers, without loss
    return days * _DAY_US + within.astype(np.int64), sound & dated


def _days(dates: Bytes) -> tuple[Ints, Flags]:
    """Days since the epoch of `2026-03-16`: few of them in many records."""
    if (dates == dates[0]).all():
        day = _day(dates[0].tobytes())
        return np.full(len(dates), day or 0), np.full(len(dates), day is not None)
    texts = dates.view("S10").ravel()
    known, which = np.unique(texts, return_inverse=True)
    days = [_day(bytes(text)) for text in known]
    return np.array([day or 0 for day in days], np.int64)[which], np.array([day is not None for day in days])[which]


def _day(text: bytes) -> int | None:
    if len(text) != 10 or text[4:5] + text[7:8] != b"--" or not (text[:4] + text[5:7] + text[8:]).isdigit():
        return None
    try:
        day = date(int(text[:4]), int(text[5:7]), int(text[8:])).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    return day if 0 <= day < _LATEST_DAY else None


class _Seconds(dict[int, bytes]):
    """The text of whole seconds since the epoch, without the zone; bounded."""

    def __missing__(self, second: int) -> bytes:
        if len(self) >= 65_536:
            self.clear()
        text = self[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
        return text


_SECONDS = _Seconds()
_MILLIS = [b".%03d000Z" % millis if millis else b"Z" for millis in range(1000)]


def millis_are_usual(millis: Ints) -> Flags:
    """Which times in milliseconds `millis_texts` takes."""
    return (millis >= 0) & (millis < _LATEST_MS)


def millis_texts(millis: Ints) -> list[bytes]:
    """Times in milliseconds since the epoch as `schemas.timestamps.format_iso` writes them."""
    second, rest = np.divmod(millis, 1000)
    whole, parts = _SECONDS.__getitem__, _MILLIS
    return [whole(a) + parts[b] for a, b in zip(second.tolist(), rest.tolist(), strict=True)]
