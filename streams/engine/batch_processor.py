"""Runs the step on batches and writes what comes of it, one transaction per batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

from runtime.aiokafka_internals.transactions import TransactionalProducer
from runtime.kafka_records.fetched import batches_of, runs_of
from schemas.consumed import Headers, Record
from schemas.envelope import TRACE_HEADER
from streams.engine.options import BatchStats
from streams.engine.record_batch import RecordBatch
from streams.engine.step_inputs import StepInputs
from streams.engine.transaction import Transaction, TransactionScope

_SLICE_RECORDS = 1000  # the step lets the event loop go between slices: requests of other transactions go out meanwhile


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A transaction whose step has run: what it will write and commit."""

    transaction: Transaction
    batches: Sequence[RecordBatch]
    """Without their records; empty where the step had something to do without input."""
    records_in: int
    started: float
    """Monotonic time at which the step began."""
    step_seconds: float
    times_ms: Sequence[int]
    traced: Sequence[Headers]

    @property
    def next_offset(self) -> int | None:
        """The input offset to commit; None leaves it where it is."""
        return self.batches[-1].next_offset if self.batches else None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not (self.batches or self.transaction.records or self.transaction.is_open)

    def stats(self, end_offset: int | None) -> BatchStats:
        """What it did, once it is committed; `end_offset` is the partition's last stable offset."""
        last = self.batches[-1]
        return BatchStats(
            last.tp.topic,
            last.tp.partition,
            self.records_in,
            self.transaction.records,
            sum(batch.size for batch in self.batches),
            self.step_seconds,
            time.monotonic() - self.started,
            last.next_offset,
            max(0, (end_offset or 0) - last.next_offset),
            self.times_ms,
            self.traced,
        )


class BatchProcessor:
    """The step of one input partition and its transactions."""

    def __init__(self, inputs: StepInputs, producer: TransactionalProducer, scope: TransactionScope) -> None:
        self._step = inputs.step
        self._inputs = inputs
        self._is_behind_others = any(side_input.is_ahead for side_input in inputs.step.side_inputs)
        self._producer = producer
        self._scope = scope
        self._next = Transaction(producer, scope)
        self._written: frozenset[str] = frozenset()
        """Topics of the last transaction, which those of the next will probably be."""

    async def begin(self) -> None:
        """Begin the next transaction already, while its records are still being collected."""
        await self._next.begin(self._written)

    async def opened(self) -> None:
        """Where the next transaction has begun, wait until the broker has opened it."""
        if self._next.is_open:
            await self._next.opened()

    async def prepare(self, batches: Sequence[RecordBatch]) -> PreparedBatch:
        """Run the step on the batches. Only in memory: whether it happened is decided by the commit."""
        started = time.monotonic()
        if self._is_behind_others:
            records = list(chain.from_iterable(batch.records for batch in batches))
            if records and self._step.needs_side_inputs(records):
                await self._inputs.catch_up.wait()
        for batch in batches:
            if batch.skipped is not None:
                self._step.skipped(batch.skipped)
        now_us = time.time_ns() // 1000
        transaction, step_seconds = self._next, 0.0
        if batches or self._step.pending:
            runs: list[Sequence[Record]] = list(runs_of([b.records for b in batches], _SLICE_RECORDS)) or [()]
            for number, run in enumerate(runs):
                if number:
                    await asyncio.sleep(0)
                before = time.monotonic()
                outputs = self._step.process(run, now_us)
                step_seconds += time.monotonic() - before
                transaction.add(outputs, now_us // 1000)
        self._next = Transaction(self._producer, self._scope)
        fetched = [each for batch in batches for each in batches_of(batch.records)]
        times = [time_ms for each in fetched for time_ms in each.timestamps]
        traced = [headers for each in fetched for headers in each.headers_naming(TRACE_HEADER.encode())]
        processed = [replace(batch, records=()) for batch in batches]  # lets go of their memory before the commit
        return PreparedBatch(transaction, processed, len(times), started, step_seconds, times, traced)

    async def write(self, prepared: PreparedBatch) -> None:
        """Commit a prepared batch. Raises what made the transaction fail."""
        transaction = prepared.transaction
        await transaction.begin(self._written)
        await transaction.commit(prepared.next_offset)
        self._written = transaction.topics

    async def abort(self, prepared: PreparedBatch | None) -> None:
        """Abort what is open: the transaction of `prepared`, or the next one."""
        if prepared is not None:
            await prepared.transaction.abort()
        await self._next.abort()
