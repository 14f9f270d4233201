"""Faults of aiokafka's clients, for tests: what cannot be brought about by its public interface."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer


def kill_fetcher(consumer: AIOKafkaConsumer) -> None:
    """End the task that fetches. To be called in the consumer's event loop."""
    task: asyncio.Task[None] = consumer._fetcher._fetch_task
    task.cancel()


def die_without_leaving_the_group(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer's stop look like its process's death to the group."""

    async def no_farewell() -> None:
        return None

    consumer._coordinator._maybe_leave_group = no_farewell
