"""Following the topics of readings, events, alarms and rules: committed records, from the end, in no group.

Rules are read from the beginning, since an alarm shows the rule that raised it. Delivery to the hub: at most once per
start. After an outage of Kafka reading goes on where it was.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from alarm_service.action_publisher import ActionPublisher
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.backoff import Backoff
from runtime.metrics import LEFT_OUT, RECORDS_IN
from runtime.topic_reader import committed_consumer
from schemas import wire
from schemas.consumed import Record
from schemas.topics import ALARMS, EVENTS, READINGS, RULES
from ui.live.hub import Hub

_log = logging.getLogger(__name__)

STAGE = "ui"
FindKafka = Callable[[], Mapping[str, Any] | None]
"""The options of a Kafka client; None while there is no broker to connect to."""

_POLL_MS = 100
_BATCH_RECORDS = 5000
_PROBE_SECONDS = 2.0
_PROBE_TIMEOUT = 5.0
_AGES = 4000


class TopicReader:
    """Reads the topics into the hub for as long as it runs, and connects anew whenever Kafka was away."""

    def __init__(self, find_kafka: FindKafka, hub: Hub, action_seconds: float) -> None:
        self._find_kafka, self._hub, self._action_seconds = find_kafka, hub, action_seconds
        self._positions: dict[TopicPartition, int] = {}
        self.publisher: ActionPublisher | None = None
        """Publishes actions; None while Kafka does not answer."""
        self.problem: str | None = "connecting to Kafka"
        """Why nothing new arrives; None while topics are being followed."""
        self.rules: dict[str, dict[str, Any]] = {}
        self.ages: deque[tuple[float, float]] = deque(maxlen=_AGES)
        """When observations arrived (steady clock, seconds), and how old they were then: since receipt."""

    def client(self) -> Mapping[str, Any] | None:
        """The options of a Kafka client; None while Kafka does not answer."""
        return self._find_kafka() if self.problem is None else None

    async def run(self) -> None:
        """Follow until cancelled."""
        backoff = Backoff()
        while True:
            try:
                await self._connected(backoff)
            except (KafkaError, OSError, TimeoutError, LookupError) as error:
                if self.problem is None:
                    _log.warning("ui: Kafka does not answer (%s); trying again", error or type(error).__name__)
                self.problem = "Kafka does not answer"
            await asyncio.sleep(min(backoff.next(random.random()), 5.0))

    async def _connected(self, backoff: Backoff) -> None:
        client = self._find_kafka()
        if client is None:
            self.problem = "no Kafka is running"
            return
        async with ActionPublisher(client, self._action_seconds) as publisher, committed_consumer(client) as consumer:
            await self._assign(consumer)
            self.publisher, self.problem = publisher, None
            _log.info("ui: following the topics")
            backoff.reset()
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(consumer))
                    group.create_task(self._probe(consumer))
            except* (KafkaError, OSError, TimeoutError) as errors:
                raise errors.exceptions[0] from errors  # the loop of `run` knows what to do
            finally:
                self.publisher = None

    async def _assign(self, consumer: AIOKafkaConsumer) -> None:
        partitions = [
            TopicPartition(topic, number)
            for topic in (READINGS, EVENTS, ALARMS, RULES)
            for number in sorted(await load_metadata(consumer, topic))
        ]
        consumer.assign(partitions)
        begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
        for tp in partitions:
            start = begins[tp] if tp.topic == RULES else self._positions.get(tp, ends[tp])
            consumer.seek(tp, start if begins[tp] <= start <= ends[tp] else ends[tp])

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
            for tp, records in fetched.items():
                RECORDS_IN.labels(STAGE, "").inc(len(records))
                for record in records:
                    await self._take(record)
                self._positions[tp] = records[-1].offset + 1
            await asyncio.sleep(0)

    async def _probe(self, consumer: AIOKafkaConsumer) -> None:
        """Ask the broker for something now and then: a consumer stays silent while its broker is away."""
        while True:
            await asyncio.sleep(_PROBE_SECONDS)
            async with asyncio.timeout(_PROBE_TIMEOUT):
                await consumer.end_offsets([next(iter(consumer.assignment()))])

    async def _take(self, record: Record) -> None:
        try:
            match record.topic:
                case topic if topic == READINGS:
                    observation = wire.decode_observation(record.value or b"")
                    self.ages.append((time.monotonic(), time.time() - observation.received_at.timestamp()))
                    self._hub.add_observation(observation)
                case topic if topic == EVENTS:
                    self._hub.add_events(wire.decode_event_set(record.value or b""))
                case topic if topic == ALARMS:
                    await self._hub.add_alarm_event(wire.decode_alarm_event(record.value or b""))
                case _:
                    self._take_rule(record)
        except msgspec.DecodeError:
            LEFT_OUT.labels(STAGE, "", "unreadable").inc()

    def _take_rule(self, record: Record) -> None:
        rule_id = (record.key or b"").decode(errors="replace")
        if record.value is None:
            self.rules.pop(rule_id, None)
        else:
            self.rules[rule_id] = msgspec.json.decode(record.value)
