"""A record batch (message format 2) written from columns: the records of many outputs are joined at once."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any

import numpy as np
from aiokafka import codec
from aiokafka.record.util import calc_crc32c

from runtime.kafka_records.columns import HEAD_BYTES, Ints
from schemas.consumed import Headers

_TRANSACTIONAL = 0x10
_ENCODE: dict[str | None, tuple[int, Callable[[Any], bytes]]] = {
    None: (0, bytes),
    "gzip": (1, codec.gzip_encode),
    "snappy": (2, codec.snappy_encode),
    "lz4": (3, codec.lz4_encode),
    "zstd": (4, codec.zstd_encode),
}
_HEAD = struct.Struct(">qiibI")  # base offset, length, leader's epoch, format, checksum
_BODY = struct.Struct(">hiqqqhii")  # attributes, last offset, first and last time, producer, epoch, sequence, count
_AFTER_LENGTH = 12  # the length counts from this byte on
_MAX_TABLE = 1 << 14


class _Varints(dict[int, bytes]):
    """Zigzag numbers as they are written; those below a bound are kept."""

    def __missing__(self, number: int) -> bytes:
        rest, out = (number << 1) ^ (number >> 63), bytearray()
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
        written = bytes(out)
        if 0 <= number < _MAX_TABLE:
            self[number] = written
        return written


_VARINTS = _Varints()
_varint = _VARINTS.__getitem__


def _size(numbers: Ints) -> Ints:
    """Bytes that each number takes; none is negative."""
    size = np.ones(len(numbers), np.int64)
    bound = 1 << 6
    while (larger := numbers >= bound).any():
        size += larger
        bound <<= 7
    return size


@dataclass(frozen=True, slots=True)
class OutputColumns:
    """Many records to write to one topic, in order: keys and values, and headers with the same names in the same order.

    A header's value is that of all records, or one for each.
    """

    topic: str
    keys: Sequence[bytes]
    values: Sequence[bytes]
    headers: Sequence[tuple[str, bytes | Sequence[bytes]]]

    def __len__(self) -> int:
        return len(self.keys)

    def header_rows(self) -> list[tuple[tuple[str, bytes], ...]]:
        """The headers of each record."""
        count = len(self)
        columns = [
            [(name, content)] * count if isinstance(content, bytes) else [(name, each) for each in content]
            for name, content in self.headers
        ]
        return list(zip(*columns, strict=True)) if columns else [()] * count


class PackedBatch:
    """A batch of records of a transaction: at most `limit` bytes before compression, or one record."""

    def __init__(self, limit: int, compression: str | None) -> None:
        self._limit = limit
        self._codec, self._encode = _ENCODE[compression]
        self._parts: list[bytes] = []
        self._size = HEAD_BYTES
        self._count = 0
        self._first_ms = self._last_ms = 0
        self._producer = (-1, -1, 0)
        self._built: bytearray | None = None

    def append(self, *, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers) -> object | None:
        """Add one record; None, if it does not fit."""
        parts = [b"\x00", _varint(self._delta(timestamp)), _varint(self._count)]
        for content in (key, value):
            parts += (_varint(-1),) if content is None else (_varint(len(content)), content)
        parts.append(_varint(len(headers)))
        for name, content in headers:
            encoded = name.encode()
            parts += (_varint(len(encoded)), encoded)
            parts += (_varint(-1),) if content is None else (_varint(len(content)), content)
        record = b"".join(parts)
        length = _varint(len(record))
        size = len(length) + len(record)
        if self._count and self._size + size > self._limit:
            return None
        self._parts += (length, record)
        self._added(1, size, timestamp)
        return self

    def extend(self, outputs: OutputColumns, start: int, timestamp: int) -> int:
        """Add the outputs from index `start` on, as many as fit; how many they were."""
        keys, values = outputs.keys[start:], outputs.values[start:]
        count = len(keys)
        deltas = np.arange(self._count, self._count + count, dtype=np.int64)
        key_sizes, value_sizes = _lengths(keys), _lengths(values)
        time = b"\x00" + _varint(self._delta(timestamp))
        body: list[Any] = [map(_varint, key_sizes.tolist()), keys, map(_varint, value_sizes.tolist()), values]
        sizes = len(time) + _size(deltas) + _size(key_sizes) + key_sizes + _size(value_sizes) + value_sizes
        constant = _varint(len(outputs.headers))
        for name, content in outputs.headers:
            encoded = name.encode()
            constant += _varint(len(encoded)) + encoded
            if isinstance(content, bytes):
                constant += _varint(len(content)) + content
                continue
            contents = content[start:]
            lengths = _lengths(contents)
            body += [repeat(constant, count), map(_varint, lengths.tolist()), contents]
            sizes += len(constant) + _size(lengths) + lengths
            constant = b""
        if constant:
            body.append(repeat(constant, count))
            sizes += len(constant)
        ends = np.cumsum(sizes + _size(sizes)) + self._size
        fitting = int(np.searchsorted(ends, self._limit, "right"))
        if not fitting:
            if self._count:
                return 0
            fitting = 1
        columns = [map(_varint, sizes.tolist()), repeat(time, count), map(_varint, deltas.tolist()), *body]
        flat: list[bytes] = [b""] * (len(columns) * fitting)
        for number, column in enumerate(columns):
            flat[number :: len(columns)] = islice(column, fitting)
        self._parts += flat  # joined once, when it is built
        self._added(fitting, int(ends[fitting - 1]) - self._size, timestamp)
        return fitting

    def _delta(self, timestamp: int) -> int:
        return timestamp - self._first_ms if self._count else 0

    def _added(self, count: int, size: int, timestamp: int) -> None:
        if not self._count:
            self._first_ms = self._last_ms = timestamp
        self._last_ms = max(self._last_ms, timestamp)
        self._count += count
        self._size += size

    def record_count(self) -> int:
        """Number of records."""
        return self._count

    def size(self) -> int:
        """Bytes of the batch, before compression until it is built."""
        return self._size if self._built is None else len(self._built)

    def set_producer(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Name the producer and the number of its first record, before the batch is built."""
        self._producer = (producer_id, producer_epoch, base_sequence)

    def build(self) -> bytearray:
        """The batch as it is sent. Nothing can be added any more."""
        if self._built is None:
            facts = (_TRANSACTIONAL | self._codec, self._count - 1, self._first_ms, self._last_ms)
            head = bytes(_HEAD.size) + _BODY.pack(*facts, *self._producer, self._count)
            records = [self._encode(b"".join(self._parts))] if self._codec else self._parts
            built = bytearray().join((head, *records))
            self._parts = []
            checksum = calc_crc32c(memoryview(built)[_HEAD.size :])
            _HEAD.pack_into(built, 0, 0, len(built) - _AFTER_LENGTH, -1, 2, checksum)
            self._built = built
        return self._built


def _lengths(texts: Sequence[bytes]) -> Ints:
    return np.fromiter(map(len, texts), np.int64, len(texts))
