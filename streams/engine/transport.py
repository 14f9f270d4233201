"""A Faust transport that delivers whole fetches: one event is all records of one partition's fetch.

Stock Faust pushes each record through several tasks and so costs some 200 µs per record; this transport pays that once
per fetch. It is selected by the URL scheme `kafka-batch` and subclasses Faust's aiokafka transport, which does group
membership, rebalances and the consumer's thread. What it changes (`docs/faust.md` has the whole list):

- An event's value is a `RecordBatch`. Batches of a partition form a chain: each starts where the last one ended, and
  `RecordBatch.epoch` changes with every rebalance, so a receiver can prove that nothing was skipped or duplicated.
- It reads `read_committed` and never commits: whoever processes the batches commits offsets in its transactions. This
  `PartitionOwner` is called *before* a partition's position is fetched.
- Back-pressure counts bytes, not events (`BufferBudget`): a partition is not fetched while too many of its bytes are
  delivered and not yet released.
- Faust's position keeping is replaced. Faust's «read offset» is the next offset after a seek and the last one while
  fetching; here `_next` is always the next offset to deliver.

Faust tables are not supported on this transport: their recovery needs changelog records one by one and waits for ever
at a transaction marker. `streams/engine/restore.py` restores state instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from faust import Schema
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from runtime.aiokafka_internals.consumers import FetchPosition
from runtime.kafka_records.fetched import FetchedRecords
from streams.engine.buffer_budget import BufferBudget
from streams.engine.consumer_thread import (
    HELD_BACK_SECONDS,
    ConsumerOptions,
    FetchedPartition,
    RecordBatchConsumerThread,
)
from streams.engine.record_batch import RecordBatch
from streams.engine.step import SkipMark

SCHEME = "kafka-batch"

_IDLE_SECONDS = 1.0
_PACE_SECONDS = 0.01  # least time between two fetches: else each record of a steady trickle costs one
_SKIP_SECONDS = 5.0  # how often a skipped partition's position follows its end


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
    """What the transport needs of the application; `RecordBatchTransport` reads it at `app.transport_options`."""

    consumer: ConsumerOptions
    owner: PartitionOwner
    budget: BufferBudget


class RecordBatchSchema(Schema):  # type: ignore[misc]  # Faust is untyped here
    """Leaves a batch as it is: the receiver deserialises."""

    def compile(self, app: Any, **kwargs: Any) -> Callable[..., Awaitable[Any]]:
        """Return the function Faust calls for each event."""

        async def decode(message: Any, **_: Any) -> Any:
            return app.create_event(None, message.value, message.headers, message)

        return decode


class RecordBatchConsumer(driver.Consumer):  # type: ignore[misc]  # Faust is untyped here
    """Faust's consumer, delivering `RecordBatch`es."""

    mundane_level = "debug"
    _thread: RecordBatchConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = cast(TransportOptions, self.app.transport_options)
        self._owner = options.owner
        self._budget = options.budget
        self._epoch = 0
        self._next: dict[TP, int] = {}  # partitions that have a position in this epoch
        self._skipped: set[TP] = set()  # partitions that are not fetched, since nobody wants their records
        self._skip_at = 0.0  # event loop time at which their positions move to the end
        self._fetch_at = 0.0  # event loop time before which nothing is fetched
        self._seek_lock = asyncio.Lock()
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
        self._skipped.clear()
        self._budget.begin_epoch(self._epoch)

    async def perform_seek(self) -> None:
        """Faust calls this once per rebalance, when the flow may resume. It runs after `open_partitions`."""
        epoch = self._epoch
        async with self._seek_lock:
            try:
                starts = await self._thread.seek_to_start()
            except Exception as exc:
                if epoch == self._epoch:
                    self._owner.fail(exc)
                return
            if epoch != self._epoch:
                return  # another rebalance has begun, which will seek
            self._forget_positions()
            for tp, start in starts.items():
                self._next[tp] = start
                self._owner.positioned(tp, start, self._epoch)
        self._budget.wake.set()

    def resume_flow(self) -> None:
        """Go on fetching."""
        super().resume_flow()
        self._budget.wake.set()

    # -- fetching

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch until stopped. Called by Faust's fetcher thread service (docs/faust.md)."""
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
        await self._skip()
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._fetch_at - loop.time()))
        wanted = self._fetchable()
        if not wanted:
            self._budget.wake.clear()
            await _wait(self._budget.wake, _IDLE_SECONDS)
            return
        epoch = self._epoch
        timeout = _IDLE_SECONDS if len(wanted) == len(self._next) - len(self._skipped) else HELD_BACK_SECONDS
        fetched = await self._thread.fetch(wanted, timeout)
        self._fetch_at = loop.time() + _PACE_SECONDS
        for tp, part in fetched.items():
            if epoch != self._epoch:
                break
            if part.records.first_offset < self._next[tp]:
                raise RuntimeError(
                    f"{tp.topic}[{tp.partition}] went back to {part.records.first_offset} when {self._next[tp]} was due"
                )
            await self._deliver(tp, part, epoch)
        if fetched and epoch != self._epoch:
            await self._put_back(set(fetched))

    async def _skip(self) -> None:
        """Leave out the partitions whose records nobody wants: their position follows the end from time to time."""
        if not self.flow_active:
            return
        now = asyncio.get_running_loop().time()
        marks = {tp: mark for tp in self._next if (mark := self._owner.skip_mark(tp)) is not None}
        skipped = set(marks)
        if skipped == self._skipped and (not skipped or now < self._skip_at):
            return
        epoch = self._epoch
        moved = await self._thread.skip_to_end(skipped)
        if epoch != self._epoch:
            await self._put_back(set(moved))
            return
        self._skipped, self._skip_at = skipped, now + _SKIP_SECONDS
        for tp, end in moved.items():
            await self._deliver(tp, FetchedPartition(FetchedRecords([]), end, end), epoch, marks[tp])

    def _fetchable(self) -> set[TP]:
        if not self.flow_active or not self._next:
            return set()
        candidates = (self._next.keys() & self._get_active_partitions()) - self._skipped
        return self._budget.with_room(candidates, len(self._next))

    async def _deliver(self, tp: TP, part: FetchedPartition, epoch: int, skipped: SkipMark | None = None) -> None:
        records = part.records
        size = records.memory_bytes
        batch = RecordBatch(tp, epoch, self._next[tp], part.next_offset, part.end_offset, records, size, skipped)
        self._next[tp] = part.next_offset
        self._budget.deliver(batch)
        message = ConsumerMessage(
            tp.topic,
            tp.partition,
            part.next_offset - 1,
            timestamp=time.time(),
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

    def leave_group_at_stop(self) -> None:
        """Leave the group at once when stopped, even as a member with a `group_instance_id`."""
        self._thread.leave_group_at_stop()

    def fetch_position(self, tp: TP) -> FetchPosition | None:
        """How far the partition was fetched; None while that is not known.

        The position is past trailing transaction markers, which the last batch's `next_offset` need not be.
        """
        return self._thread.fetch_position(tp)

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


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
