"""Tables as a terminal shows them: columns in the middle give way, rows stay single lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetlake.cli.output import columns_that_fit


@pytest.mark.parametrize(
    ("widths", "room", "shown"),
    [
        ([10, 10], 80, [0, 1]),
        ([40, 40], 20, [0, 1]),
        ([20, 20, 20, 20], 93, [0, 1, 2, 3]),
        ([20, 20, 20, 20], 92, [0, 1, None, 3]),
        ([20, 20, 20, 20], 60, [0, None, 3]),
        ([5] * 20, 80, [0, 1, 2, 3, 4, None, 16, 17, 18, 19]),
        ([100, 5, 5], 20, [0, None, 2]),
    ],
)
def test_the_middle_gives_way(widths: list[int], room: int, shown: list[int | None]) -> None:
    assert columns_that_fit(widths, room) == shown


@given(st.lists(st.integers(1, 60), min_size=1, max_size=30), st.integers(20, 200))
def test_what_is_shown_fits_unless_two_columns_are_too_wide(widths: list[int], room: int) -> None:
    columns = columns_that_fit(widths, room)
    taken = 1 + sum((1 if index is None else widths[index]) + 3 for index in columns)
    assert taken <= room or len([index for index in columns if index is not None]) <= 2
    indices = [index for index in columns if index is not None]
    assert indices == sorted(set(indices)) and indices[0] == 0 and indices[-1] == len(widths) - 1
    assert (None in columns) == (len(indices) < len(widths))
