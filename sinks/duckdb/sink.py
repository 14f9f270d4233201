"""The DuckDB sink: catches up with the lake's versions and publishes `fleet.duckdb`."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.health import Health
from runtime.locks import FileLock
from runtime.metrics import HOP_SECONDS
from sinks.delta.location import LakeLocation
from sinks.duckdb.published import PublishedDatabase
from sinks.duckdb.working import STAGE
from sinks.settings import DuckdbSettings

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class DuckDBSink:
    """Publishes `fleet.duckdb` in a data folder; `lake` is where the lake is if not in that folder."""

    settings: DuckdbSettings
    data_dir: Path
    lake: LakeLocation | None = None

    async def run(self, stop: asyncio.Event, health: Health) -> None:
        """Publish until `stop` is set, and then the last state once more.

        One process per data folder publishes; others wait for its end. Starting again after any end is safe: what is
        published is always one state of the lake. Raise duckdb.Error or OSError if the disk or the files fail.
        """
        published = asyncio.Event()
        health.ready.append(lambda: None if published.is_set() else f"{STAGE}: not published yet")
        lock = FileLock(self.data_dir / "work" / "duckdb-sink.lock")
        try:
            if await self._acquire(lock, stop):
                await self._publish_until(stop, published)
        finally:
            lock.close()

    async def _acquire(self, lock: FileLock, stop: asyncio.Event) -> bool:
        """Wait for the lock; return False if `stop` was set first."""
        if stop.is_set():
            return False
        if lock.try_acquire():
            return True
        log.info("%s: another process publishes from this data folder; waiting to take over", STAGE)
        return await lock.acquire_when_free(POLL_SECONDS, stop)

    async def _publish_until(self, stop: asyncio.Event, published: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix=STAGE) as thread:
            database = await loop.run_in_executor(thread, PublishedDatabase, self.data_dir, self.settings, self.lake)
            schedule = PublishSchedule(database, self.settings.publish_seconds)
            try:
                await loop.run_in_executor(thread, schedule.publish)
                published.set()
                while not stop.is_set():
                    await loop.run_in_executor(thread, schedule.step)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), self._poll_seconds())
                await loop.run_in_executor(thread, schedule.finish)
            finally:
                await loop.run_in_executor(thread, database.close)

    def _poll_seconds(self) -> float:
        """Return how often to look for new versions: every look at an object store is a request that is paid for."""
        local = self.lake is None or self.lake.local is not None
        return POLL_SECONDS if local else max(POLL_SECONDS, self.settings.publish_seconds)


class PublishSchedule:
    """Publishes a database if the lake changed, at most once per `publish_seconds`. Used from one thread."""

    def __init__(self, database: PublishedDatabase, publish_seconds: float) -> None:
        self._database = database
        self._publish_seconds = publish_seconds
        self._published_at = 0.0
        self._changed_at: float | None = time.monotonic()
        """When something was first seen that is not published yet; None: nothing is."""

    def step(self) -> None:
        """Catch up with the lake, and publish if anything is new and the last time is long enough ago."""
        self._catch_up()
        if self._changed_at is not None and time.monotonic() - self._published_at >= self._publish_seconds:
            self.publish()

    def publish(self) -> None:
        """Publish now."""
        self._database.publish()
        self._published_at = time.monotonic()
        if self._changed_at is not None:
            HOP_SECONDS.observe_all(("table_published", ""), [self._published_at - self._changed_at])
        self._changed_at = None

    def finish(self) -> None:
        """Catch up and publish what is not published yet, whenever the last time was."""
        self._catch_up()
        if self._changed_at is not None:
            self.publish()

    def _catch_up(self) -> None:
        started = time.monotonic()
        if self._database.catch_up() and self._changed_at is None:
            self._changed_at = started
