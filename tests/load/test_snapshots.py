"""The readers of `make lake-readers` would see it if something were wrong."""

from __future__ import annotations

import pytest

from tests.load.snapshots import METRICS, Counted, Snapshot, total, wrong


def counted(up_to: int) -> Snapshot:
    """A device with so many numbers."""
    return {("a", metric): Counted(up_to, up_to, 1, up_to) for metric in METRICS}


def test_a_beginning_that_grows_is_right() -> None:
    assert not list(wrong(counted(5), {}))
    assert not list(wrong(counted(7), counted(5)))
    assert total(counted(7)) == 7 * len(METRICS)


@pytest.mark.parametrize(
    "changed",
    [
        Counted(6, 5, 1, 5),  # one twice
        Counted(4, 4, 1, 5),  # a hole
        Counted(4, 4, 2, 5),  # the first one gone
        Counted(6, 6, 1, 6),  # half of a message
        Counted(5, 4, 1, 5),  # one twice, another gone
    ],
)
def test_each_fault_is_seen(changed: Counted) -> None:
    assert list(wrong({**counted(5), ("a", METRICS[1]): changed}, {}))


def test_less_than_before_is_seen() -> None:
    assert list(wrong(counted(4), counted(5)))
    assert list(wrong({}, counted(1)))
