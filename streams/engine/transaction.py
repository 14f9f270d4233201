"""One Kafka transaction: outputs, changes of state and the input offset become visible together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from runtime.aiokafka_internals.transactions import PackedBuilder, TransactionalProducer
from runtime.kafka_records.packed import OutputColumns
from streams.engine.step import Output, RecordTooLarge, record_bytes

BUILDER_BYTES = 960 << 10
"""Bytes of one produce request: below the broker's default limit of 1 MiB for a batch."""

_ABORT_TIMEOUT = 3.0


@dataclass(frozen=True, slots=True)
class TransactionScope:
    """What all transactions of one input partition have in common."""

    input: TopicPartition
    """The partition whose offset is committed. Outputs go to the partitions with its number."""
    group_id: str
    max_record_bytes: int


class Transaction:
    """Collects a batch's outputs in memory and commits them with the input offset.

    ```
    new ── begin ──► open ── commit ──► committed
     add (before or after begin)  └── abort ──► aborted
    ```

    One producer has at most one open transaction. The next one may be built meanwhile, but begins after the commit.
    """

    def __init__(self, producer: TransactionalProducer, scope: TransactionScope) -> None:
        self.is_open = False
        self.records = 0
        """Number of outputs."""
        self._producer = producer
        self._scope = scope
        self._builders: dict[str, list[Any]] = {}  # aiokafka's BatchBuilders, by topic

    @property
    def topics(self) -> frozenset[str]:
        """The topics that are written."""
        return frozenset(self._builders)

    async def begin(self, expected: Iterable[str]) -> None:
        """Begin, unless it is open; have the broker add the topics that will probably be written.

        Returns before the broker has answered: `opened` and `commit` raise what made the transaction fail.
        """
        if not self.is_open:
            number = self._scope.input.partition
            await self._producer.open_transaction([TopicPartition(topic, number) for topic in expected])
            self.is_open = True

    async def opened(self) -> None:
        """Wait until the broker has added what `begin` asked for. Raises what made the transaction fail."""
        await self._producer.opened()

    def add(self, outputs: Sequence[Output | OutputColumns], now_ms: int) -> None:
        """Add outputs, in order per topic. Raises RecordTooLarge."""
        builders_of = self._builders
        for output in outputs:
            if isinstance(output, OutputColumns):
                self._add_columns(output, now_ms)
                continue
            self.records += 1
            topic, key, value, headers = output
            builders = builders_of.get(topic)
            if builders is None:
                builders = builders_of[topic] = [self._builder_for(output)]
            if builders[-1].append(key=key, value=value, timestamp=now_ms, headers=list(headers)) is None:
                builders.append(self._builder_for(output))
                builders[-1].append(key=key, value=value, timestamp=now_ms, headers=list(headers))

    def _add_columns(self, outputs: OutputColumns, now_ms: int) -> None:
        """Add many outputs, none of which is larger than a builder."""
        self.records += len(outputs)
        builders = self._builders.setdefault(outputs.topic, [])
        if not builders or not isinstance(builders[-1], PackedBuilder):
            builders.append(self._producer.create_packed_batch())
        added = builders[-1].extend(outputs, 0, now_ms)
        while added < len(outputs):
            builders.append(self._producer.create_packed_batch())
            added += builders[-1].extend(outputs, added, now_ms)

    def _builder_for(self, first: Output) -> Any:
        """A builder whose first record will be `first`: only as such does it take what is larger than a builder."""
        if record_bytes(first) > (limit := self._scope.max_record_bytes):
            raise RecordTooLarge(first, limit)
        return self._producer.create_batch()

    async def commit(self, next_offset: int | None) -> None:
        """Send the outputs and commit them with the input offset; None leaves that where it is.

        It must have begun. Returns when the broker has acknowledged the commit. Raises what a send, the offset or the
        commit failed with; then nothing of the transaction becomes visible.
        """
        self._producer.check()  # else aiokafka says «not in a transaction» in place of why
        try:
            async with asyncio.TaskGroup() as group:
                for topic, builders in self._builders.items():
                    group.create_task(self._send(topic, builders))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None
        # Not together with the records: the broker asks its coordinator whether each is in the transaction, and of two
        # questions at once about the same id it refuses one, which costs the client 100 ms.
        if next_offset is not None:
            await self._producer.send_offsets_to_transaction({self._scope.input: next_offset}, self._scope.group_id)
        await self._producer.commit_transaction()
        self.is_open = False

    async def _send(self, topic: str, builders: list[Any]) -> None:
        deliveries = []
        for builder in builders:  # closed, so that the producer neither adds to it nor waits for more
            builder.close()
            deliveries.append(await self._producer.send_batch(builder, topic, partition=self._scope.input.partition))
        for delivery in deliveries:
            await delivery

    async def abort(self) -> None:
        """Abort it, if it is open, as far as the broker answers in time. Nothing is raised.

        What is left open, the initialisation of the partition's next owner aborts.
        """
        if self.is_open:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self._producer.abort_transaction(), _ABORT_TIMEOUT)
            self.is_open = False
