"""Which files are merged: few, rarely, and nothing left lying about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sinks.delta.maintenance.compaction import LARGE_BYTES, SMALL_BYTES, LiveFile, Merge, plan_expiry, plan_merges

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KIB = 1024


def file(
    size: int, number: int = 0, day: str = "2026-11-21", vendor: str = "karcher", age_hours: float = 0
) -> LiveFile:
    written = NOW - timedelta(hours=age_hours) + timedelta(seconds=number)
    return LiveFile(f"{day}-{number}", (("received_date", day), ("vendor", vendor)), size, size // 10, written)


def files(size: int, count: int, first: int = 0, **of: str) -> list[LiveFile]:
    return [file(size, number, **of) for number in range(first, first + count)]


def plan(live: list[LiveFile]) -> list[Merge]:
    return plan_merges(live, NOW, at_least=16)


def test_few_small_files_of_today_are_left_alone() -> None:
    assert plan(files(10 * KIB, 15)) == []


def test_many_small_files_of_today_are_merged_in_the_order_they_were_written() -> None:
    for size in (0, 10 * KIB):
        assert plan(list(reversed(files(size, 16)))) == [tuple(files(size, 16))]


def test_files_of_some_megabytes_wait_until_they_are_many() -> None:
    middling = files(SMALL_BYTES - KIB, 15)
    assert plan(middling + files(10 * KIB, 15, 20)) == []
    last = file(SMALL_BYTES - KIB, 15)
    assert plan([*middling, last]) == [(*middling, last)]


def test_the_tiers_are_those_that_the_docs_name() -> None:
    assert (SMALL_BYTES, LARGE_BYTES) == (8 * 2**20, 128 * 2**20)


def test_a_file_of_half_a_small_one_belongs_to_the_upper_tier_only() -> None:
    halves = files(SMALL_BYTES // 2, 16)
    assert plan(halves) == [tuple(halves)]
    assert plan([*files(10 * KIB, 15, 100), halves[0]]) == []


@pytest.mark.parametrize(("day", "count"), [("2026-11-21", 16), ("2026-11-20", 2)], ids=["today", "a day that is over"])
def test_a_file_of_half_a_large_one_is_merged_no_more(day: str, count: int) -> None:
    def written(size: int) -> list[LiveFile]:
        return [file(size, number, day=day, age_hours=3) for number in range(count)]

    assert plan(written(LARGE_BYTES // 2)) == []
    assert {len(merge) for merge in plan(written(LARGE_BYTES // 2 - 1))} == {2}


def test_a_merged_file_is_no_larger_than_its_tier() -> None:
    merges = plan(files(3 * 1024 * KIB, 16))
    assert all(sum(one.bytes for one in merge) <= SMALL_BYTES for merge in merges)
    assert sum(len(merge) for merge in merges) == 16


def test_a_day_that_is_over_is_merged_once_nothing_has_come_for_an_hour() -> None:
    def yesterday(size: int, number: int, age_hours: float) -> LiveFile:
        return file(size, number, day="2026-11-20", age_hours=age_hours)

    small, larger = yesterday(10 * KIB, 0, 3), yesterday(SMALL_BYTES, 1, 2)
    assert plan([small, larger]) == [(small, larger)]
    assert plan([larger]) == []
    assert plan([small, larger, yesterday(KIB, 2, 0.5)]) == []  # a sink catches up: it would be merged repeatedly
    assert plan([yesterday(LARGE_BYTES, 0, 3), yesterday(LARGE_BYTES, 1, 3)]) == []


def test_each_partition_is_looked_at_by_itself() -> None:
    assert plan(files(KIB, 15) + files(KIB, 15, vendor="ogmen")) == []


def test_only_whole_days_that_are_too_old_expire() -> None:
    kept, gone = file(KIB, day="2026-11-11"), file(KIB, day="2026-11-10")
    assert plan_expiry([kept, gone, file(KIB)], NOW, 10) == [gone]


def test_a_day_of_flushes_stays_below_a_few_dozen_files_and_few_rewrites() -> None:
    """Simulates a day of a flush every 5 s, looked at every minute, 2 MB/min."""
    live: list[LiveFile] = []
    written = rewritten = number = 0
    for _minute in range(24 * 60):
        for _ in range(12):
            number += 1
            live.append(file(170 * KIB, number))
            written += 170 * KIB
        for merge in plan(live):
            number += 1
            live = [one for one in live if one not in merge] + [file(sum(one.bytes for one in merge), number)]
            rewritten += sum(one.bytes for one in merge)
    assert len(live) < 100
    assert rewritten < 4 * written
