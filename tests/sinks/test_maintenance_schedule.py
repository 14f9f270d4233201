"""Maintenance at intervals: of the tables that are owned, each by itself, vacuuming now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from sinks.delta.location import LakeLocation
from sinks.delta.maintenance import schedule
from sinks.delta.maintenance.commits import Contended
from sinks.delta.maintenance.schedule import MaintenanceSchedule
from sinks.settings import DeltaSettings
from tests.support.waiting import eventually

Call = tuple[str, bool]


class Maintain:
    """Stands in for `maintain`: notes what it is called with, and fails where it should."""

    def __init__(self, fail: dict[str, Exception]) -> None:
        self.calls: list[Call] = []
        self._fail = fail

    def __call__(self, location: LakeLocation, table: str, settings: DeltaSettings, vacuum: bool) -> None:
        self.calls.append((table, vacuum))
        if error := self._fail.get(table):
            raise error


@contextmanager
def replaced(monkeypatch: pytest.MonkeyPatch, **fail: Exception) -> Iterator[Maintain]:
    stand_in = Maintain(fail)
    monkeypatch.setattr(schedule, "maintain", stand_in)
    yield stand_in


async def run_until(done: Callable[[], bool], owned: Callable[[], set[str]], **settings: float) -> None:
    running = MaintenanceSchedule(LakeLocation("/nowhere"), DeltaSettings(**settings), owned)  # type: ignore[arg-type]
    task = asyncio.create_task(running.run())
    try:
        await eventually(done, 90)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_only_owned_tables_are_maintained(monkeypatch: pytest.MonkeyPatch) -> None:
    with replaced(monkeypatch) as maintain:
        owned = {"readings"}
        await run_until(lambda: len(maintain.calls) > 2, lambda: owned, maintenance_seconds=0.01)
        assert {table for table, _ in maintain.calls} == {"readings"}
        assert not any(vacuum for _, vacuum in maintain.calls), "the first vacuum is due after vacuum_seconds"


class Clock:
    """Passes 100 seconds per round."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def owned(self) -> set[str]:
        self.now += 100
        return {"readings"}


async def test_vacuuming_has_an_interval_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(schedule, "time", clock)
    with replaced(monkeypatch) as maintain:
        await run_until(lambda: len(maintain.calls) >= 7, clock.owned, maintenance_seconds=0.01, vacuum_seconds=250)
    assert [vacuum for _, vacuum in maintain.calls[:7]] == [False, False, False, True, False, False, True]


@pytest.mark.parametrize("error", [Contended("busy"), DeltaError("store"), OSError("disk")])
async def test_a_table_that_fails_is_logged_and_tried_again(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with replaced(monkeypatch, readings=error) as maintain:
        await run_until(
            lambda: maintain.calls.count(("readings", False)) > 1 and maintain.calls.count(("events", False)) > 1,
            lambda: {"readings", "events"},
            maintenance_seconds=0.01,
        )
    assert "maintenance of table readings failed and will be retried" in caplog.text
