"""Maintenance at intervals beside a running sink, in a thread of low priority."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from deltalake.exceptions import DeltaError

from sinks.delta.location import LakeLocation
from sinks.delta.maintenance.commits import Contended
from sinks.delta.maintenance.table import maintain
from sinks.settings import DeltaSettings

log = logging.getLogger(__name__)


class MaintenanceSchedule:
    """Maintains the tables that `owned` names each time, every `maintenance_seconds`.

    Writing rows and committing offsets continue meanwhile. Two processes may maintain the same table for a moment
    after a rebalance, which costs work but no row (`sinks.delta.maintenance.commits`).
    """

    def __init__(self, location: LakeLocation, settings: DeltaSettings, owned: Callable[[], Iterable[str]]) -> None:
        self._location = location
        self._settings = settings
        self._owned = owned
        self._vacuumed_at = time.monotonic()

    async def run(self) -> None:
        """Maintain until cancelled. A table that fails is logged and tried again in the next round."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="delta-maintenance", initializer=_lower_priority)
        try:
            while True:
                await asyncio.sleep(self._settings.maintenance_seconds)
                await self._round(thread)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)  # the next vacuum deletes the file of a merge cut off

    async def _round(self, thread: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        vacuum = now - self._vacuumed_at >= self._settings.vacuum_seconds
        self._vacuumed_at = now if vacuum else self._vacuumed_at
        loop = asyncio.get_running_loop()
        for table in set(self._owned()):
            try:
                await loop.run_in_executor(thread, maintain, self._location, table, self._settings, vacuum)
            except (DeltaError, Contended, OSError) as error:
                log.warning("delta: maintenance of table %s failed and will be retried: %s", table, error)


def _lower_priority() -> None:
    with suppress(OSError, AttributeError):  # only on Linux does a thread have a priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
