"""Simulated clouds under test: served on loopback, on a clock of their own."""

from __future__ import annotations

import pytest

from tests.simulators.clock import Clock, Truth


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def truth() -> Truth:
    return []
