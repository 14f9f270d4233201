"""Back-off and retrying: which waiting times, which errors, how often."""

from __future__ import annotations

import asyncio

import pytest

from runtime.backoff import Backoff, backoff_seconds
from runtime.retry import RetryAfter, retrying, retrying_in_thread


def test_the_waiting_time_doubles_up_to_the_cap() -> None:
    assert [backoff_seconds(failures, 2, 300, 0) for failures in (1, 2, 3, 9, 500)] == [1, 2, 4, 150, 150]


def test_jitter_adds_at_most_the_other_half() -> None:
    assert backoff_seconds(3, 1, 60, 0.5) == 3
    assert backoff_seconds(3, 1, 60, 0.999_999) < 4
    assert backoff_seconds(50, 1, 60, 0.999_999) < 60


def test_a_backoff_starts_over_after_a_success() -> None:
    backoff = Backoff(base=1, cap=8)
    assert [backoff.next(0.0) for _ in range(5)] == [0.5, 1, 2, 4, 4]
    backoff.reset()
    assert backoff.next(0.5) == 0.75


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waiting times, none of which is waited for."""
    seconds: list[float] = []

    async def sleep(duration: float) -> None:
        seconds.append(duration)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


class Operation:
    """Fails with each of the errors in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


async def test_an_operation_is_retried_until_it_succeeds(waits: list[float]) -> None:
    operation, result = Operation(OSError(), OSError()), 0
    async for attempt in retrying(OSError, base=1, cap=60):
        with attempt:
            result = operation()
    assert result == 3
    assert 0.5 <= waits[0] < 1
    assert 1 <= waits[1] < 2
    assert len(waits) == 2


async def test_other_errors_are_raised_at_once(waits: list[float]) -> None:
    operation = Operation(KeyError("a"))
    with pytest.raises(KeyError):
        async for attempt in retrying(OSError, ValueError):
            with attempt:
                operation()
    assert (operation.calls, waits) == (1, [])


async def test_the_last_error_is_raised_after_the_last_attempt(waits: list[float]) -> None:
    operation = Operation(OSError("one"), ValueError("two"), OSError("three"), OSError("four"))
    with pytest.raises(OSError, match="three"):
        async for attempt in retrying(OSError, ValueError, attempts=3):
            with attempt:
                operation()
    assert (operation.calls, len(waits)) == (3, 2)


async def test_the_other_side_may_say_how_long_to_wait(waits: list[float]) -> None:
    operation = Operation(RetryAfter("busy", 42), RetryAfter("busy"))
    async for attempt in retrying(RetryAfter, base=1, cap=60):
        with attempt:
            operation()
    assert waits[0] == 42
    assert 1 <= waits[1] < 2


def test_in_a_thread_something_is_done_before_each_further_attempt() -> None:
    operation, renewed = Operation(OSError(), OSError()), []
    attempts = retrying_in_thread(OSError, pause=0, attempts=3, before_next=lambda: renewed.append(operation.calls))
    assert attempts(operation) == 3
    assert renewed == [1, 2], "before the second and the third"


def test_in_a_thread_the_last_error_is_raised_and_others_at_once() -> None:
    failing = Operation(OSError(), OSError(), OSError())
    with pytest.raises(OSError):
        retrying_in_thread(OSError, pause=0, attempts=2, before_next=lambda: None)(failing)
    assert failing.calls == 2
    other = Operation(KeyError())
    with pytest.raises(KeyError):
        retrying_in_thread(OSError, pause=0, attempts=2, before_next=lambda: None)(other)
    assert other.calls == 1
