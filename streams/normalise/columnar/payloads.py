"""Many payloads at once: which of them have a template, where their values are, and what numbers these are (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.kafka_records.columns import Bytes, Flags, Ints, rows, texts
from streams.normalise.columnar.template import PLAIN, Kind, Template

LARGEST = 65_536
"""Bytes of a payload that may go the columnar path."""
_AHEAD = 32  # bytes before the first payload, so that a fixed number of bytes can be read up to any place
_BEHIND = LARGEST  # and behind the last, so that a literal can be read from any place
_QUOTE = ord('"')
_DIGITS = 15
"""A number of so many digits is a double without loss."""
_WIDTH = _DIGITS + 3  # with a sign and a point
_COLUMN = np.arange(_WIDTH, dtype=np.uint8)
_WEIGHTS = np.array([float(10**n) for n in range(_WIDTH - 1, -1, -1)])
_BEFORE_POINT = np.array([float(10**n) for n in range(_WIDTH - 2, -1, -1)] + [0.0])
_POWERS = np.array([float(10**n) for n in range(_WIDTH + 1)])


@dataclass(frozen=True, slots=True)
class Span:
    """Where a value is in each payload."""

    start: Ints
    end: Ints


@dataclass(frozen=True, slots=True)
class Fitting:
    """The payloads that have a template."""

    index: Ints
    spans: list[Span]
    """Of each value."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """The numbers in one place of many payloads."""

    digits: Ints
    """All digits as one number, with the sign."""
    places: Ints
    """Digits behind the point."""
    sound: Flags
    """Whether it is a number by JSON's grammar, of few digits, and not a negative zero."""

    def doubles(self) -> NDArray[np.float64]:
        """The nearest double of each: both parts of the quotient are doubles without loss."""
        quotients: NDArray[np.float64] = self.digits / _POWERS[self.places]
        return quotients


class Payloads:
    """Payloads, joined."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        count = len(payloads)
        lengths = np.fromiter(map(len, payloads), np.int64, count)
        self.data = b"".join((bytes(_AHEAD), *payloads))
        self.buffer: Bytes = np.frombuffer(self.data + bytes(_BEHIND), np.uint8)
        self._ends: Ints = np.cumsum(lengths) + _AHEAD
        self._starts: Ints = self._ends - lengths
        self.sound: Flags = (lengths > 0) & (lengths <= LARGEST)
        """Of payloads of a moderate size that consist of `PLAIN` bytes."""
        if self.data[_AHEAD:].translate(None, PLAIN):
            self.sound &= self._plain(count)
        self._quotes: Ints = np.flatnonzero(self.buffer == _QUOTE)
        self._first_quote: Ints = np.searchsorted(self._quotes, self._starts)
        self._quote_counts: Ints = np.searchsorted(self._quotes, self._ends) - self._first_quote

    def _plain(self, count: int) -> Flags:
        known = np.zeros(256, np.bool_)
        known[list(PLAIN)] = True
        strange = np.flatnonzero(~known[self.buffer[_AHEAD : len(self.data)]]) + _AHEAD
        within = np.searchsorted(self._ends, strange, "right")
        plain = np.ones(count, np.bool_)
        plain[within[within < count]] = False
        return plain

    def fitting(self, template: Template, among: Ints) -> Fitting:
        """Those of the payloads that have the template; they are `sound`."""
        index = among[self._quote_counts[among] == template.quotes]
        at, spans, fits = self._starts[index], [], np.ones(len(index), np.bool_)
        seen = 0  # quotation marks passed
        last = len(template.kinds)
        for number, literal in enumerate(template.literals):
            fits &= self._has(literal, at)
            start = at + len(literal)
            seen += literal.count(b'"')
            if number == last:
                fits &= start == self._ends[index]
                break
            following = template.literals[number + 1]
            if (distance := following.find(b'"')) >= 0:
                end = self._quotes[self._first_quote[index] + seen] - distance
            else:  # the last literal, or the next value cannot be found
                fits &= number + 1 == last
                end = self._ends[index] - len(following)
            fits &= end >= start
            spans.append(Span(start, end))
            at = np.maximum(end, start)
        if fits.all():
            return Fitting(index, spans)
        return Fitting(index[fits], [Span(span.start[fits], span.end[fits]) for span in spans])

    def _has(self, literal: bytes, at: Ints) -> Flags | np.bool_:
        if not literal:
            return np.True_
        found = rows(self.buffer, at, len(literal))
        if found.tobytes() == literal * len(at):
            return np.True_
        same = found.view(np.uint8).reshape(len(at), len(literal)) == np.frombuffer(literal, np.uint8)
        return np.asarray(same.all(axis=1))

    def texts(self, span: Span) -> list[bytes]:
        """The bytes of a value."""
        return texts(self.data, self.buffer, span.start, span.end - span.start)

    def numbers(self, span: Span, kind: Kind) -> Numbers:
        """The numbers of a place that has integers, or decimals."""
        count, length = len(span.start), span.end - span.start
        window = rows(self.buffer, span.end - _WIDTH, _WIDTH).view(np.uint8).reshape(count, _WIDTH)
        negative = self.buffer[span.start] == ord("-")
        begin = _WIDTH - np.clip(length, 0, _WIDTH) + negative
        inside = begin.astype(np.uint8)[:, None] <= _COLUMN
        digits = window - np.uint8(ord("0"))
        sound = (length - negative > 0) & (length <= _WIDTH)
        if kind is Kind.DECIMAL:
            points = inside & (window == ord("."))
            point = np.argmax(points, axis=1)
            places = _WIDTH - 1 - point
            sound &= (points.sum(axis=1) == 1) & (point > begin) & (places > 0)
            inside &= ~points
            digits[~inside] = 0
            before = point.astype(np.uint8)[:, None] > _COLUMN
            value = digits * before @ _BEFORE_POINT + digits * ~before @ _WEIGHTS
        else:
            point, places = np.full(count, _WIDTH), np.zeros(count, np.int64)
            digits[~inside] = 0
            value = digits @ _WEIGHTS
        sound &= (digits <= 9).all(axis=1) & (inside.sum(axis=1) <= _DIGITS)
        leading_zero = (self.buffer[span.start + negative] == ord("0")) & (point - begin > 1)
        sound &= ~leading_zero & ~(negative & (value == 0))
        signed = np.where(sound, np.where(negative, -value, value), 0.0)
        return Numbers(signed.astype(np.int64), places, sound)
