"""The command as a test runs it."""

from __future__ import annotations

from typing import Protocol


class Run(Protocol):
    """Type of the fixture `run`."""

    def __call__(self, *arguments: str, status: int = 0) -> str: ...
