"""Waiting in tests: for a condition; for a time only where time itself is what is tested (`passing`)."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, overload

T = TypeVar("T")

POLL_SECONDS = 0.02
"""Between two looks at a condition."""
ASKED_SECONDS = 0.1
"""Likewise where the condition is awaited: it mostly asks Kafka, by a client of its own."""


def _nothing() -> str:
    return "the condition does not hold"


@overload
async def eventually(
    condition: Callable[[], Coroutine[Any, Any, T]], seconds: float = 90, what: Callable[[], object] = _nothing
) -> T: ...
@overload
async def eventually(condition: Callable[[], T], seconds: float = 90, what: Callable[[], object] = _nothing) -> T: ...
async def eventually(
    condition: Callable[[], Any], seconds: float = 90, what: Callable[[], object] = _nothing
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
        await asyncio.sleep(
            ASKED_SECONDS if asked else POLL_SECONDS
        )  # what is awaited mostly asks Kafka, by a client of its own


async def passing(seconds: float, why: str) -> None:
    """Let time pass. `why` says what is to happen in it, or must not: no event can be waited for instead."""
    assert why
    await asyncio.sleep(seconds)


def passing_blocking(seconds: float, why: str) -> None:
    """`passing` for tests without an event loop."""
    assert why
    time.sleep(seconds)


def eventually_blocking(condition: Callable[[], T], seconds: float = 90, what: Callable[[], object] = _nothing) -> T:
    """`eventually` for tests without an event loop."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        if outcome := condition():
            return outcome
        assert not late, f"not within {seconds} s: {what()}"
        time.sleep(POLL_SECONDS)
