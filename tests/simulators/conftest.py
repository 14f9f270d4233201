"""Simulated clouds under test: served on loopback, on a clock of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

Truth = list[dict[str, Any]]


class Clock:
    """Epoch seconds that run as fast as real time, and can be put forward."""

    def __init__(self) -> None:
        self._offset = 1_790_000_000.0 - asyncio.get_running_loop().time()

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._offset

    def forward(self, seconds: float) -> None:
        self._offset += seconds


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def truth() -> Truth:
    return []


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """Polls until a condition holds; fails after ten seconds."""

    async def wait(condition: Callable[[], object], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.02)

    return wait
