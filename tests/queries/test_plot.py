"""What a plot makes of a query's rows."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlake.cli.plot import Series, save, series_of, thinned, ticks_of
from fleetlake.errors import UserError
from fleetlake.session import Answer

NOON = datetime(2026, 11, 21, 12)


def answer(columns: dict[str, str], *rows: tuple[Any, ...]) -> Answer:
    return Answer(list(columns), list(columns.values()), iter([list(rows)]))


def test_each_number_and_each_text_is_a_line_in_order_of_time() -> None:
    columns = {"at": "TIMESTAMP", "device": "VARCHAR", "a": "DOUBLE", "b": "DECIMAL(4,1)"}
    later = NOON.replace(hour=13)
    series = series_of(
        answer(columns, (later, "x", 2.0, Decimal("0.5")), (NOON, "x", 1.0, None), (NOON, "y", 3.0, None))
    )
    start = NOON.replace(tzinfo=UTC).timestamp()
    assert series == [
        Series("x a", [start, start + 3600], [1.0, 2.0]),
        Series("x b", [start + 3600], [0.5]),
        Series("y a", [start], [3.0]),
    ]


def test_days_count_and_what_is_no_number_does_not() -> None:
    columns = {"day": "DATE", "n": "BIGINT", "flag": "BOOLEAN"}
    [one] = series_of(answer(columns, (date(2026, 1, 1), 7, True), (None, 8, True)))
    assert one == Series("n", [datetime(2026, 1, 1, tzinfo=UTC).timestamp()], [7.0])
    assert series_of(answer({"at": "TIMESTAMP", "v": "DOUBLE"}, (NOON, float("nan")))) == []
    with pytest.raises(UserError, match="x INTEGER"):
        series_of(answer({"x": "INTEGER"}))


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=400), st.integers(4, 60))
def test_thinning_keeps_every_peak_the_order_and_the_bound(values: list[float], most: int) -> None:
    one = Series("x", [float(n) for n in range(len(values))], values)
    less = thinned(one, most)
    assert len(less.times) <= max(most + 2, 2)
    assert (min(less.values), max(less.values)) == (min(values), max(values))
    assert less.times == sorted(less.times)
    assert all(values[int(at)] == value for at, value in zip(less.times, less.values, strict=True))


def test_ticks_are_as_precise_as_the_span_needs() -> None:
    start = NOON.replace(tzinfo=UTC).timestamp()
    words = {span: ticks_of([start, start + span])[0][1] for span in (60, 7200, 200_000, 1e6)}
    assert list(words.values()) == ["12:00:00", "12:00", "21 Nov 12:00", "2026-11-21"]
    assert ticks_of([start]) == [(start, "12:00:00")]


def test_without_matplotlib_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match="pip install matplotlib"):
        save([Series("x", [0.0], [1.0])], "", tmp_path / "x.png")
