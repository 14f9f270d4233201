"""Topic ingest: stores alarm events, and keeps the rules as the rules topic has them.

Every service reads all partitions, even if others share its database: the first one stores a batch, and the others
continue behind it. Delivery into the store: exactly once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from alarm_service.store.alarms import StaleBatch
from alarm_service.store.database import AlarmDatabase
from runtime.errors import StageError
from runtime.metrics import LAG, LEFT_OUT, RECORDS_IN
from runtime.topic_reader import ReadLimits, read_spans, spans_of
from schemas import wire
from schemas.consumed import Record
from schemas.topics import ALARMS, MAX_MESSAGE_BYTES, RULES

_log = logging.getLogger(__name__)

STAGE = "alarms"
NEW_TOPIC_ADVICE = "Use a new database for the alarm service, since the old offsets mean nothing in the new topic."
_BATCH_RECORDS = 1000
_POLL_MS = 200
_WITHOUT_END = ReadLimits(stall_seconds=None)  # Kafka may go away meanwhile


class TopicIngest:
    """Reads the topics of alarms and rules into the database."""

    def __init__(self, client: Mapping[str, Any], database: AlarmDatabase) -> None:
        self._database = database
        self._consumer = AIOKafkaConsumer(
            **client,
            enable_auto_commit=False,
            isolation_level="read_committed",
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            fetch_max_wait_ms=_POLL_MS,
        )
        self._stored: dict[TopicPartition, int | None] = {}
        """The next offset of each partition of the alarms topic, as the database has it."""
        self._rules_next: dict[int, int] = {}
        self._something_stored = asyncio.Condition()
        self._targets: dict[TopicPartition, int] = {}
        """Where the alarms topic ended when reading began."""
        self._read: dict[TopicPartition, int] = {}
        """Up to here all is stored. Beyond `_stored`, since a transaction's marker takes an offset too."""

    def problem(self) -> str | None:
        """Why the database is not yet up to date with what Kafka held at the start; None if it is."""
        if not self._targets:
            return "alarms: the topics have not been read yet"
        behind = [tp for tp, end in self._targets.items() if self._read.get(tp, 0) < end]
        return f"alarms: {len(behind)} partition(s) are still being read" if behind else None

    def has_rule(self, partition: int, offset: int) -> bool:
        """Whether the rules are stored up to and with this record of the rules topic."""
        return self._rules_next.get(partition, 0) > offset

    async def wait_until_stored(self, seconds: float) -> None:
        """Return when something was stored, at the latest after this many seconds."""
        async with self._something_stored:
            try:
                await asyncio.wait_for(self._something_stored.wait(), seconds)
            except TimeoutError:
                return

    async def check_topic(self, id_: str) -> None:
        """StageError where the alarms topic is not the one whose offsets the database has."""
        known = await asyncio.to_thread(self._database.alarms.known_topic, ALARMS, id_)
        if known != id_:
            text = f"topic {ALARMS} was deleted and created again (id {known}, now {id_})"
            raise StageError(f"{text}. {NEW_TOPIC_ADVICE}")

    async def run(self, partitions: Mapping[str, Iterable[int]]) -> None:
        """Read until cancelled. `partitions` are those of the two topics.

        StageError where Kafka's log does not match the database.
        """
        rules = [TopicPartition(RULES, number) for number in partitions[RULES]]
        alarms = [TopicPartition(ALARMS, number) for number in partitions[ALARMS]]
        await self._consumer.start()
        await self._read_rules(rules)
        self._consumer.assign([*rules, *alarms])
        for tp in rules:
            self._consumer.seek(tp, self._rules_next[tp.partition])
        await self._begin_alarms(alarms)
        while True:
            await self._step()

    async def stop(self) -> None:
        """Disconnect; may be called before `run`."""
        await self._consumer.stop()

    async def _read_rules(self, tps: list[TopicPartition]) -> None:
        """Read the whole topic: it is compacted, so that a rule deleted long ago may have left no record."""
        self._consumer.assign(tps)
        spans = await spans_of(self._consumer, tps)
        latest: dict[bytes | None, Record] = {}
        async for batch in read_spans(self._consumer, spans, _WITHOUT_END):
            latest |= {record.key: record for record in batch.records}
        self._rules_next = {tp.partition: span.end for tp, span in spans.items()}
        _warn(await asyncio.to_thread(self._database.rules.replace, self._rules_next, list(latest.values())))

    async def _begin_alarms(self, tps: list[TopicPartition]) -> None:
        # The stored offsets are read first: another service may store more meanwhile.
        stored = await asyncio.to_thread(self._database.alarms.offsets)
        ends = await self._consumer.end_offsets(tps)
        begins = await self._consumer.beginning_offsets(tps)
        for tp in tps:
            offset = stored.get(tp.partition)
            if offset is not None and offset > ends[tp]:
                raise StageError(
                    f"{tp.topic}[{tp.partition}] ends at offset {ends[tp]}, but the alarm service's database expects "
                    f"offset {offset} next: the log was truncated or replaced. Restore it, or use a new database"
                )
            if offset is not None and offset < begins[tp]:
                _log.error("alarms: %s: %d records expired before they were read", tp, begins[tp] - offset)
            self._stored[tp] = offset
            self._consumer.seek(tp, begins[tp] if offset is None else max(offset, begins[tp]))
        self._targets = dict(ends)

    async def _step(self) -> None:
        fetched = await self._consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
        for tp, records in fetched.items():
            RECORDS_IN.labels(STAGE, "").inc(len(records))
            if tp.topic == RULES:
                _warn(await asyncio.to_thread(self._database.rules.apply, records))
                self._rules_next[tp.partition] = records[-1].offset + 1
            else:
                await self._store_events(tp, records)
        await self._measure()
        if fetched:
            async with self._something_stored:
                self._something_stored.notify_all()

    async def _store_events(self, tp: TopicPartition, records: list[Record]) -> None:
        events, following = _events(records), records[-1].offset + 1
        try:
            await asyncio.to_thread(self._database.alarms.add_events, tp.partition, self._stored[tp], events, following)
        except StaleBatch as stale:
            _log.info("alarms: %s; continuing behind it", stale)
            following = (await asyncio.to_thread(self._database.alarms.offsets))[tp.partition]
            self._consumer.seek(tp, following)
        self._stored[tp] = following

    async def _measure(self) -> None:
        waiting: dict[str, int] = defaultdict(int)
        for tp in self._consumer.assignment():
            position = await self._consumer.position(tp)
            self._read[tp] = position
            waiting[tp.topic] += max(0, (self._consumer.last_stable_offset(tp) or 0) - position)
        for topic, count in waiting.items():
            LAG.labels(STAGE, topic).set(count)


def _warn(problems: list[str]) -> None:
    for problem in problems:
        _log.warning("alarms: left out from the rules topic: %s", problem)


def _events(records: list[Record]) -> list[wire.AlarmEvent]:
    """The alarm events among the records. Nobody else may write to this topic, but somebody might."""
    events: list[wire.AlarmEvent] = []
    for record in records:
        try:
            events.append(wire.decode_alarm_event(record.value or b""))
        except msgspec.DecodeError as error:
            LEFT_OUT.labels(STAGE, "", "not_an_alarm").inc()
            _log.warning(
                "alarms: not an alarm event: %s[%d] at offset %d: %s",
                record.topic,
                record.partition,
                record.offset,
                error,
            )
    return events
