"""How often each part of a Kärcher account is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from connectors.common.device_ownership import DeviceOwnership
from connectors.common.http_client import VendorError
from connectors.karcher.protocol import AnswerError
from runtime.backoff import Backoff
from runtime.periodic import PeriodicJob


@dataclass(frozen=True)
class Poll:
    """One kind of reading."""

    name: str
    """What is read, for the log."""
    seconds: float
    """The time between the end of a reading and the beginning of the next."""
    work: Callable[[], Awaitable[None]]
    forbidden_seconds: float = 300.0
    """The shortest pause after HTTP 403: permissions change seldom."""
    follows_ownership: bool = True
    """Whether it also reads as soon as the owned devices change."""

    async def run(self, ownership: DeviceOwnership) -> None:
        """Read until cancelled. A failure is logged once and retried with back-off."""
        job = PeriodicJob(
            f"karcher: reading the {self.name}",
            self.seconds,
            (VendorError, AnswerError),
            self._backoff,
            self._least_pause,
        )
        await job.run(self.work, _OwnershipWait(ownership) if self.follows_ownership else asyncio.sleep)

    def _backoff(self) -> Backoff:
        return Backoff(base=2.0, cap=max(60.0, min(self.seconds, 300.0)))

    def _least_pause(self, error: Exception) -> float:
        forbidden = isinstance(error, VendorError) and error.status == 403
        return self.forbidden_seconds if forbidden else 0.0


class _OwnershipWait:
    """Waits, but no longer than until the owned devices change. A change during a reading counts, too."""

    def __init__(self, ownership: DeviceOwnership) -> None:
        self._ownership = ownership
        self._version = ownership.version

    async def __call__(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ownership.changed(self._version)
        self._version = self._ownership.version
