"""The consumer's thread: Faust's, with our aiokafka consumer and fetches that keep their position."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from runtime.aiokafka_internals import consumers
from runtime.aiokafka_internals.consumers import FetchPosition
from runtime.aiokafka_internals.fetch_buffers import (
    fetch_idle_partitions_promptly,
    keep_batches_as_bytes,
    take,
)
from runtime.kafka_records.fetched import FetchedRecords

HELD_BACK_SECONDS = 0.1
"""A shorter wait for a fetch while partitions are held back: nothing wakes a running fetch when one is released."""

_END_OFFSETS_TIMEOUT = 5.0


@dataclass(frozen=True)
class ConsumerOptions:
    """What Faust's settings have no place for. Times in seconds."""

    client: Mapping[str, Any]
    """Keyword arguments for any aiokafka client: servers and security."""
    session_timeout: float = 10.0
    heartbeat: float = 1.0
    group_instance_id: str | None = None
    fetch_wait: float = 0.5
    max_fetch_records: int = 5000
    max_partition_fetch_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class FetchedPartition:
    """What one fetch gave for one partition, with the consumer's position of the same moment."""

    records: FetchedRecords
    next_offset: int
    end_offset: int | None


class RecordBatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is untyped here
    """Faust's consumer thread, with our aiokafka consumer and fetches that keep their position."""

    mundane_level = "debug"

    @property
    def _options(self) -> ConsumerOptions:
        return cast(ConsumerOptions, self.app.transport_options.consumer)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, options = self.app.conf, self._options
        self._assignor = RoundRobinPartitionAssignor
        return aiokafka.AIOKafkaConsumer(
            **options.client,
            client_id=f"{conf.id}-streams",
            group_id=conf.id,
            group_instance_id=options.group_instance_id,
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            session_timeout_ms=int(options.session_timeout * 1000),
            heartbeat_interval_ms=int(options.heartbeat * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            fetch_max_wait_ms=int(options.fetch_wait * 1000),
            max_partition_fetch_bytes=options.max_partition_fetch_bytes,
        )

    async def on_start(self) -> None:
        """Called by Faust in the consumer's thread."""
        await super().on_start()
        fetch_idle_partitions_promptly(self._ensure_consumer())
        keep_batches_as_bytes(self._ensure_consumer())

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, FetchedPartition]:
        """Fetch what there is of these partitions, waiting up to `timeout` seconds for the first record.

        Raises RuntimeError if the fetcher has died, and what the group protocol or a fetch failed with.
        """
        return cast(dict[TP, FetchedPartition], await self.call_thread(self._fetch, partitions, timeout))

    async def _fetch(self, partitions: set[TP], timeout: float) -> dict[TP, FetchedPartition]:
        consumer = self._ensure_consumer()
        consumers.check_fetcher(consumer)
        assigned = consumer.assignment()
        wanted = {tp for p in partitions if (tp := TopicPartition(*p)) in assigned}
        if not wanted:
            await asyncio.sleep(min(timeout, HELD_BACK_SECONDS))
            return {}
        consumers.check_group(consumer)
        with consumers.polling(consumer):
            records = await self._records(consumer, wanted, timeout)
        # No await that really suspends from here on, so that positions are those of just these records.
        fetched: dict[TP, FetchedPartition] = {}
        for tp, taken in records.items():
            at = cast(FetchPosition, consumers.fetch_position(consumer, tp))  # known, since records were taken
            fetched[TP(*tp)] = FetchedPartition(taken, at.position, at.last_stable_offset)
        return fetched

    async def _records(
        self, consumer: aiokafka.AIOKafkaConsumer, wanted: set[TopicPartition], timeout: float
    ) -> dict[TopicPartition, FetchedRecords]:
        await consumers.wait_for_reassignment(consumer)
        limit = self._options.max_fetch_records
        if records := take(consumer, wanted, limit):
            return records
        await consumers.wait_for_fetch(consumer, timeout)
        return take(consumer, wanted, limit)

    async def skip_to_end(self, partitions: set[TP]) -> dict[TP, int]:
        """Fetch none of these partitions from now on, and all others; move to the ends of these.

        Returns the partitions that moved and their new positions, the last stable offsets. While the broker does not
        answer, none move.
        """
        return cast(dict[TP, int], await self.call_thread(self._skip_to_end, partitions))

    async def _skip_to_end(self, partitions: set[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        skipped = {tp for p in partitions if (tp := TopicPartition(*p)) in consumer.assignment()}
        consumer.resume(*consumer.paused() - skipped)
        consumer.pause(*skipped - consumer.paused())
        ends = await _last_stable_offsets(consumer, skipped)
        # No await from here on, so that a partition that is assigned still has the position it is compared with.
        moved = {tp: end for tp, end in ends.items() if _is_before(consumers.fetch_position(consumer, tp), end)}
        for tp, end in moved.items():
            consumer.seek(tp, end)
        return {TP(*tp): end for tp, end in moved.items()}

    async def seek_to_start(self) -> dict[TP, int]:
        """Seek all assigned partitions to the committed offset, or to the first record, and return these positions."""
        return cast(dict[TP, int], await self.call_thread(self._seek_to_start))

    async def _seek_to_start(self) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        assigned = list(consumer.assignment())
        if not assigned:
            return {}
        committed = dict(zip(assigned, await asyncio.gather(*map(consumer.committed, assigned)), strict=True))
        first = await consumer.beginning_offsets(assigned)
        end = await consumer.end_offsets(assigned)
        starts = {tp: start_offset(tp, committed[tp], first[tp], end[tp], self.log.warning) for tp in assigned}
        for tp, offset in starts.items():
            consumer.seek(tp, offset)
        return {TP(*tp): offset for tp, offset in starts.items()}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        """Put the consumer's positions back; partitions that are no longer assigned are left out."""
        await self.call_thread(self._seek_all, positions)

    async def _seek_all(self, positions: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp in consumer.assignment() & positions.keys():
            consumer.seek(tp, positions[tp])

    def leave_group_at_stop(self) -> None:
        """Leave the group at once when stopped, even as a member with a `group_instance_id`."""
        if self._consumer is not None:
            consumers.leave_group_at_stop(self._consumer)

    def fetch_position(self, tp: TP) -> FetchPosition | None:
        """How far the partition was fetched; None while that is not known. Callable from any thread."""
        return None if self._consumer is None else consumers.fetch_position(self._consumer, TopicPartition(*tp))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check takes «nothing acknowledged» for a stall; `PartitionOwner` has its own watchdog."""

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Report through the log what Faust would print to stderr."""
        self.log.debug(msg.format(*fmt), exc_info=True)


def _is_before(position: FetchPosition | None, end: int) -> bool:
    return position is not None and position.position < end


async def _last_stable_offsets(
    consumer: aiokafka.AIOKafkaConsumer, partitions: set[TopicPartition]
) -> dict[TopicPartition, int]:
    """The ends of the partitions for a `read_committed` reader; none where the broker does not say so in time."""
    if not partitions:
        return {}
    try:
        async with asyncio.timeout(_END_OFFSETS_TIMEOUT):
            return dict(await consumer.end_offsets(partitions))
    except (TimeoutError, KafkaError):
        return {}


def start_offset(tp: Any, committed: int | None, first: int, end: int, warn: Callable[..., None]) -> int:
    """Where to begin reading a partition.

    Raises RuntimeError if the committed offset lies past the log's end: the topic is not the one it was committed for.
    """
    if committed is None:
        return first
    if committed > end:
        raise RuntimeError(
            f"{tp.topic}[{tp.partition}] ends at offset {end}, but {committed} is committed: the topic was created "
            "anew or lost records; reset the group's offsets, or use another application id"
        )
    if committed < first:
        warn("%s[%s]: offsets %s to %s were removed by retention unread", tp.topic, tp.partition, committed, first - 1)
    return max(committed, first)
