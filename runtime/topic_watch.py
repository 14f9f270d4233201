"""Whether the topics that a process reads are still those it started with.

A topic that is deleted and created again has the old name, new records and small offsets. A consumer does not notice
it: it resumes somewhere in the new log, or nowhere at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from runtime.topic_ids import TopicState, UnknownTopicsError, describe_topics

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
_ANSWER_SECONDS = 5.0


class PartitionsAddedError(RuntimeError):
    """A topic has more partitions than at the start."""


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who reads the topics, for the texts of errors."""

    name: str
    """E.g. `the sink`."""
    replaced: type[RuntimeError]
    """The error where a topic is gone or another one."""
    advice: str
    """What to do where a topic is another one."""
    grown: str
    """What added partitions mean."""


class TopicWatch:
    """Compares topics with how they were at the start. The check is one small request on a connection of its own."""

    def __init__(self, kafka: Mapping[str, Any], expected: Mapping[str, TopicState], watcher: Watcher) -> None:
        self._kafka = dict(kafka)
        self._watcher = watcher
        self._expected = dict(expected)
        self._client: AIOKafkaClient | None = None
        self._lock = asyncio.Lock()
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Raise the watcher's error if a topic is gone or another one now, PartitionsAddedError if it has grown.

        Where Kafka does not answer, nothing can be said, and the check passes.
        """
        async with self._lock:
            self._checked_at = time.monotonic()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    current = await self._describe()
            except UnknownTopicsError as error:
                watcher = self._watcher
                raise watcher.replaced(f"a topic was deleted while {watcher.name} read it: {error}") from error
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("topics not compared: %r", error)
                await self._disconnect()
                return
        for name, expected in self._expected.items():
            self._compare(name, expected, current[name])

    async def check_if_due(self) -> None:
        """`check`, at most every ten seconds: for a reader that has nothing to do."""
        if time.monotonic() - self._checked_at >= CHECK_SECONDS:
            await self.check()

    async def run(self) -> None:
        """`check` every ten seconds, until it raises or is cancelled; then disconnect."""
        try:
            while True:
                await asyncio.sleep(CHECK_SECONDS)
                await self.check()
        finally:
            await self.close()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._disconnect()

    async def _describe(self) -> dict[str, TopicState]:
        if self._client is None:
            client = AIOKafkaClient(**self._kafka)
            try:
                await client.bootstrap()
            except BaseException:
                await client.close()
                raise
            self._client = client
        return await describe_topics(self._client, list(self._expected))

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(KafkaError, OSError):
                await client.close()

    def _compare(self, name: str, expected: TopicState, current: TopicState) -> None:
        watcher = self._watcher
        if current.id != expected.id:
            raise watcher.replaced(
                f"topic {name} was deleted and created again while {watcher.name} read it (id {expected.id}, now "
                f"{current.id}). {watcher.advice}"
            )
        if current.partitions > expected.partitions:
            raise PartitionsAddedError(
                f"topic {name} has {current.partitions} partitions instead of {expected.partitions}: {watcher.grown}"
            )
