"""Jobs that run every so many seconds until they are cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from runtime.backoff import Backoff

_log = logging.getLogger(__name__)

_SPREAD = 0.05
"""Part of the interval by which a wait is shorter or longer, so that many processes do not ask at the same moment."""


@dataclass(frozen=True)
class PeriodicJob:
    """A job that is repeated `seconds` after it succeeded, and sooner, with back-off, after it failed."""

    name: str
    """What the job does, for log lines: «reading the registry»."""
    seconds: float
    errors: tuple[type[Exception], ...]
    """What counts as a failure that passes. Other errors end the job."""
    retry: Callable[[], Backoff] = Backoff
    """Makes the back-off between attempts that fail."""
    least_pause: Callable[[Exception], float] = lambda error: 0.0
    """Seconds to wait at least after this failure."""

    async def run(
        self, work: Callable[[], Awaitable[None]], wait: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """Run `work` again and again until cancelled. One log line when it begins to fail, one when it succeeds again.

        `wait` is awaited with the seconds after each success, and may return earlier when there is a reason to.
        """
        backoff = self.retry()
        while True:
            try:
                await work()
            except self.errors as error:
                if backoff.failures == 0:
                    _log.warning("%s failed (%s); trying again", self.name, error)
                await asyncio.sleep(max(backoff.next(random.random()), self.least_pause(error)))
            else:
                if backoff.failures > 0:
                    _log.info("%s succeeds again", self.name)
                backoff.reset()
                await wait(self.seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD))
