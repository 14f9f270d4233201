"""Kafka's record batches as columns, against aiokafka's own reader and writer."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.aiokafka_internals.fetch_buffers import RawRecords, uncompressed
from runtime.kafka_records.columns import HEAD_BYTES, distinct, read_columns
from runtime.kafka_records.fetched import FetchedBatch, FetchedRecord, FetchedRecords, LooseRecords, runs_of
from runtime.kafka_records.packed import OutputColumns, PackedBatch
from tests.support.columns import batch_of, stored

Header = tuple[str, bytes | None]
SMALL = st.binary(max_size=12) | st.just(bytes(200))
MAYBE = st.none() | SMALL
HEADERS = st.lists(st.tuples(st.sampled_from(("a", "ce_id", "long" * 40, "é")), MAYBE), max_size=3)
RECORDS = st.lists(st.tuples(MAYBE, MAYBE, HEADERS, st.integers(0, 300)), min_size=1, max_size=90)
ALIKE = st.lists(st.tuples(MAYBE, MAYBE, SMALL, SMALL, st.integers(0, 3)), min_size=1, max_size=90)
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def records_from(drawn: list[Any], first: int = 1000) -> list[FetchedRecord]:
    """Records whose offsets and times have gaps."""
    made, offset = [], first
    for key, value, headers, step in drawn:
        made.append(FetchedRecord("t", 2, offset, 1_700_000_000_000 + 7 * step, key, value, headers))
        offset += 1 + step
    return made


def as_records(batch: FetchedBatch) -> list[FetchedRecord]:
    """The regular records, made of the columns."""
    columns = batch.columns
    assert columns is not None
    made = []
    for number in range(len(columns)):
        if not columns.regular[number]:
            continue

        def content(field: Any, number: int = number) -> bytes | None:
            start, length = int(field.start[number]), int(field.length[number])
            return None if length < 0 else columns.data[start : start + length]

        headers = [(name.decode(), content(field)) for name, field in zip(columns.names, columns.headers, strict=True)]
        offset, time = int(columns.offsets[number]), int(columns.timestamps[number])
        made.append(FetchedRecord("t", 2, offset, time, content(columns.key), content(columns.value), headers))
    return made


@settings(max_examples=80, deadline=None)
@given(RECORDS)
def test_columns_say_what_aiokafka_reads(drawn: list[Any]) -> None:
    """Records with any headers: those with the most frequent ones are regular, and read right."""
    batch = batch_of(records_from(drawn))
    columns = batch.columns
    assert columns is not None
    assert batch.records == records_from(drawn)
    assert columns is batch.columns
    assert as_records(batch) == [r for r, is_regular in zip(batch.records, columns.regular, strict=True) if is_regular]
    assert columns.regular.any()


@settings(max_examples=60, deadline=None)
@given(ALIKE)
def test_records_with_the_same_headers_are_all_regular(drawn: list[Any]) -> None:
    records = records_from([(key, value, [("a", a), ("ce_id", b)], step) for key, value, a, b, step in drawn])
    batch = batch_of(records)
    assert as_records(batch) == records
    columns = batch.columns
    assert columns is not None and columns.names == (b"a", b"ce_id")
    part = columns[1:3]
    assert part.texts(part.headers[0]) == [r.headers[0][1] for r in records[1:3]]


def test_the_distinct_values_of_a_field() -> None:
    kinds = [b"one", b"two", b"one", b"", b"three"]
    columns = batch_of(records_from([(b"k", b"v", [("a", kind)], 0) for kind in kinds])).columns
    assert columns is not None
    found = {text: which.nonzero()[0].tolist() for text, which in distinct(columns, columns.headers[0])}
    assert found == {b"one": [0, 2], b"two": [1], b"": [3], b"three": [4]}


def test_the_brokers_time_is_that_of_all_records() -> None:
    data = bytearray(stored(records_from([(b"k", b"v", [], 0), (b"k", b"v", [], 5)])))
    data[22] |= 0x08
    data[35:43] = (1_800_000_000_000).to_bytes(8, "big")
    batch = FetchedBatch("t", 2, bytes(data))
    assert as_records(batch) == batch.records
    assert [record.timestamp for record in batch.records] == [1_800_000_000_000] * 2


@settings(max_examples=80, deadline=None)
@given(RECORDS, st.integers(0), st.integers(1, 255))
def test_a_malformed_batch_is_no_columns_or_stays_within_its_bytes(drawn: list[Any], place: int, change: int) -> None:
    """One byte is another: whatever is read, nothing raises."""
    data = bytearray(stored(records_from(drawn)))
    at = HEAD_BYTES + place % (len(data) - HEAD_BYTES)
    data[at] ^= change
    columns = read_columns(bytes(data))
    assert columns is None or len(columns) == len(drawn)


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_is_read(codec: str) -> None:
    builder = DefaultRecordBatchBuilder(2, CODECS[codec], 0, -1, -1, -1, 1 << 20)
    for number in range(50):
        builder.append(number, 1000 + number, b"key", b"value %d" % number * 20, [("a", b"%d" % number)])
    stored = bytes(builder.build())
    raw = RawRecords(stored + stored)
    for _ in range(2):
        assert raw.has_next()
        compression = raw.next_batch().compression_type
        assert compression == CODECS[codec]
        assert raw.last == stored
        batch = FetchedBatch("t", 2, uncompressed(raw.last, compression))
        assert as_records(batch) == batch.records
        assert [record.value for record in batch.records] == [b"value %d" % number * 20 for number in range(50)]
    assert not raw.has_next()


def test_a_batch_whose_records_are_objects_keeps_no_bytes() -> None:
    records = records_from([(b"k", bytes(1000), [], 0)] * 3)
    batch = batch_of(records)
    assert batch.records == records
    assert batch.columns is None
    assert (batch._data, len(batch), batch.first_offset) == (None, 3, 1000)
    assert batch.memory_bytes > 3000


def test_times_and_possible_headers_without_making_records() -> None:
    records = records_from([(b"k", b"v", [("ce_id", b"1")], step) for step in (0, 3, 5)])
    batch = batch_of(records)
    assert batch.timestamps == [record.timestamp for record in records]
    assert batch.headers_naming(b"ce_traceparent") == []
    assert batch._records is None
    assert batch.headers_naming(b"ce_id") == [record.headers for record in records]
    loose = LooseRecords(records)
    assert (loose.timestamps, loose.headers_naming(b"x")) == (batch.timestamps, batch.headers_naming(b"ce_id"))


# -- runs


def test_small_batches_are_joined_and_large_ones_divided() -> None:
    def records(count: int) -> list[FetchedRecord]:
        return records_from([(b"k", b"v", [], 0)] * count)

    fetches = [
        FetchedRecords([batch_of(records(3)), batch_of(records(5))]),
        FetchedRecords([LooseRecords(records(2)), batch_of(records(250))]),
        records(4),
    ]
    runs = list(runs_of(fetches, 100))
    assert [len(run) for run in runs] == [10, 100, 100, 50, 4]
    assert [run.columns is not None for run in runs] == [False, True, True, True, False]
    assert runs[2].partition == 2
    large = runs[2].columns
    assert large is not None
    assert large.offsets.tolist() == [record.offset for record in runs[2]]


# -- writing


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(SMALL, SMALL, SMALL), min_size=1, max_size=300),
    st.lists(st.tuples(MAYBE, MAYBE, HEADERS), max_size=5),
    st.sampled_from([*CODECS]),
    st.booleans(),
)
def test_aiokafka_reads_what_is_packed(
    drawn: list[tuple[bytes, bytes, bytes]], singles: list[Any], codec: str, singles_first: bool
) -> None:
    keys, values, ids = map(list, zip(*drawn, strict=True))
    outputs = OutputColumns("t", keys, values, (("content-type", b"json"), ("ce_id", ids)))
    batch = PackedBatch(1 << 20, None if codec == "none" else codec)
    expected: list[Any] = []

    def add_singles() -> None:
        for key, value, headers in singles:
            assert batch.append(key=key, value=value, timestamp=1005, headers=headers) is not None
            expected.append((1005, key, value, headers))

    def add_columns() -> None:
        assert batch.extend(outputs, 0, 1003) == len(outputs)
        rows = zip(keys, values, outputs.header_rows(), strict=True)
        expected.extend((1003, key, value, list(headers)) for key, value, headers in rows)

    for add in (add_singles, add_columns) if singles_first else (add_columns, add_singles):
        add()
    batch.set_producer(5, 1, 7)
    before = batch.size()
    built = bytes(batch.build())
    assert batch.record_count() == len(expected)
    if codec == "none":
        assert before == len(built)
    (read,) = _batches(built)
    facts = (read.producer_id, read.producer_epoch, read.base_sequence, read.is_transactional, read.compression_type)
    assert facts == (5, 1, 7, True, CODECS[codec])
    assert read.validate_crc()
    assert read.max_timestamp == max(time for time, *_ in expected)
    assert read.next_offset == len(expected)
    assert [(r.timestamp, r.key, r.value, r.headers) for r in read] == expected


def _batches(data: bytes) -> list[Any]:
    records, batches = MemoryRecords(data), []
    while records.has_next():
        batches.append(records.next_batch())
    return batches


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=200), st.integers(100, 3000))
def test_a_packed_batch_takes_no_more_than_its_limit_or_one_record(sizes: list[int], limit: int) -> None:
    outputs = OutputColumns("t", [b"k"] * len(sizes), [bytes(size) for size in sizes], (("a", b""),))
    start, values = 0, []
    while start < len(sizes):
        batch = PackedBatch(limit, None)
        added = batch.extend(outputs, start, 0)
        assert added >= 1 and (batch.size() <= limit or added == 1)
        if start + added < len(sizes):
            assert batch.extend(outputs, start + added, 0) == 0
            assert batch.append(key=b"k", value=bytes(limit), timestamp=0, headers=()) is None
        assert batch.size() == len(batch.build())
        values += [len(record.value) for record in _batches(bytes(batch.build()))[0]]
        start += added
    assert values == sizes
