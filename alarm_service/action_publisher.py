"""Publishes actions on alarms and changes of rules. Delivery: acknowledged by all replicas when a call returns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas import wire
from schemas.records import AlarmRule
from schemas.rules import encode_rule
from schemas.topics import ALARM_ACTIONS, MAX_MESSAGE_BYTES, RULES


class KafkaAway(Exception):
    """Kafka has not acknowledged in time. It may have stored the record all the same."""


class ActionPublisher:
    """Publishes actions and rules; waits at most `seconds` for each acknowledgement."""

    def __init__(self, client: Mapping[str, Any], seconds: float) -> None:
        self._producer = AIOKafkaProducer(
            **client, acks="all", enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
        )
        self._seconds = seconds
        self._started = False

    async def __aenter__(self) -> ActionPublisher:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Connect. Until then every call raises KafkaAway. aiokafka's errors where Kafka does not answer."""
        await self._producer.start()
        self._started = True

    async def stop(self) -> None:
        """Disconnect; may be called before `start`."""
        await self._producer.stop()

    async def partitions(self, topic: str) -> list[int]:
        """The numbers of a topic's partitions."""
        return sorted(await self._producer.partitions_for(topic))

    async def act(self, action: wire.AlarmAction) -> None:
        """Publish an action for the alarm engine. KafkaAway where it is not acknowledged in time."""
        await self._send(ALARM_ACTIONS, action.device_id, wire.encode(action))

    async def put_rule(self, rule_id: str, rule: AlarmRule | None) -> tuple[int, int]:
        """Publish a rule, or its deletion (None); returns partition and offset.

        KafkaAway where it is not acknowledged in time.
        """
        return await self._send(RULES, rule_id, None if rule is None else encode_rule(rule))

    async def _send(self, topic: str, key: str, value: bytes | None) -> tuple[int, int]:
        if not self._started:
            raise KafkaAway("not connected yet")
        try:
            async with asyncio.timeout(self._seconds):
                sent = await self._producer.send_and_wait(topic, value, key=key.encode())
        except (KafkaError, OSError, TimeoutError) as error:
            raise KafkaAway(str(error) or type(error).__name__) from error
        return sent.partition, sent.offset
