"""SQL as text: quoting, columns, statements that bound the working tables."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sinks.delta.maintenance.compaction import LARGE_BYTES, SMALL_BYTES, LiveFile, plan_expiry, plan_merges
from sinks.delta.tables import READINGS, TABLES
from sinks.duckdb import published_sql, rollups, sql
from sinks.duckdb.rollups import ROLLUPS, interval
from sinks.settings import DuckdbSettings

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)


def test_quoting() -> None:
    assert sql.text("it's") == "'it''s'"
    assert sql.name('a"b') == '"a""b"'


def test_columns_of_a_table() -> None:
    every = sql.columns(READINGS).split(", ")
    assert len(every) == len(READINGS.schema.names)
    assert '"device_id" VARCHAR' in every and '"value_number" DOUBLE' in every and '"value_boolean" BOOLEAN' in every
    assert '"observed_at" TIMESTAMP' in every and '"origin_offset" BIGINT' in every and '"received_date" DATE' in every
    assert '"origin_partition" INTEGER' in every
    assert len(sql.columns(READINGS, ("unit",)).split(", ")) == len(every) - 1


def test_an_interval_is_in_microseconds() -> None:
    assert interval(1) == "to_microseconds(86400000000)"
    assert interval(0.5) == "to_microseconds(43200000000)"


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_what_is_folded_of_each_table(table: str) -> None:
    settings = DuckdbSettings(recent_days=2, alarm_days=3, recent_rows=17, rollup_rows=19, minute_days=5, hour_days=7)
    statements = "\n".join(sql.fold(table, settings))
    expected = {
        "readings": ["TABLE latest", interval(2), "place > 17", "upto > 19", interval(5), interval(7)],
        "events": ["SELECT 'events', device_id"],
        "devices": ["TABLE registry"],
        "alarm_events": ["TABLE alarms", interval(3), "status = 'resolved'"],
    }
    for part in expected.get(table, []):
        assert part in statements
    assert bool(statements) is (table in expected)
    assert ("CREATE OR REPLACE TABLE seen" in statements) is (table in ("readings", "events"))


def test_the_roll_ups() -> None:
    assert [(each.name, each.unit) for each in ROLLUPS] == [("readings_1m", "minute"), ("readings_1h", "hour")]
    assert rollups.clear() == [
        "DELETE FROM readings_1m",
        "DELETE FROM readings_1h",
        "UPDATE floors SET floor = '-infinity'",
    ]


def test_the_published_file_is_read_by_older_clients_and_finds_its_folder() -> None:
    assert published_sql.attach("a'b") == "ATTACH 'a''b' AS published (STORAGE_VERSION 'v1.2.0')"
    assert (published_sql.FILE_NAME, published_sql.LINK_PREFIX) == ("fleet.duckdb", ".fleet-")
    folder = published_sql.data_folder("/lake")
    assert folder.startswith("coalesce(getvariable('fleetlake_data')") and folder.endswith("'/lake')")
    assert published_sql.publish_table("latest").startswith('CREATE TABLE "latest" AS SELECT device_id')
    view = published_sql.publish_view(READINGS, [], "place")
    assert view.startswith('CREATE VIEW "readings" AS SELECT NULL::')


def test_comments_of_columns_that_are_not_known_say_so() -> None:
    made = published_sql.comment("VIEW", "a", "what", {"x": "it's"}, ["x", "y"])
    assert made == [
        "COMMENT ON VIEW \"a\" IS 'what'",
        "COMMENT ON COLUMN \"a\".\"x\" IS 'it''s'",
        f'COMMENT ON COLUMN "a"."y" IS \'{published_sql.UNKNOWN_COLUMN}\'',
    ]


# -- merging


def file(name: str, size: int, hours_ago: float = 5, day: str = "2026-03-16") -> LiveFile:
    return LiveFile(name, (("received_date", day),), size, 1, NOW - timedelta(hours=hours_ago))


def names(merges: list[tuple[LiveFile, ...]]) -> list[str]:
    return ["".join(each.path for each in merge) for merge in merges]


def test_sizes_at_the_edges_of_the_tiers() -> None:
    small, large = SMALL_BYTES // 2, LARGE_BYTES // 2
    assert names(plan_merges([file("a", small - 1), file("b", small - 1)], NOW, 2)) == ["ab"]
    assert names(plan_merges([file("a", small - 1), file("b", small)], NOW, 2)) == []
    assert names(plan_merges([file("a", small), file("b", large - 1)], NOW, 2)) == ["ab"]
    assert names(plan_merges([file("a", small), file("b", large)], NOW, 2)) == []
    assert names(plan_merges([file("a", 0), file("b", 0)], NOW, 2)) == ["ab"]
    assert names(plan_merges([file("a", 0), file("b", 0)], NOW, 3)) == []


def test_a_bin_is_full_at_its_target() -> None:
    quarter = SMALL_BYTES // 4
    assert names(plan_merges([file(name, quarter, 5) for name in "abcde"], NOW, 2)) == ["abcd"]
    assert names(plan_merges([file(name, quarter, 5) for name in "abcdef"], NOW, 2)) == ["abcd", "ef"]
    assert names(plan_merges([file(name, quarter + 1, 5) for name in "abcd"], NOW, 2)) == ["abc"]


def test_files_are_merged_in_the_order_of_their_writing() -> None:
    files = [file("c", 1, 1), file("b", 1, 2), file("a", 1, 2)]
    assert names(plan_merges(files, NOW, 2)) == ["abc"]


@pytest.mark.parametrize(("hours_ago", "merged"), [(1, ["ab"]), (0.99, [])])
def test_a_day_that_is_over_is_settled_after_an_hour(hours_ago: float, merged: list[str]) -> None:
    yesterday = [file("a", 1, 20, "2026-03-15"), file("b", SMALL_BYTES, hours_ago, "2026-03-15")]
    assert names(plan_merges(yesterday, NOW, 9)) == merged


def test_whole_days_expire() -> None:
    files = [file("a", 1, day="2026-03-14"), file("b", 1, day="2026-03-15"), LiveFile("c", (), 1, 1, NOW)]
    assert [each.path for each in plan_expiry(files, NOW, 1)] == ["a"]
    assert [each.path for each in plan_expiry(files, NOW, 2)] == []
