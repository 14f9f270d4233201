"""Waiting in tests: for a condition, not for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")


def _nothing() -> str:
    return "the condition does not hold"


@overload
async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T]], seconds: float = 30, what: Callable[[], object] = _nothing
) -> T: ...
@overload
async def eventually(condition: Callable[[], T], seconds: float = 30, what: Callable[[], object] = _nothing) -> T: ...
async def eventually(
    condition: Callable[[], Any], seconds: float = 30, what: Callable[[], object] = _nothing
) -> object:
    """Wait until `condition` returns something true, and return that. An asynchronous condition is awaited.

    Raises AssertionError with `what()` after `seconds`. The condition is looked at once more after that time, so that a
    machine that is too busy to look does not fail a test whose condition holds.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        late = loop.time() >= deadline
        outcome = condition()
        asked = inspect.isawaitable(outcome)
        if asked:
            outcome = await outcome
        if outcome:
            return outcome
        assert not late, f"not within {seconds} s: {what()}"
        await asyncio.sleep(0.1 if asked else 0.02)  # what is awaited mostly asks Kafka, by a client of its own


def eventually_blocking(condition: Callable[[], T], seconds: float = 30, what: Callable[[], object] = _nothing) -> T:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        if outcome := condition():
            return outcome
        assert not late, f"not within {seconds} s: {what()}"
        time.sleep(0.02)
