"""Acts on an alarm without the service: publishes the action, and waits for the engine's event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from alarm_service.action_publisher import ActionPublisher
from schemas import wire
from schemas.topics import ALARMS

_POLL_MS = 200


async def act(client: Mapping[str, Any], action: wire.AlarmAction, seconds: float) -> wire.AlarmEvent | None:
    """Publish an action and wait for its event; None if none came in time (the action may be carried out later).

    KafkaAway where the action could not be published.
    """
    async with (
        ActionPublisher(client, seconds) as publisher,
        AIOKafkaConsumer(**client, enable_auto_commit=False, isolation_level="read_committed") as consumer,
    ):
        consumer.assign([TopicPartition(ALARMS, number) for number in await publisher.partitions(ALARMS)])
        await consumer.seek_to_end()
        for tp in consumer.assignment():
            await consumer.position(tp)  # only now is it certain that the event will be seen
        await publisher.act(action)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
                        for record in records:
                            event = wire.decode_alarm_event(record.value)
                            if (event.metadata or {}).get("action_id") == action.action_id:
                                return event
        except TimeoutError:
            return None
