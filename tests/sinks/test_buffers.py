"""A sink's buffers: records in offset order without repetition, cut when a bound is reached."""

from __future__ import annotations

import pytest

from sinks.buffers import Bounds, Buffers, Start, start_of
from sinks.writer import SinkError
from tests.support.records import ConsumedRecord, record_of

FIRST, SECOND, OTHER = ("t", 0), ("t", 1), ("u", 0)


def records(*offsets: int) -> list[ConsumedRecord]:
    return [record_of(b"12345", offset) for offset in offsets]


def buffers(seconds: float = 10, count: int = 100, size: int = 1000) -> Buffers:
    made = Buffers(Bounds(seconds, count, size))
    for partition in (FIRST, SECOND, OTHER):
        made.position(partition, None, 0)
    return made


def test_a_slice_holds_what_was_added_and_the_next_one_continues_there() -> None:
    made = buffers()
    made.add(FIRST, records(0, 1, 3), 5.0)
    since, [taken] = made.cut("t")
    assert (since, taken.partition, taken.expected, taken.next) == (5.0, 0, None, 4)
    assert [record.offset for record in taken.records] == [0, 1, 3]
    made.add(FIRST, records(4), 6.0)
    _, [following] = made.cut("t")
    assert (following.expected, following.next) == (4, 5)
    assert made.cut("t")[1] == []


def test_records_below_the_position_are_dropped() -> None:
    made = buffers()
    made.position(FIRST, 7, 7)
    made.add(FIRST, records(5, 6), 1.0)
    assert made.topics() == []
    made.add(FIRST, records(6, 7, 8), 1.0)
    _, [taken] = made.cut("t")
    assert [record.offset for record in taken.records] == [7, 8]
    assert taken.expected == 7


def test_records_of_a_partition_without_a_position_are_dropped() -> None:
    made = Buffers(Bounds(10, 100, 1000))
    made.add(FIRST, records(0), 1.0)
    assert made.topics() == [] and made.cut("t")[1] == []


def test_a_new_position_drops_what_was_buffered() -> None:
    made = buffers()
    made.add(FIRST, records(0, 1), 1.0)
    made.position(FIRST, 1, 1)
    assert made.cut("t")[1] == []
    assert made.next_offset(FIRST) == 1


def test_a_topic_is_due_by_age_of_its_first_record() -> None:
    made = buffers(seconds=10)
    made.add(FIRST, records(0), 100.0)
    made.add(FIRST, records(1), 109.0)
    assert made.due(109.9) == []
    assert made.due(110.0) == ["t"]


@pytest.mark.parametrize(("count", "size"), [(4, 1000), (100, 20)])
def test_a_topic_is_due_by_number_or_size_over_all_its_partitions(count: int, size: int) -> None:
    made = buffers(count=count, size=size)
    made.add(FIRST, records(0, 1), 1.0)
    made.add(SECOND, records(0), 1.0)
    made.add(OTHER, records(0), 1.0)
    assert made.due(1.0) == []
    made.add(SECOND, records(1), 1.0)
    assert made.due(1.0) == ["t"]
    assert [taken.partition for taken in made.cut("t")[1]] == [0, 1]
    assert made.due(1.0) == [] and made.topics() == ["u"]


def test_bytes_are_counted_anew_after_a_cut() -> None:
    made = buffers(size=20)
    made.add(FIRST, records(0, 1, 2, 3), 1.0)
    assert made.due(1.0) == ["t"]
    made.cut("t")
    made.add(FIRST, records(4, 5, 6), 1.0)
    assert made.due(1.0) == []


def test_after_clearing_no_partition_has_a_position() -> None:
    made = buffers()
    made.add(FIRST, records(0), 1.0)
    made.clear()
    assert len(made) == 0 and FIRST not in made and made.topics() == []


def test_reading_starts_at_the_stored_offset_or_where_the_log_begins() -> None:
    assert start_of(FIRST, None, 3, 9) == Start(3, 0)
    assert start_of(FIRST, 5, 3, 9) == Start(5, 0)
    assert start_of(FIRST, 9, 3, 9) == Start(9, 0)
    assert start_of(FIRST, 3, 3, 9) == Start(3, 0)
    assert start_of(FIRST, 1, 3, 9) == Start(3, 2)


def test_an_offset_past_the_logs_end_stops_the_sink() -> None:
    with pytest.raises(SinkError, match=r"t\[0\] ends at offset 9, but offset 10 is stored"):
        start_of(FIRST, 10, 3, 9)


def test_all_topics_are_due_when_they_hold_too_much_together() -> None:
    made = Buffers(Bounds(10, 100, 1000, total_bytes=15))
    for partition in (FIRST, SECOND, OTHER):
        made.position(partition, None, 0)
    made.add(FIRST, records(0), 1.0)
    made.add(OTHER, records(0), 1.0)
    assert made.due(1.0) == [], "ten bytes"
    made.add(SECOND, records(0), 1.0)
    assert sorted(made.due(1.0)) == ["t", "u"]
