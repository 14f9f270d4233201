"""Statistics of Parquet files for the Delta log: bounds never exclude a value."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from sinks.delta.maintenance.statistics import TEXT_PREFIX, lower_bound, statistics, upper_bound


def of(folder: Path, columns: dict[str, Any], row_group_size: int = 2) -> dict[str, Any]:
    file = folder / "x.parquet"
    pq.write_table(pa.table(columns), file, row_group_size=row_group_size)
    return statistics(pq.read_metadata(file))


def test_bounds_and_nulls_are_those_of_all_row_groups(tmp_path: Path) -> None:
    stats = of(tmp_path, {"number": [5.0, None, 1.0, 9.0], "text": ["b", "a", None, None]})
    assert stats["numRecords"] == 4
    assert (stats["minValues"], stats["maxValues"]) == ({"number": 1.0, "text": "a"}, {"number": 9.0, "text": "b"})
    assert stats["nullCount"] == {"number": 1, "text": 2}


def test_a_column_of_nulls_or_of_bytes_has_no_bounds(tmp_path: Path) -> None:
    stats = of(tmp_path, {"nothing": pa.array([None, None], pa.string()), "value": [b"\x00", b"\xff"]})
    assert stats["minValues"] == stats["maxValues"] == {}
    assert stats["nullCount"] == {"nothing": 2, "value": 0}


def test_a_column_without_statistics_in_one_row_group_has_no_bounds(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"number": [1, 2], "plain": [1, 2]}), file, write_statistics=["number"])
    stats = statistics(pq.read_metadata(file))
    assert stats["minValues"] == {"number": 1} and stats["maxValues"] == {"number": 2}
    assert stats["nullCount"] == {"number": 0, "plain": 0}, "a column that is not listed is one that the file lacks"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=2 * TEXT_PREFIX))
def test_a_text_lies_within_its_bounds(text: str) -> None:
    low, high = lower_bound(text).encode(), upper_bound(text).encode()
    assert low <= text.encode() <= high
    assert len(lower_bound(text)) <= TEXT_PREFIX and len(upper_bound(text)) <= TEXT_PREFIX + 1


def test_a_long_text_is_cut_and_its_upper_bound_lies_above_it() -> None:
    text = "ab" * 40
    assert lower_bound(text) == text[:64]
    assert upper_bound(text) == text[:64] + "\U0010ffff"
    assert lower_bound(text[:64]) == upper_bound(text[:64]) == text[:64]


@given(st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)))
def test_a_time_lies_within_its_bounds_which_are_whole_milliseconds(at: datetime) -> None:
    low, high = datetime.fromisoformat(lower_bound(at)), datetime.fromisoformat(upper_bound(at))
    assert low <= at <= high
    assert (high - low).total_seconds() in (0, 0.001)
    assert low.microsecond % 1000 == high.microsecond % 1000 == 0
