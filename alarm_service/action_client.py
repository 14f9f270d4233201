"""Acts on an alarm without the service: reads how it stands, publishes the action, waits for the engine's event."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

from aiokafka import AIOKafkaConsumer

from alarm_service.action_publisher import ActionPublisher
from alarm_service.actions import refusal
from runtime.topic_reader import read_spans, spans_of, spans_since, topic_consumer
from schemas import wire
from schemas.timestamps import to_micros
from schemas.topics import ALARMS

_POLL_MS = 200


@dataclass(frozen=True)
class KnownAlarm:
    """How an alarm stands, as far as is known."""

    alarm_id: str
    device_id: str
    rule_id: str
    triggered_at: datetime
    status: str
    resolved_at: datetime | None = None
    is_latest: bool = True
    """Whether no later alarm of the device and rule is known."""
    read_since: datetime | None = None
    """Events that were written to the topic since then may be news. None: all of them."""

    def after(self, event: wire.AlarmEvent) -> KnownAlarm:
        """How it stands after an event, of this alarm or another."""
        alarm = event.alarm
        if alarm.alarm_id == self.alarm_id:
            return replace(self, status=alarm.status, resolved_at=alarm.resolved_at)
        is_of_rule = (alarm.device_id, alarm.rule_id) == (self.device_id, self.rule_id)
        return replace(self, is_latest=False) if is_of_rule and alarm.triggered_at > self.triggered_at else self


class Outcome(NamedTuple):
    """What became of an action: its event, or why the alarm does not permit it; neither: no answer in time."""

    event: wire.AlarmEvent | None = None
    refused: str | None = None


async def act(client: Mapping[str, Any], action: wire.AlarmAction, known: KnownAlarm, seconds: float) -> Outcome:
    """Publish an action and wait for its event, at most `seconds`; afterwards it may still be carried out.

    An action that the alarm's state does not permit is not published. KafkaAway where it could not be published,
    KafkaError, OSError or TimeoutError where the topic could not be read.
    """
    async with ActionPublisher(client, seconds) as publisher, topic_consumer(client, ALARMS) as (consumer, partitions):
        spans = await spans_of(consumer, partitions)
        since = 0 if known.read_since is None else to_micros(known.read_since) // 1000
        async for batch in read_spans(consumer, await spans_since(consumer, spans, since)):
            for record in batch.records:
                known = known.after(wire.decode_alarm_event(record.value or b""))
        if (why := _refusal(action, known)) is not None:
            return Outcome(refused=why)
        for partition, span in spans.items():
            consumer.seek(partition, span.end)
        await publisher.act(action)
        try:
            async with asyncio.timeout(seconds):
                return await _answer(consumer, action, known)
        except TimeoutError:
            return Outcome()


async def _answer(consumer: AIOKafkaConsumer, action: wire.AlarmAction, known: KnownAlarm) -> Outcome:
    """The event of the action, or of another that came before it and leaves nothing to do."""
    while True:
        for records in (await consumer.getmany(timeout_ms=_POLL_MS)).values():
            for record in records:
                event = wire.decode_alarm_event(record.value)
                if (event.metadata or {}).get("action_id") == action.action_id:
                    return Outcome(event)
                known = known.after(event)
                if (why := _refusal(action, known)) is not None:
                    return Outcome(refused=why)


def _refusal(action: wire.AlarmAction, known: KnownAlarm) -> str | None:
    return refusal(action.action, known.status, known.resolved_at, known.is_latest, action.requested_at)
