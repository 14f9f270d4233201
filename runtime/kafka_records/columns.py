"""A record batch (message format 2) read as columns: a few numpy operations per batch, no object per record (pure)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
Flags = NDArray[np.bool_]

HEAD_BYTES = 61
"""Bytes of a batch before its records."""
PADDING = 64
"""Bytes behind the records, so that a fixed number of bytes can be read at the beginning of any field."""

_LOG_APPEND_TIME = 0x08
_MANY_HEADERS = 64
_MANY_VALUES = 32
_FACTS = struct.Struct(">h i q q")  # attributes, last offset delta, first and greatest timestamp, from byte 21 on


@dataclass(frozen=True, slots=True)
class Field:
    """Where the bytes of one field of each record are in the batch."""

    start: Ints
    length: Ints
    """-1 for null."""

    def __getitem__(self, index: slice | Flags) -> Field:
        return Field(self.start[index], self.length[index])


@dataclass(frozen=True, slots=True)
class RecordColumns:
    """The fields of consecutive records, most of which have the same header names."""

    data: bytes
    """The batch, uncompressed, with `PADDING` zeros behind it."""
    buffer: Bytes
    """The same bytes."""
    offsets: Ints
    timestamps: Ints
    key: Field
    value: Field
    names: tuple[bytes, ...]
    """The names of the headers of regular records, in order."""
    headers: tuple[Field, ...]
    """Their values; null in records that are not regular."""
    regular: Flags
    """Which records have just these headers."""

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: slice) -> RecordColumns:
        """Some of the records."""
        return RecordColumns(
            self.data,
            self.buffer,
            self.offsets[index],
            self.timestamps[index],
            self.key[index],
            self.value[index],
            self.names,
            tuple(header[index] for header in self.headers),
            self.regular[index],
        )

    def texts(self, field: Field) -> list[bytes]:
        """The bytes of a field; none for null."""
        return texts(self.data, self.buffer, field.start, np.maximum(field.length, 0))


def read_columns(data: bytes) -> RecordColumns | None:
    """The columns of an uncompressed batch; None for one that is not built as the format says.

    Whoever reads that record by record finds out why.
    """
    count = int.from_bytes(data[57:61], "big")
    padded = data + bytes(PADDING)
    try:
        return _read(padded, np.frombuffer(padded, np.uint8), count) if count > 0 else None
    except IndexError:
        return None


def _read(data: bytes, buffer: Bytes, count: int) -> RecordColumns:
    attributes, _, first_timestamp, last_timestamp = _FACTS.unpack_from(data, 21)
    base_offset = int.from_bytes(data[:8], "big")
    starts, ends = _records(data, count)
    deltas, at = varints(buffer, starts + 1)  # after the record's attributes, which have no meaning yet
    offsets, at = varints(buffer, at)
    key, at = _field(buffer, at)
    value, at = _field(buffer, at)
    if not (at <= ends).all():
        raise IndexError("a field reaches beyond its record")
    timestamps = np.full(count, last_timestamp) if attributes & _LOG_APPEND_TIME else first_timestamp + deltas
    names, headers, regular = _headers(data, buffer, at, ends)
    return RecordColumns(data, buffer, base_offset + offsets, timestamps, key, value, names, headers, regular)


def _headers(data: bytes, buffer: Bytes, at: Ints, ends: Ints) -> tuple[tuple[bytes, ...], tuple[Field, ...], Flags]:
    """Names and values of the headers, and which records have them all in this order."""
    count = len(at)
    numbers, at = varints(buffer, at)
    most = int(np.bincount(np.clip(numbers, 0, _MANY_HEADERS)).argmax())
    index = np.flatnonzero(numbers == most)
    at, ends = at[index], ends[index]
    names: list[bytes] = []
    values: list[Field] = []
    for _ in range(most if len(index) else 0):
        name, at = _field(buffer, at)
        first = int(name.start[0])
        text = data[first : first + max(0, int(name.length[0]))]
        same = _equal(buffer, name, text)
        value, at = _field(buffer, at)
        if not same.all():
            index, at, ends, value = index[same], at[same], ends[same], value[same]
            values = [each[same] for each in values]
        names.append(text)
        values.append(value)
    whole = at == ends
    if not whole.all():
        raise IndexError("a record is longer than its fields")
    if len(index) == count:
        return tuple(names), tuple(values), np.ones(count, np.bool_)
    regular = np.zeros(count, np.bool_)
    regular[index] = True
    return tuple(names), tuple(_spread(each, index, count) for each in values), regular


def _spread(field: Field, index: Ints, count: int) -> Field:
    start, length = np.zeros(count, np.int64), np.full(count, -1, np.int64)
    start[index], length[index] = field.start, field.length
    return Field(start, length)


def _records(data: bytes, count: int) -> tuple[Ints, Ints]:
    """Where each record begins, after its length, and ends."""
    starts, lengths = [0] * count, [0] * count
    at = HEAD_BYTES
    for index in range(count):
        number = data[at]
        at += 1
        if number >= 0x80:
            following = data[at]
            at += 1
            number += (following << 7) - 0x80
            shift = 14
            while following >= 0x80:
                following = data[at]
                at += 1
                number += (following << shift) - (0x80 << (shift - 7))
                shift += 7
        starts[index] = at
        lengths[index] = number >> 1
        at += number >> 1
    begin = np.array(starts, np.int64)
    return begin, begin + np.array(lengths, np.int64)


def varints(buffer: Bytes, at: Ints) -> tuple[Ints, Ints]:
    """The zigzag number at each place, and the place behind it."""
    byte = buffer[at].astype(np.int64)
    at = at + 1
    if not (more := byte >= 0x80).any():
        return (byte >> 1) ^ -(byte & 1), at
    value, shift = byte & 0x7F, 7
    while more.any():
        byte = np.where(more, buffer[at], 0).astype(np.int64)
        value |= (byte & 0x7F) << shift
        at = at + more
        more = byte >= 0x80
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than ten bytes")
    return (value >> 1) ^ -(value & 1), at


def _field(buffer: Bytes, at: Ints) -> tuple[Field, Ints]:
    length, at = varints(buffer, at)
    if (length < -1).any():
        raise IndexError("a negative length")
    return Field(at, length), at + np.maximum(length, 0)


def _equal(buffer: Bytes, field: Field, text: bytes) -> Flags:
    """In which records a field has just these bytes."""
    size, count = len(text), len(field.start)
    same: Flags = field.length == size
    if not size or not same.any():
        return same
    found = rows(buffer, np.where(same, field.start, 0), size)
    if same.all() and found.tobytes() == text * count:
        return same
    same &= (found.view(np.uint8).reshape(count, size) == np.frombuffer(text, np.uint8)).all(axis=1)
    return same


def rows(buffer: Bytes, at: Ints, size: int) -> NDArray[np.void]:
    """`size` bytes from each place on. IndexError where one is not within the buffer."""
    windows = np.ndarray((len(buffer) - size + 1,), f"V{size}", buffer.data, 0, (1,))
    return windows[at]


def texts(data: bytes, buffer: Bytes, start: Ints, length: Ints) -> list[bytes]:
    """The bytes of many places of `data`; `buffer` is the same."""
    size = int(length[0]) if len(length) else 0
    if size and (length == size).all():  # four times faster than slices
        alike: list[bytes] = rows(buffer, start, size).tolist()
        return alike
    return [data[a:b] for a, b in zip(start.tolist(), (start + length).tolist(), strict=True)]


def distinct(columns: RecordColumns, field: Field) -> list[tuple[bytes, Flags]]:
    """The different values of a field among the regular records, and which records have each; not null.

    Not all, where there are many.
    """
    found: list[tuple[bytes, Flags]] = []
    left = columns.regular & (field.length >= 0)
    while left.any() and len(found) < _MANY_VALUES:
        first = int(np.argmax(left))
        start = int(field.start[first])
        text = columns.data[start : start + int(field.length[first])]
        same = left & _equal(columns.buffer, field, text)
        found.append((text, same))
        left = left & ~same
    return found
