"""The messages of one shape: their observations, written for many at once (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

import msgspec
import numpy as np

from runtime.kafka_records.columns import Flags, Ints
from schemas import wire
from schemas.metrics import Kind as ValueKind
from schemas.timestamps import MICROSECOND, format_iso, to_micros
from streams.normalise.columnar.payloads import Fitting, Payloads
from streams.normalise.columnar.template import Kind
from streams.normalise.columnar.times import millis_are_usual, millis_texts
from streams.normalise.columnar.trace import Trace, TracedReading
from streams.normalise.message import Options
from streams.normalise.values import Divided, FieldError, moment, number, text

MAX_READINGS = 256
_MAX_REMEMBERED = 4096
_encode = msgspec.json.encode
_NUMBER = re.compile(rb"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,30})?")
_LONG_DECIMAL = re.compile(rb"-?(0|[1-9][0-9]{0,30})\.[0-9]{1,30}")


@dataclass(frozen=True, slots=True)
class Origins:
    """What the observations of one partition have in common."""

    vendor: str
    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class EnvelopeTexts:
    """What an observation has of its envelope, as it is written there; received when, in microseconds."""

    ids: Sequence[bytes]
    devices: Sequence[bytes]
    received: Sequence[bytes]
    offsets: Sequence[bytes]
    received_us: Ints


@dataclass(frozen=True, slots=True)
class Column:
    """A value of many messages as JSON, and which of them have a sound one."""

    texts: Iterable[bytes]
    sound: Flags | np.bool_ = np.True_


@dataclass(frozen=True, slots=True)
class _Times:
    texts: Sequence[bytes]
    micros: Ints
    sound: Flags


class Shape:
    """One shape of message. It takes those messages only whose every value is sound."""

    def __init__(self, traced: Trace, origins: Origins, options: Options) -> None:
        self.template = traced.template
        self.readings = len(traced.readings)
        """Number of readings in each message."""
        self.hits = 0
        """Number of messages that had this shape."""
        self._traced = traced.readings
        self._ahead = options.future_after // MICROSECOND
        self._behind = options.ancient_after // MICROSECOND
        self._readers = [_reader(each, traced.template.kinds) for each in traced.readings]
        self._times_of = sorted({each.time.holes for each in traced.readings if each.time.holes})
        self._time_holes = sorted({hole for holes in self._times_of for hole in holes})
        read = {each.hole for each in traced.readings} | set(self._time_holes)
        kinds = enumerate(traced.template.kinds)
        self._unread = [hole for hole, kind in kinds if kind is not Kind.TEXT and hole not in read]
        """Numbers that must be some, though nobody reads them: else the payload is no JSON."""
        self._moments = {kind: _Remembered(_Moment(kind)) for kind in Kind}
        self._literals, self._order = _observation_parts(traced.readings, origins)

    def observations(self, payloads: Payloads, fitting: Fitting, envelopes: EnvelopeTexts) -> tuple[list[bytes], Flags]:
        """The observations of payloads that have the template, and which of them count; of those only, all is sound."""
        sound = np.ones(len(fitting.index), np.bool_)
        for hole in self._unread:
            sound &= payloads.numbers(fitting.spans[hole], self.template.kinds[hole]).sound
        times: dict[tuple[int, ...], Sequence[bytes]] = {(): envelopes.received}
        read = {hole: self._times(payloads, fitting, hole) for hole in self._time_holes}
        for each in read.values():
            late = each.micros - envelopes.received_us
            sound &= each.sound & (late <= self._ahead) & (-late <= self._behind)
        for holes in self._times_of:
            times[holes] = _latest([read[hole] for hole in holes])
        columns: dict[str, Iterable[bytes]] = {
            "id": envelopes.ids,
            "device": envelopes.devices,
            "received": envelopes.received,
            "offset": envelopes.offsets,
        }
        for index, (reading, reader) in enumerate(zip(self._traced, self._readers, strict=True)):
            columns[f"time{index}"] = times[reading.time.holes]
            if reader is not None:
                column = reader(payloads, fitting)
                sound &= column.sound
                columns[f"value{index}"] = column.texts
        parts: list[Iterable[bytes]] = [repeat(self._literals[0])]
        for name, literal in zip(self._order, self._literals[1:], strict=True):
            parts += (columns[name], repeat(literal))
        return list(map(b"".join, zip(*parts, strict=False))), sound

    def _times(self, payloads: Payloads, fitting: Fitting, hole: int) -> _Times:
        span = fitting.spans[hole]
        if self.template.kinds[hole] is Kind.INTEGER:
            numbers = payloads.numbers(span, Kind.INTEGER)
            sound = numbers.sound & millis_are_usual(numbers.digits)
            millis = np.where(sound, numbers.digits, 0)
            return _Times(millis_texts(millis), millis * 1000, sound)
        read = list(map(self._moments[self.template.kinds[hole]].__getitem__, payloads.texts(span)))
        micros = np.fromiter((each[1] for each in read), np.int64, len(read))
        sound = np.fromiter((each[2] for each in read), np.bool_, len(read))
        return _Times([each[0] for each in read], micros, sound)


_Reader = Callable[[Payloads, Fitting], Column]


def _reader(reading: TracedReading, kinds: Sequence[Kind]) -> _Reader | None:
    """How the value of a reading is read in all messages at once; None where it is the same in all."""
    hole, parse = reading.hole, reading.parse
    if hole is None or parse is None:
        return None
    kind = kinds[hole]
    if kind is Kind.TEXT:
        if parse is text:
            return lambda payloads, fitting: Column(payloads.texts(fitting.spans[hole]))
    elif parse is number:
        return lambda payloads, fitting: _doubles(payloads, fitting, hole, kind)
    elif isinstance(parse, Divided) and kind is Kind.INTEGER:
        return lambda payloads, fitting: _quotients(payloads, fitting, hole, parse.divisor)
    remembered = _Remembered(_Parsed(parse, reading.kind, kind))

    def read(payloads: Payloads, fitting: Fitting) -> Column:
        span = fitting.spans[hole]
        found = list(map(remembered.__getitem__, payloads.texts(span)))
        sound = np.fromiter((each is not None for each in found), np.bool_, len(found))
        return Column([each or b"" for each in found] if not sound.all() else found, sound)

    return read


def _doubles(payloads: Payloads, fitting: Fitting, hole: int, kind: Kind) -> Column:
    span = fitting.spans[hole]
    numbers = payloads.numbers(span, kind)
    doubles, sound = numbers.doubles(), numbers.sound
    if kind is Kind.DECIMAL and not sound.all():  # many have more digits than a double holds
        texts = payloads.texts(span)
        for at in np.flatnonzero(~sound).tolist():
            if _LONG_DECIMAL.fullmatch(texts[at]):
                doubles[at], sound[at] = float(texts[at]), True
    return Column(_number_texts(doubles.tolist()), sound)


def _quotients(payloads: Payloads, fitting: Fitting, hole: int, divisor: int) -> Column:
    numbers = payloads.numbers(fitting.spans[hole], Kind.INTEGER)
    return Column(_number_texts((numbers.digits / divisor).tolist()), numbers.sound)


def _number_texts(numbers: list[float]) -> list[bytes]:
    return _encode(numbers)[1:-1].split(b",") if numbers else []


class _Remembered(dict[bytes, Any]):
    """What was read from texts that recur; bounded."""

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        super().__init__()
        self._read = read

    def __missing__(self, written: bytes) -> Any:
        if len(self) >= _MAX_REMEMBERED:
            self.clear()
        value = self[written] = self._read(written)
        return value


class _Parsed:
    """Reads a value by its field's own parser, and writes it as JSON; None where it is no sound reading."""

    def __init__(self, parse: Callable[[Any], Any], value_kind: ValueKind, kind: Kind) -> None:
        self._parse = parse
        self._is_text = value_kind in ("text", "json")
        self._kind = kind

    def __call__(self, written: bytes) -> bytes | None:
        if self._kind is not Kind.TEXT and not _NUMBER.fullmatch(written):
            return None
        try:
            value = self._parse((bytes.decode, int, float)[self._kind](written))
        except (FieldError, ValueError):
            return None
        if value is None:
            return None
        return _encode(value)[1:-1] if self._is_text else _encode(value)


def _latest(times: Sequence[_Times]) -> Sequence[bytes]:
    """The texts of the latest of several times, message by message."""
    if len(times) == 1:
        return times[0].texts
    which = np.argmax(np.stack([each.micros for each in times]), axis=0)
    return [times[number].texts[at] for at, number in enumerate(which.tolist())]


class _Moment:
    """Reads a time: how it is written here, in microseconds, and whether it is one."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def __call__(self, written: bytes) -> tuple[bytes, int, bool]:
        if self._kind is not Kind.TEXT and not _NUMBER.fullmatch(written):
            return b"", 0, False
        try:
            at = moment((bytes.decode, int, float)[self._kind](written))
            return format_iso(at).encode(), to_micros(at), True
        except FieldError:
            return b"", 0, False


_BASE = datetime(3000, 1, 1, tzinfo=UTC)


def _observation_parts(readings: Sequence[TracedReading], origins: Origins) -> tuple[list[bytes], list[str]]:
    """An observation without what differs between messages: the text between the parts, and their names in order."""
    marks: dict[bytes, str] = {}

    def text_mark(name: str) -> str:
        marks[_encode(f"\x02{name}\x02")[1:-1]] = name
        return f"\x02{name}\x02"

    def time_mark(name: str, number: int) -> datetime:
        at = _BASE + timedelta(days=number)
        marks[format_iso(at).encode()] = name
        return at

    offset = 7_000_000_000_000_000_000
    marks[b"%d" % offset] = "offset"
    made = []
    for index, reading in enumerate(readings):
        value = reading.value
        if reading.hole is not None and reading.kind == "number":
            value = -(index + 1) * 1e200
            marks[_encode(value)] = f"value{index}"
        elif reading.hole is not None:
            value = text_mark(f"value{index}")
            if reading.kind == "boolean":  # which stands there without quotation marks
                marks[_encode(value)] = marks.pop(_encode(value)[1:-1])
        at = time_mark(f"time{index}", index + 1)
        made.append(_reading(reading, at, value))
    observation = wire.Observation(
        text_mark("id"),
        text_mark("device"),
        origins.vendor,
        time_mark("received", 0),
        wire.Origin(origins.topic, origins.partition, offset),
        made,
    )
    pieces = re.split(
        b"(" + b"|".join(map(re.escape, sorted(marks, key=len, reverse=True))) + b")", wire.encode(observation)
    )
    order = [marks[piece] for piece in pieces[1::2]]
    if sorted(order) != sorted(marks.values()):
        raise ValueError("a name of the vendor's looks like a mark")
    return pieces[0::2], order


def _reading(reading: TracedReading, at: datetime, value: Any) -> wire.Reading:
    return wire.Reading(
        reading.metric,
        at,
        unit=reading.unit,
        time_source=reading.time.source,
        time_quality=reading.time.quality,
        **{f"value_{reading.kind}": value},
    )
