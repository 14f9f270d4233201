"""Fetched records as a sequence of Kafka's batches, whose records are made into objects only where somebody asks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import msgspec
from aiokafka.record.default_records import DefaultRecordBatch

from runtime.kafka_records.columns import HEAD_BYTES, PADDING, RecordColumns, read_columns
from schemas.consumed import Headers

_RECORD_OVERHEAD_BYTES = 500  # what a record and its parts cost in memory beside their payload
_HEADER_OVERHEAD_BYTES = 150
_SMALL_BATCH = 64


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it came; a `schemas.consumed.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class FetchedBatch:
    """All records of one Kafka batch, uncompressed.

    Whoever wants columns asks for them before records: when the records are objects, the bytes are let go.
    """

    __slots__ = (
        *("_columns", "_count", "_data", "_is_read", "_records"),
        *("first_offset", "memory_bytes", "partition", "topic"),
    )

    def __init__(self, topic: str, partition: int, data: bytes) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = int.from_bytes(data[:8], "big")
        """No record's offset is less."""
        self.memory_bytes = len(data)
        """Bytes of memory it takes."""
        self._count = int.from_bytes(data[57:HEAD_BYTES], "big")
        self._data: bytes | None = data
        self._records: list[FetchedRecord] | None = None
        self._columns: RecordColumns | None = None
        self._is_read = False

    def __len__(self) -> int:
        return self._count

    @property
    def records(self) -> list[FetchedRecord]:
        """The records as objects."""
        if self._records is None:
            data = self._data if self._columns is None else self._columns.data[:-PADDING]
            self._records = records_of(self.topic, self.partition, DefaultRecordBatch(data), 0)
            self._data = None
        return self._records

    @property
    def timestamps(self) -> list[int]:
        """When each record was written, in milliseconds since the epoch."""
        if (columns := self.columns) is not None:
            times: list[int] = columns.timestamps.tolist()
            return times
        return [record.timestamp for record in self.records]

    def headers_naming(self, name: bytes) -> list[Headers]:
        """The headers of all records; none where no record can have a header of this name."""
        data = self._data if self._columns is None else self._columns.data
        return [] if data is not None and name not in data else [record.headers for record in self.records]

    @property
    def columns(self) -> RecordColumns | None:
        """The records as columns, unless they are objects already."""
        if self._data is not None and not self._is_read:
            self._columns, self._is_read = read_columns(self._data), True
            if self._columns is not None:
                self._data = None  # the columns have it
        return self._columns


class LooseRecords:
    """Records that are objects already."""

    __slots__ = ("records",)
    columns = None
    partition = -1

    def __init__(self, records: Sequence[FetchedRecord]) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    @property
    def first_offset(self) -> int:
        """The first record's offset."""
        return self.records[0].offset

    @property
    def timestamps(self) -> list[int]:
        """When each record was written, in milliseconds since the epoch."""
        return [record.timestamp for record in self.records]

    def headers_naming(self, name: bytes) -> list[Headers]:
        """The headers of all records."""
        return [record.headers for record in self.records]

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes of memory: headers, which are much alike, by the first and the last record."""
        records = self.records
        payload = sum([len(r.value or b"") + len(r.key or b"") for r in records])
        headers = max(_header_bytes(records[0].headers), _header_bytes(records[-1].headers))
        return payload + len(records) * (_RECORD_OVERHEAD_BYTES + headers)


class RecordRun(Sequence[FetchedRecord]):
    """Consecutive records of one batch."""

    __slots__ = ("_batch", "_first", "_last")

    def __init__(self, batch: FetchedBatch | LooseRecords, first: int, last: int) -> None:
        self._batch = batch
        self._first = first
        self._last = last

    def __len__(self) -> int:
        return self._last - self._first

    def __iter__(self) -> Iterator[FetchedRecord]:
        return iter(self.records)

    @overload
    def __getitem__(self, index: int) -> FetchedRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FetchedRecord]: ...
    def __getitem__(self, index: int | slice) -> FetchedRecord | Sequence[FetchedRecord]:
        return self.records[index]

    @property
    def partition(self) -> int:
        """The partition."""
        return self._batch.partition

    @property
    def records(self) -> Sequence[FetchedRecord]:
        """The records as objects."""
        records = self._batch.records
        return records if len(self) == len(records) else records[self._first : self._last]

    @property
    def columns(self) -> RecordColumns | None:
        """The records as columns; None where they cannot be read so."""
        columns = self._batch.columns
        return None if columns is None else columns[self._first : self._last]


class FetchedRecords(Sequence[FetchedRecord]):
    """Consecutive records of one partition, in Kafka's batches."""

    def __init__(self, batches: Sequence[FetchedBatch | LooseRecords]) -> None:
        self.batches = batches
        """None of them is empty."""
        self._length = sum(map(len, batches))

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[FetchedRecord]:
        for batch in self.batches:
            yield from batch.records

    @overload
    def __getitem__(self, index: int) -> FetchedRecord: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[FetchedRecord]: ...
    def __getitem__(self, index: int | slice) -> FetchedRecord | Sequence[FetchedRecord]:
        if index == -1:
            return self.batches[-1].records[-1]
        return list(self)[index]

    @property
    def first_offset(self) -> int:
        """No record's offset is less."""
        return self.batches[0].first_offset

    @property
    def memory_bytes(self) -> int:
        """Estimated bytes of memory they take."""
        return sum(batch.memory_bytes for batch in self.batches)


def batches_of(fetched: Sequence[FetchedRecord]) -> Sequence[FetchedBatch | LooseRecords]:
    """Kafka's batches that the records came in, as far as that is known."""
    return fetched.batches if isinstance(fetched, FetchedRecords) else (LooseRecords(fetched),)


def runs_of(fetches: Iterable[Sequence[FetchedRecord]], limit: int) -> Iterator[RecordRun]:
    """All records of fetches that follow one another, in runs of at most `limit`.

    Small batches are joined, so that a trickle of records does not come as many runs.
    """
    small: list[FetchedRecord] = []
    for fetched in fetches:
        for batch in batches_of(fetched):
            if len(batch) < _SMALL_BATCH:
                small += batch.records
                continue
            yield from _divided(LooseRecords(small), limit)
            small = []
            yield from _divided(batch, limit)
    yield from _divided(LooseRecords(small), limit)


def _divided(batch: FetchedBatch | LooseRecords, limit: int) -> Iterator[RecordRun]:
    for first in range(0, len(batch), limit):
        yield RecordRun(batch, first, min(first + limit, len(batch)))


def records_of(topic: str, partition: int, batch: Any, first: int) -> list[FetchedRecord]:
    """The records of aiokafka's batch from an offset on."""
    return [
        FetchedRecord(topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers)
        for r in batch
        if r.offset >= first
    ]


def _header_bytes(headers: Headers) -> int:
    return sum(_HEADER_OVERHEAD_BYTES + len(name) + len(value or b"") for name, value in headers)
