"""aiokafka's transactional producer, with transactions that begin early and whose requests are never refused.

Written against aiokafka 0.14.0. Reason: a pipeline's transactions follow one another closely, and stock aiokafka loses
time between them. After a commit the coordinator still writes markers and refuses the next transaction with
CONCURRENT_TRANSACTIONS, at which aiokafka sleeps for 20 or 100 ms. And it sends records while the consumer group is
being added, so that the broker's check of the transaction (KIP-890, `transaction.partition.verification.enable`)
refuses them with NOT_ENOUGH_REPLICAS, which costs 100 ms more. Here:

- The group is added first and then the partitions; records are sent when both are known. Nothing is refused.
- Both are added when the transaction begins, while its records are still being collected.
- A refusal because the last transaction is not finished is answered by short, growing pauses.

Nothing else differs: fencing, idempotence, retries and errors are aiokafka's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import CoordinationType
from aiokafka.errors import ConcurrentTransactions, for_code
from aiokafka.producer.sender import AddOffsetsToTxnHandler, Sender
from aiokafka.producer.transaction_manager import TransactionManager, TransactionState

from runtime.kafka_records.packed import PackedBatch

_FIRST_PAUSE = 0.003
_LONGEST_PAUSE = 0.1  # seconds; aiokafka's own


class _Manager(TransactionManager):  # type: ignore[misc]  # aiokafka is untyped
    """Has the group added from the transaction's beginning, and resolves `opened` when everything is added."""

    def __init__(self, transactional_id: str, transaction_timeout_ms: int, group_id: str) -> None:
        super().__init__(transactional_id, transaction_timeout_ms)
        self._group_id = group_id
        self._transaction_waiter: asyncio.Future[None] | None
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin_transaction(self) -> None:
        super().begin_transaction()
        self.opened = asyncio.get_running_loop().create_future()
        self.notify_task_waiter()

    def consumer_group_to_add(self) -> str | None:
        return self._group_id if self._txn_consumer_group is None and self.is_in_transaction() else None

    def consumer_group_added(self, group_id: str) -> None:
        super().consumer_group_added(group_id)
        self._resolve_if_open()

    def partition_added(self, tp: TopicPartition) -> None:
        super().partition_added(tp)
        self._resolve_if_open()

    def error_transaction(self, exc: BaseException) -> None:
        super().error_transaction(exc)
        self._end_opening()

    def fatal_error(self, exc: BaseException) -> None:
        if self._transaction_waiter is None:  # before the first transaction
            self._transaction_waiter = asyncio.get_running_loop().create_future()
        super().fatal_error(exc)
        self._end_opening()

    def error(self) -> BaseException | None:
        """Why the transaction cannot be committed; None if nothing is wrong."""
        failed = self.state in (TransactionState.ABORTABLE_ERROR, TransactionState.FATAL_ERROR)
        return self._transaction_waiter.exception() if failed and self._transaction_waiter is not None else None

    def _resolve_if_open(self) -> None:
        if self._txn_consumer_group is not None and not self._pending_txn_partitions:
            self._end_opening()

    def _end_opening(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)


class _Sender(Sender):  # type: ignore[misc]  # aiokafka is untyped
    """Adds the group before the partitions, and pauses briefly where the last transaction is not finished."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pause = _FIRST_PAUSE

    def next_pause(self) -> float:
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause

    def _maybe_do_transactional_request(self) -> asyncio.Task[Any] | None:
        # Partitions that are not added are muted, so records wait for the group, too: while it is being added, the
        # broker would refuse them.
        if (group_id := self._txn_manager.consumer_group_to_add()) is not None:
            return asyncio.create_task(self._do_add_offsets_to_txn(group_id))
        return cast("asyncio.Task[Any] | None", super()._maybe_do_transactional_request())

    async def _do_add_offsets_to_txn(self, group_id: str) -> None:
        node = await self._find_coordinator(CoordinationType.TRANSACTION, self._txn_manager.transactional_id)
        if await _AddGroup(self, group_id).do(node):
            self._pause = _FIRST_PAUSE


class _AddGroup(AddOffsetsToTxnHandler):  # type: ignore[misc]  # aiokafka is untyped
    def handle_response(self, resp: Any) -> float | None:
        if for_code(resp.error_code) is ConcurrentTransactions:
            return cast(float, self._sender.next_pause())
        return cast("float | None", super().handle_response(resp))


class PackedBuilder(PackedBatch):
    """A packed batch with what the producer asks of aiokafka's `BatchBuilder`.

    Reason: `BatchBuilder` takes one record at a time, at twice the cost of a record's columns.
    """

    def close(self) -> None:
        """Nothing is added any more: whoever fills the batch knows."""

    def closed(self) -> bool:
        """Whether it may be sent at once."""
        return True

    def _set_producer_state(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        self.set_producer(producer_id, producer_epoch, base_sequence)

    def _build(self) -> bytearray:
        return self.build()


class TransactionalProducer(AIOKafkaProducer):  # type: ignore[misc]  # aiokafka is untyped
    """A producer whose every transaction commits offsets of the group `group_id`.

    Call `open_transaction`, then `opened` where the caller has something to do before it has records, then send records
    and `send_offsets_to_transaction`, then `commit_transaction`. Options are aiokafka's.
    """

    def __init__(self, *, group_id: str, transactional_id: str, transaction_timeout_ms: int, **options: Any) -> None:
        super().__init__(transactional_id=transactional_id, transaction_timeout_ms=transaction_timeout_ms, **options)
        self._compression: str | None = options.get("compression_type")
        plain = cast(Any, self)._sender
        self._txn_manager = _Manager(transactional_id, transaction_timeout_ms, group_id)
        self._message_accumulator._txn_manager = self._txn_manager
        self._sender = _Sender(
            self.client,
            acks=plain._acks,
            txn_manager=self._txn_manager,
            message_accumulator=self._message_accumulator,
            retry_backoff_ms=plain._retry_backoff * 1000,
            request_timeout_ms=plain._request_timeout_ms,
        )

    async def open_transaction(self, expected: Iterable[TopicPartition]) -> None:
        """Begin a transaction and have the broker add the group and the partitions that will probably be written.

        A partition that is added and not written costs a transaction marker.
        """
        await self.begin_transaction()
        for tp in expected:
            self._txn_manager.maybe_add_partition_to_txn(tp)

    def create_packed_batch(self) -> PackedBuilder:
        """A batch that takes the records of many outputs at once; like `create_batch`, for `send_batch`."""
        return PackedBuilder(self._message_accumulator._batch_size, self._compression)

    async def opened(self) -> None:
        """Wait until the broker has added all that was asked for. Raises what made the transaction fail."""
        await asyncio.shield(self._txn_manager.opened)
        self.check()

    def check(self) -> None:
        """Raise what made the running transaction fail, if something did."""
        if (error := self._txn_manager.error()) is not None:
            raise error
