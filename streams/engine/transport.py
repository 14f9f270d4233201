"""A Faust transport that delivers whole fetches: one event is all records of one partition's fetch.

Stock Faust pushes each record through several tasks and so costs some 200 µs a record; this transport pays that once a
fetch. It is selected by the URL scheme `kafka-batch` and subclasses Faust's aiokafka transport, from which group
membership, rebalances and the consumer's thread come. What it changes:

- An event's value is a `RecordBatch`. Batches of a partition form a chain: each starts where the last one ended, and
  `RecordBatch.epoch` changes with every rebalance, so a receiver can prove that nothing was skipped or repeated.
- It reads `read_committed` and never commits: offsets travel in the transactions of whoever processes the batches, told
  by `PartitionOwner`, which is called *before* a partition's position is fetched.
- Back-pressure counts bytes, not events: a partition with too many bytes delivered but not yet released is not fetched.
- Faust's position keeping is replaced. Faust's «read offset» is the next offset after a seek and the last one while
  fetching; here `_next` is always the next offset to deliver.

Faust tables are not supported on this transport: their recovery wants changelog records one by one and waits for ever
at a transaction marker. `streams/engine/restore.py` restores state instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import aiokafka
from aiokafka import TopicPartition
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import KafkaError
from faust import Schema
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.engine.fetching import FetchedRecord, keep_prompt, memory_bytes, take
from streams.engine.step import SkipMark

SCHEME = "kafka-batch"

_IDLE_SECONDS = 1.0
_PACE_SECONDS = 0.01  # least time between two fetches: else each record of a steady trickle costs one
_PASS_SECONDS = 5.0  # how often the position of a partition that is passed over follows its end
_HELD_BACK_SECONDS = 0.1  # shorter wait while partitions are held back: nobody wakes a running fetch on their release


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """All records of one partition's fetch, metadata kept."""

    tp: TP
    epoch: int
    """Grows with every rebalance; batches of an older epoch are void."""
    start: int
    """The `next_offset` of the batch before it in the same epoch, or the position the partition began at."""
    next_offset: int
    """Where reading goes on: past the records, and past markers, aborted and compacted records after them."""
    end_offset: int | None
    """The partition's last stable offset when fetched, for the lag."""
    records: Sequence[FetchedRecord]
    """None where the partition is passed over."""
    size: int
    """Estimated bytes of memory."""
    skipped: SkipMark | None = None
    """Where the partition is skipped: what the step knew when it declared so (`streams.engine.step.Step.skip_mark`)."""


class PartitionOwner(Protocol):
    """Who processes the batches. All methods run on the application's event loop."""

    async def open_partitions(self, assigned: set[TP]) -> None:
        """Fence other owners of these partitions. Their positions are fetched after this returns."""
        ...

    def positioned(self, tp: TP, start: int, epoch: int) -> None:
        """The partition's first batch of this epoch will start at `start`."""
        ...

    async def close_partitions(self) -> None:
        """End or abandon what is running: all partitions are revoked."""
        ...

    def skip_mark(self, tp: TP) -> SkipMark | None:
        """None while the partition's records are wanted; else see `streams.engine.step.Step.skip_mark`."""
        ...

    def fail(self, error: BaseException) -> None:
        """The transport cannot go on; the process must end. May be called from any thread."""
        ...


@dataclass(frozen=True)
class TransportOptions:
    """What Faust's settings have no place for; `RecordBatchTransport` finds it at `app.transport_options`."""

    client: Mapping[str, Any]
    """Keyword arguments for any aiokafka client: servers and security."""
    owner: PartitionOwner
    session_timeout_seconds: float = 10.0
    heartbeat_seconds: float = 1.0
    group_instance_id: str | None = None
    fetch_wait_seconds: float = 0.5
    max_fetch_records: int = 5000
    max_partition_fetch_bytes: int = 1 << 20
    buffer_bytes: int = 128 << 20


class RecordBatchSchema(Schema):  # type: ignore[misc]  # Faust is untyped here
    """Leaves a batch as it is: deserialising is the receiver's."""

    def compile(self, app: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        """Return the function Faust calls for each event."""

        async def decode(message: Any, **_: Any) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


class FetchedPartition:
    """What one fetch gave for one partition, with the consumer's position read in the same breath."""

    __slots__ = ("end_offset", "next_offset", "records")

    def __init__(self, records: list[FetchedRecord], next_offset: int, end_offset: int | None) -> None:
        self.records = records
        self.next_offset = next_offset
        self.end_offset = end_offset


class RecordBatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]  # Faust is untyped here
    """Faust's consumer thread, with our aiokafka consumer and fetches that keep their position."""

    mundane_level = "debug"

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        conf, options = self.app.conf, _options(self.app)
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
            session_timeout_ms=int(options.session_timeout_seconds * 1000),
            heartbeat_interval_ms=int(options.heartbeat_seconds * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 300) * 1000),
            fetch_max_wait_ms=int(options.fetch_wait_seconds * 1000),
            max_partition_fetch_bytes=options.max_partition_fetch_bytes,
        )

    async def on_start(self) -> None:
        """Called by Faust in the consumer's thread."""
        await super().on_start()
        keep_prompt(self._ensure_consumer()._fetcher)

    async def fetch(self, partitions: set[TP], timeout: float) -> dict[TP, FetchedPartition]:
        """Fetch what there is of these partitions, waiting up to `timeout` seconds for the first record."""
        return cast(dict[TP, FetchedPartition], await self.call_thread(self._fetch, partitions, timeout))

    async def _fetch(self, partitions: set[TP], timeout: float) -> dict[TP, FetchedPartition]:
        consumer = self._ensure_consumer()
        if (task := consumer._fetcher._fetch_task).done():
            raise RuntimeError("the Kafka fetcher has died") from (None if task.cancelled() else task.exception())
        assigned = consumer.assignment()
        wanted = [tp for p in partitions if (tp := TopicPartition(*p)) in assigned]
        if not wanted:  # aiokafka would take that for «all partitions»
            await asyncio.sleep(min(timeout, _HELD_BACK_SECONDS))
            return {}
        consumer._coordinator.check_errors()
        with consumer._subscription.fetch_context():  # of which aiokafka measures max_poll_interval_ms
            records = await self._records(consumer, set(wanted), timeout)
        # No await that really suspends from here on, so that positions are those of just these records.
        state = consumer._subscription.subscription.assignment.state_value
        return {TP(*tp): FetchedPartition(r, state(tp).position, state(tp).lso) for tp, r in records.items()}

    async def _records(
        self, consumer: aiokafka.AIOKafkaConsumer, wanted: set[TopicPartition], timeout: float
    ) -> dict[TopicPartition, list[FetchedRecord]]:
        if consumer._subscription.reassignment_in_progress:
            await consumer._subscription.wait_for_assignment()
        limit = _options(self.app).max_fetch_records
        if found := take(consumer._fetcher, wanted, limit):
            return found
        waiter = consumer._fetcher._create_fetch_waiter()
        try:
            await asyncio.wait([waiter], timeout=timeout)
            return take(consumer._fetcher, wanted, limit)
        finally:
            waiter.cancel()

    async def pass_over(self, partitions: set[TP]) -> dict[TP, int]:
        """Fetch none of these partitions from now on, and all others; move to the ends of these.

        Gives the partitions that moved and where to: the last stable offset. A broker that does not answer moves none.
        """
        return cast(dict[TP, int], await self.call_thread(self._pass_over, partitions))

    async def _pass_over(self, partitions: set[TP]) -> dict[TP, int]:
        consumer = self._ensure_consumer()
        passed = {tp for p in partitions if (tp := TopicPartition(*p)) in consumer.assignment()}
        consumer.resume(*consumer.paused() - passed)
        consumer.pause(*passed - consumer.paused())
        ends = await _last_stable_offsets(consumer, passed)
        # No await from here on, so that a partition that is assigned still has the position it is compared with.
        state = consumer._subscription.subscription.assignment.state_value
        moved = {tp: end for tp, end in ends.items() if tp in consumer.assignment() and end > state(tp).position}
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

    def leave_at_stop(self) -> None:
        """Have the group told of a stop: aiokafka would let a static member's partitions wait for its session's end."""
        if self._consumer is not None and self._consumer._coordinator is not None:
            self._consumer._coordinator._group_instance_id = None

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's check takes «nothing acknowledged» for a stall; `PartitionOwner` has its own watchdog."""

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Report through the log what Faust would print to stderr."""
        self.log.debug(msg.format(*fmt), exc_info=True)


async def _last_stable_offsets(
    consumer: aiokafka.AIOKafkaConsumer, partitions: set[TopicPartition]
) -> dict[TopicPartition, int]:
    """The ends of the partitions for a `read_committed` reader; none where the broker does not say so in time."""
    if not partitions:
        return {}
    try:
        async with asyncio.timeout(_PASS_SECONDS):
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


class RecordBatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust is untyped here
    """Faust's consumer, delivering `RecordBatch`es."""

    mundane_level = "debug"
    _thread: RecordBatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = _options(self.app)
        self._owner = options.owner
        self._buffer_bytes = options.buffer_bytes
        self._epoch = 0
        self._next: dict[TP, int] = {}  # partitions that have a position in this epoch
        self._held: dict[TP, int] = {}  # bytes delivered and not released
        self._passed: set[TP] = set()  # partitions that are not fetched, their records not wanted
        self._pass_at = 0.0
        self._fetch_at = 0.0  # event loop time before which nothing is fetched
        self._seek_lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self.last_fetch_at: float | None = None
        """Event loop time at which the fetch loop last came round; None before the first assignment."""

    def _new_consumer_thread(self) -> RecordBatchConsumerThread:
        return RecordBatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- rebalances

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Stop the flow, then let the owner end what is running."""
        self._forget_positions()
        try:
            await super().on_partitions_revoked(revoked)
            await self._owner.close_partitions()
        except Exception as exc:  # aiokafka would log it and go on
            self._owner.fail(exc)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let the owner fence others first; Faust then seeks (`perform_seek`) and resumes the flow."""
        try:
            await self._owner.open_partitions(assigned)
        except Exception as exc:
            self._owner.fail(exc)
            return
        await super().on_partitions_assigned(assigned, generation_id)

    def _forget_positions(self) -> None:
        self._epoch += 1
        self._next.clear()
        self._held.clear()
        self._passed.clear()

    async def perform_seek(self) -> None:
        """Faust calls this once a rebalance, when the flow may resume. It runs after `open_partitions`."""
        epoch = self._epoch
        async with self._seek_lock:
            try:
                starts = await self._thread.seek_to_start()
            except Exception as exc:
                if epoch == self._epoch:
                    self._owner.fail(exc)
                return
            if epoch != self._epoch:
                return  # another rebalance has begun; it will seek again
            self._forget_positions()
            for tp, start in starts.items():
                self._next[tp] = start
                self._owner.positioned(tp, start, self._epoch)
        self._wake.set()

    def resume_flow(self) -> None:
        """Go on fetching."""
        super().resume_flow()
        self._wake.set()

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        stopped = (self._stopped, fetcher._stopped)
        try:
            while not any(event.is_set() for event in stopped):
                self.last_fetch_at = asyncio.get_running_loop().time()
                await self._fetch_and_deliver()
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise
            # Swallowed: during a rebalance Faust's fetcher would take it for a reason to restart, and crash.
        except Exception as exc:
            self._owner.fail(exc)

    async def _fetch_and_deliver(self) -> None:
        await self._pass_over()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._fetch_at - loop.time()))
        wanted = self._fetchable()
        if not wanted:
            self._wake.clear()
            await _wait(self._wake, _IDLE_SECONDS)
            return
        epoch = self._epoch
        timeout = _IDLE_SECONDS if len(wanted) == len(self._next) - len(self._passed) else _HELD_BACK_SECONDS
        fetched = await self._thread.fetch(wanted, timeout)
        self._fetch_at = loop.time() + _PACE_SECONDS
        for tp, part in fetched.items():
            if epoch != self._epoch:
                break
            if part.records[0].offset < self._next[tp]:
                raise RuntimeError(
                    f"{tp.topic}[{tp.partition}] went back to {part.records[0].offset} when {self._next[tp]} was due"
                )
            await self._deliver(tp, part, epoch)
        if fetched and epoch != self._epoch:
            await self._put_back(set(fetched))

    async def _pass_over(self) -> None:
        """Leave out the partitions whose records nobody wants: their position follows the end from time to time."""
        if not self.flow_active:
            return
        now = asyncio.get_running_loop().time()
        marks = {tp: mark for tp in self._next if (mark := self._owner.skip_mark(tp)) is not None}
        passed = marks.keys()
        if passed == self._passed and (not passed or now < self._pass_at):
            return
        epoch = self._epoch
        moved = await self._thread.pass_over(set(passed))
        if epoch != self._epoch:
            await self._put_back(set(moved))
            return
        self._passed, self._pass_at = set(passed), now + _PASS_SECONDS
        for tp, end in moved.items():
            await self._deliver(tp, FetchedPartition([], end, end), epoch, marks[tp])

    def _fetchable(self) -> set[TP]:
        if not self.flow_active or not self._next:
            return set()
        limit = self._share()
        active = self._get_active_partitions()
        return {tp for tp in self._next if tp in active and tp not in self._passed and self._held.get(tp, 0) < limit}

    def _share(self) -> int:
        """Bytes a partition may hold and still be fetched.

        Half of the buffer is shared evenly; of what is free of the other half a partition may take half, so that a few
        busy partitions among many can hold one fetch while another is processed.
        """
        half = self._buffer_bytes // 2
        return half // len(self._next) + max(0, half - sum(self._held.values())) // 2

    async def _deliver(self, tp: TP, part: FetchedPartition, epoch: int, skipped: SkipMark | None = None) -> None:
        size = memory_bytes(part.records) if part.records else 0
        batch = RecordBatch(tp, epoch, self._next[tp], part.next_offset, part.end_offset, part.records, size, skipped)
        self._next[tp] = part.next_offset
        self._held[tp] = self._held.get(tp, 0) + size
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            part.next_offset - 1,
            timestamp=part.records[-1].timestamp / 1000 if part.records else time.time(),
            timestamp_type=0,
            headers=[],
            key=None,
            value=cast(Any, batch),
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        await self.callback(message)

    async def _put_back(self, tps: set[TP]) -> None:
        """Undo a fetch that a rebalance overtook: aiokafka's position is past records nobody will get."""
        async with self._seek_lock:
            await self._thread.seek_all({tp: self._next[tp] for tp in tps if tp in self._next})

    def release(self, batch: RecordBatch) -> None:
        """The batch is done with: its bytes no longer count against the partition's share of the buffer."""
        if batch.epoch == self._epoch:
            self._held[batch.tp] -= batch.size
            self._wake.set()

    def leave_at_stop(self) -> None:
        """Leave the group at once when stopped, even as a member with a `group_instance_id`."""
        self._thread.leave_at_stop()

    def held_bytes(self, tp: TP) -> int:
        """Estimated bytes of the partition's records delivered and not yet released."""
        return self._held.get(tp, 0)

    def read_to(self, tp: TP) -> tuple[int, int] | None:
        """The position up to which the partition was fetched and its last stable offset then; None if not yet known.

        The position is past trailing transaction markers, which the last batch's `next_offset` need not be.
        """
        consumer, partition = self._thread._consumer, TopicPartition(*tp)
        if consumer is None or not consumer._subscription.is_assigned(partition):
            return None
        state = consumer._subscription.subscription.assignment.state_value(partition)
        if not state.has_valid_position or state.lso is None:
            return None
        return state.position, state.lso

    # -- what Faust must not do here

    def on_buffer_full(self, tp: TP) -> None:
        """Faust counts events; bytes are counted here."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing: offsets are committed in the transactions of the batches."""
        return False


class RecordBatchTransport(driver.Transport):  # type: ignore[misc]  # Faust is untyped here
    """Kafka transport whose events are `RecordBatch`es."""

    Consumer = RecordBatchConsumer


TRANSPORTS.aliases[SCHEME] = f"{__name__}:RecordBatchTransport"


def _options(app: Any) -> TransportOptions:
    return cast(TransportOptions, app.transport_options)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
