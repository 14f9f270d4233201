"""What the endpoints work on: the database, the topic ingest that fills it, and the publisher of changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from alarm_service.action_publisher import ActionPublisher
from alarm_service.store.database import AlarmDatabase
from alarm_service.topic_ingest import TopicIngest

_POLL_SECONDS = 0.25
"""Another service may have stored what a request waits for, without waking this one."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Backend:
    """The parts that the endpoints share. `wait_seconds` is how long an answer waits for Kafka's side."""

    database: AlarmDatabase
    ingest: TopicIngest
    publisher: ActionPublisher
    wait_seconds: float

    async def query(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the database in a thread, so that a slow disk delays no other request."""
        return await asyncio.to_thread(call, *args, **kwargs)

    async def wait_until(self, holds: Callable[[], Awaitable[bool]]) -> bool:
        """Wait until the condition holds; False if it does not within `wait_seconds`."""
        deadline = time.monotonic() + self.wait_seconds
        while not await holds():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            await self.ingest.wait_until_stored(min(remaining, _POLL_SECONDS))
        return True
