"""Whether the topics that a sink reads are still those it started with.

A topic that is deleted and created again has the old name, new records and small offsets. A consumer does not notice
it: it resumes somewhere in the new log, or nowhere at all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from runtime.kafka import KafkaSettings, client_options
from sinks.delta.topic_ids import TopicState, UnknownTopicsError, describe_topics
from sinks.writer import SinkError

log = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
_ANSWER_SECONDS = 5.0


class PartitionsAddedError(RuntimeError):
    """A topic has more partitions than at the start. A new start reads them all, each from its first record."""


class TopicWatch:
    """Compares topics with how they were at the start. The check is one small request on a connection of its own."""

    def __init__(self, kafka: KafkaSettings, expected: Mapping[str, TopicState]) -> None:
        self._kafka = kafka
        self._expected = dict(expected)
        self._client: AIOKafkaClient | None = None
        self._lock = asyncio.Lock()
        self._checked_at = time.monotonic()

    async def check(self) -> None:
        """Raise SinkError if a topic is gone or another one now, PartitionsAddedError if it has grown.

        Where Kafka does not answer, nothing can be said, and the check passes.
        """
        async with self._lock:
            self._checked_at = time.monotonic()
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    current = await self._describe()
            except UnknownTopicsError as error:
                raise SinkError(f"a topic was deleted while the sink read it: {error}") from error
            except (KafkaError, OSError, TimeoutError) as error:
                log.debug("topics not compared: %r", error)
                await self._disconnect()
                return
        for name, expected in self._expected.items():
            _compare(name, expected, current[name])

    async def check_if_due(self) -> None:
        """`check`, at most every ten seconds: for a sink that has nothing to write."""
        if time.monotonic() - self._checked_at >= CHECK_SECONDS:
            await self.check()

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._disconnect()

    async def _describe(self) -> dict[str, TopicState]:
        if self._client is None:
            client = AIOKafkaClient(**client_options(self._kafka))
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


def _compare(name: str, expected: TopicState, current: TopicState) -> None:
    if current.id != expected.id:
        raise SinkError(
            f"topic {name} was deleted and created again while the sink read it (id {expected.id}, now {current.id}). "
            "Use another data folder, or set accept_new_topics = true in [sink.delta] to append the new topic's "
            "records from their start."
        )
    if current.partitions > expected.partitions:
        raise PartitionsAddedError(
            f"topic {name} has {current.partitions} partitions instead of {expected.partitions}: "
            "starting again to read the new ones"
        )
