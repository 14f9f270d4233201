"""Periodic jobs: when they run again, what is logged, what ends them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from runtime.backoff import Backoff
from runtime.periodic import PeriodicJob


class Script:
    """A job whose runs end as scripted, then a cancellation; and its waits, none of which takes time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)
        self.waits: list[tuple[str, float]] = []
        monkeypatch.setattr(asyncio, "sleep", self.wait_as("retry"))

    def wait_as(self, kind: str) -> Callable[[float], Awaitable[None]]:
        async def wait(seconds: float) -> None:
            self.waits.append((kind, seconds))

        return wait

    async def work(self) -> None:
        if not self.outcomes:
            raise asyncio.CancelledError
        if (error := self.outcomes.pop(0)) is not None:
            raise error

    async def run(self, job: PeriodicJob) -> None:
        with pytest.raises(asyncio.CancelledError):
            await job.run(self.work, self.wait_as("interval"))


def job(**options: Callable[[Exception], float]) -> PeriodicJob:
    return PeriodicJob("reading the registry", 100, (OSError,), lambda: Backoff(base=2, cap=8), **options)


async def test_a_success_is_followed_by_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, *[None] * 50)
    await script.run(job())
    assert {kind for kind, _ in script.waits} == {"interval"}
    assert len(script.waits) == 50
    assert all(95 <= seconds <= 105 for _, seconds in script.waits)
    assert len({seconds for _, seconds in script.waits}) > 1


async def test_failures_are_retried_with_back_off_that_a_success_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, *[OSError()] * 4, None, OSError())
    await script.run(job())
    assert [kind for kind, _ in script.waits] == ["retry"] * 4 + ["interval", "retry"]
    ceilings = [2, 4, 8, 8, None, 2]
    for (_, seconds), ceiling in zip(script.waits, ceilings, strict=True):
        assert ceiling is None or ceiling / 2 <= seconds < ceiling


async def test_each_change_of_state_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    script = Script(monkeypatch, None, OSError("first"), OSError("second"), None, None, OSError("third"))
    await script.run(job())
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "reading the registry failed (first); trying again"),
        ("INFO", "reading the registry succeeds again"),
        ("WARNING", "reading the registry failed (third); trying again"),
    ]


async def test_a_failure_may_ask_for_a_longer_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, OSError("forbidden"), OSError("busy"))
    await script.run(job(least_pause=lambda error: 500.0 if str(error) == "forbidden" else 0.0))
    assert script.waits[0] == ("retry", 500.0)
    assert script.waits[1][1] < 4


async def test_other_errors_end_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(monkeypatch, None, KeyError("a defect"))
    with pytest.raises(KeyError):
        await job().run(script.work, script.wait_as("interval"))
