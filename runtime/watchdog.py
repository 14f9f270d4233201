"""Watches the event loop of a stage from within: measures its lag, and ends the process when it stands still.

It is for stages that nobody supervises by `/livez` (containers, systemd): whoever restarts an ended process restarts a
stuck one too. A process that is frozen as a whole cannot end itself; a supervisor or systemd's watchdog kills it.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.health import Health
from runtime.metrics import EVENT_LOOP_LAG
from runtime.systemd import ALIVE, notify

log = logging.getLogger(__name__)

_BEAT_SECONDS = 1.0
_LAG_BEATS = 10
"""The lag shown is the longest of so many beats."""


class LoopWatchdog:
    """Ends the process with status 1 if the loop, or the stage by its own probes, is stuck for `limit_seconds`.

    Beats are counted instead of seconds, so that a process that was frozen and goes on is not ended for it. A limit of
    0 only measures.
    """

    def __init__(self, health: Health, limit_seconds: float, beat_seconds: float = _BEAT_SECONDS) -> None:
        self._health = health
        self._beat_seconds = beat_seconds
        self._limit = max(1, round(limit_seconds / beat_seconds)) if limit_seconds else 0
        self._beats = 0
        self._problem_beats = 0
        self._lags: deque[float] = deque(maxlen=_LAG_BEATS)
        self._ended = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the running loop while the block lasts."""
        beating = asyncio.create_task(self._beat())
        if self._limit:
            threading.Thread(target=self._watch, name="event loop watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._ended.set()
            beating.cancel()

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + self._beat_seconds
            await asyncio.sleep(self._beat_seconds)
            self._lags.append(max(0.0, loop.time() - due))
            EVENT_LOOP_LAG.labels(self._health.stage).set(max(self._lags))
            self._beats += 1
            problems = self._health.live_problems()
            self._problem_beats = self._problem_beats + 1 if problems else 0
            if not problems:
                notify(ALIVE)
            elif self._limit and self._problem_beats >= self._limit:
                self._end(f"is not live: {'; '.join(problems)}")

    def _watch(self) -> None:
        seen, standing = self._beats, 0
        while not self._ended.wait(self._beat_seconds):
            standing = standing + 1 if self._beats == seen else 0
            seen = self._beats
            if standing >= self._limit:
                self._end(f"stands still: its event loop has not run for {standing * self._beat_seconds:.0f} s")

    def _end(self, why: str) -> None:
        log.critical("%s %s; ending the process", self._health.stage, why)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)
        sys.stderr.flush()
        os._exit(1)
