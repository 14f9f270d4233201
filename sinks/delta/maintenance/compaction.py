"""Planning which files of a table to merge and which to expire. Pure.

Two tiers keep the cost of merging low: many small files become one of up to `SMALL_BYTES`, and many of those become one
of up to `LARGE_BYTES`. A file is rewritten twice in its life, whatever the rate. When a day is over and has received
nothing for an hour, its remaining files are merged; waiting keeps rewrites few when records come late or a sink
catches up.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sinks.delta.tables import PARTITION_DATE

SMALL_BYTES = 8 * 1024 * 1024
LARGE_BYTES = 128 * 1024 * 1024
SETTLED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file of a table's snapshot: path relative to the table, partition values as text, and when it was written."""

    path: str
    partition: tuple[tuple[str, str | None], ...]
    bytes: int
    rows: int
    written_at: datetime

    @property
    def day(self) -> str:
        """The received date of its rows, `YYYY-MM-DD`."""
        return dict(self.partition).get(PARTITION_DATE) or ""


Merge = tuple[LiveFile, ...]
"""Files of one partition that become one, in the order in which they were written."""


def plan_merges(files: Iterable[LiveFile], now: datetime, at_least: int, settled: timedelta = SETTLED) -> list[Merge]:
    """Return what to merge at the moment `now` (UTC).

    A tier is merged when it has `at_least` files. Of a day that is over, and has received nothing for `settled`, all
    mergeable files are merged.
    """
    partitions: dict[tuple[tuple[str, str | None], ...], list[LiveFile]] = defaultdict(list)
    for file in files:
        partitions[file.partition].append(file)
    merges: list[Merge] = []
    for _, members in sorted(partitions.items(), key=lambda item: str(item[0])):
        members.sort(key=lambda file: (file.written_at, file.path))
        if _is_over(members, now, settled):
            merges += _bins([file for file in members if 2 * file.bytes < LARGE_BYTES], LARGE_BYTES)
        else:
            merges += _of_tiers(members, at_least)
    return merges


def plan_expiry(files: Iterable[LiveFile], now: datetime, days: int) -> list[LiveFile]:
    """Return the files whose rows were received more than `days` whole days before `now`."""
    oldest = (now.astimezone(UTC) - timedelta(days=days)).date().isoformat()
    return [file for file in files if file.day and file.day < oldest]


def _is_over(members: Sequence[LiveFile], now: datetime, settled: timedelta) -> bool:
    today = now.astimezone(UTC).date().isoformat()
    return members[0].day < today and now - members[-1].written_at >= settled


def _of_tiers(members: Sequence[LiveFile], at_least: int) -> list[Merge]:
    merges: list[Merge] = []
    for below, target in ((0, SMALL_BYTES), (SMALL_BYTES, LARGE_BYTES)):
        tier = [file for file in members if below <= 2 * file.bytes < target]
        if len(tier) >= at_least:
            merges += _bins(tier, target)
    return merges


def _bins(files: Sequence[LiveFile], target: int) -> Iterator[Merge]:
    """Yield bins in order, so that a merged file holds one stretch of time. A bin of one file needs no merging."""
    taken: list[LiveFile] = []
    for file in files:
        if taken and sum(one.bytes for one in taken) + file.bytes > target:
            if len(taken) > 1:
                yield tuple(taken)
            taken = []
        taken.append(file)
    if len(taken) > 1:
        yield tuple(taken)
