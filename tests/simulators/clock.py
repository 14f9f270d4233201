"""The clock of a simulated cloud, and what it says it sent."""

from __future__ import annotations

import asyncio
from typing import Any

Truth = list[dict[str, Any]]


class Clock:
    """Epoch seconds that run as fast as real time, and can be put forward."""

    def __init__(self) -> None:
        self._offset = 1_790_000_000.0 - asyncio.get_running_loop().time()

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self._offset

    def forward(self, seconds: float) -> None:
        self._offset += seconds
