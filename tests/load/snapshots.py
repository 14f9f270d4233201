"""What a snapshot of numbered readings must tell. Pure.

Each device counts 1, 2, 3… in its own partition, and each number comes as one reading of every metric. Whatever is
seen of a device is then a beginning of that: as many rows as the highest number, all different, the same for every
metric, and never less than was seen before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

METRICS = ("device.operating_time", "service.operation_time", "job.progress")


class Counted(NamedTuple):
    """The readings of one device and metric."""

    rows: int
    different: int
    least: float
    most: float


Snapshot = dict[tuple[str, str], Counted]


def snapshot(rows: Iterable[tuple[str, str, int, int, float, float]]) -> Snapshot:
    """From rows of device, metric, count, different, least and most."""
    return {(device, metric): Counted(*counted) for device, metric, *counted in rows}


def total(seen: Snapshot) -> int:
    """Readings in all."""
    return sum(counted.rows for counted in seen.values())


def wrong(seen: Snapshot, before: Snapshot) -> Iterator[str]:
    """What is not as it must be, in words."""
    for (device, metric), counted in seen.items():
        if not counted.rows == counted.different == counted.most or counted.least != 1:
            yield f"{device} {metric}: {counted}"
        elif counted != seen.get((device, METRICS[0])):
            yield f"{device} {metric}: not as many as of {METRICS[0]}"
    for key, counted in before.items():
        if key not in seen or seen[key].most < counted.most:
            yield f"{key}: {seen.get(key)} after {counted}"
