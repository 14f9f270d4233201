"""The fetcher's buffers: taking records one Kafka batch at a time. Written against aiokafka 0.14.0.

Reason: `AIOKafkaConsumer.getmany` spends four Python calls and an eleven-field object on each record, more than
anything else before the step. `take` does the same for a whole Kafka batch in one comprehension and makes leaner
records. It skips what `read_committed` has to skip, and leaves aiokafka's buffers and positions as `getmany` would.
"""

from __future__ import annotations

import time
from collections.abc import Container
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from schemas.consumed import Headers


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it came; a `schemas.consumed.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def take(
    consumer: AIOKafkaConsumer, wanted: Container[TopicPartition], limit: int
) -> dict[TopicPartition, list[FetchedRecord]]:
    """What the consumer holds of the wanted partitions, without waiting; its positions move past it.

    Of each partition at most `limit` records, rounded up to a whole Kafka batch. Raises what a fetch failed with
    (KafkaError), and CorruptRecordException for a wrong checksum.
    """
    fetcher = consumer._fetcher
    taken: dict[TopicPartition, list[FetchedRecord]] = {}
    for tp in list(fetcher._records):
        if tp not in wanted:
            continue
        held = fetcher._records[tp]
        if not isinstance(held, FetchResult):
            if taken:
                break  # these first; the error is raised at the next call
            _release(fetcher, tp)
            held.check_raise()
        elif records := _take_of(held, tp, limit):
            taken[tp] = records
        if isinstance(held, FetchResult) and not held.has_more():
            _release(fetcher, tp)
    return taken


def fetch_idle_partitions_promptly(consumer: AIOKafkaConsumer) -> None:
    """Have no partition wait for a fetch that leaves it out. Call it after `start`.

    Reason: aiokafka has one fetch at a time under way to a broker, without the partitions whose records nobody has
    taken yet. If the others have nothing new, the broker answers it after `fetch_max_wait_ms`, and a partition that was
    emptied meanwhile gets nothing until then. With this, such a fetch asks only for what is there at once, as often as
    the consumer's back-off allows.
    """
    fetcher = consumer._fetcher
    plan, full_wait_ms = fetcher._get_actions_per_node, fetcher._fetch_max_wait_ms

    def planned(assignment: Any) -> Any:
        fetcher._fetch_max_wait_ms = 0 if fetcher._records else full_wait_ms
        actions = plan(assignment)
        if actions[0]:
            for held in fetcher._records.values():
                held._created = time.monotonic()  # its back-off counts from here
        return actions

    fetcher._get_actions_per_node = planned


def _release(fetcher: Fetcher, tp: TopicPartition) -> None:
    """Let the fetcher go on with the partition."""
    del fetcher._records[tp]
    fetcher._notify(fetcher._wait_consume_future)


def _take_of(held: FetchResult, tp: TopicPartition, limit: int) -> list[FetchedRecord]:
    if not held.check_assignment(tp) or not held.has_more():  # overtaken by a seek or a rebalance
        return []
    records: list[FetchedRecord] = []
    part = held._partition_records
    while len(records) < limit and part._records.has_next():
        records += _unpack(part, part._records.next_batch())
    held._update_position()
    if not part._records.has_next():
        held._partition_records = None
    return records


def _unpack(part: PartitionRecords, batch: Any) -> list[FetchedRecord]:
    """The records of the next Kafka batch; none of one that was aborted, or is a marker."""
    topic, partition = part._tp
    if not batch.validate_crc():
        raise CorruptRecordException(f"Invalid CRC - {part._tp}")
    records: list[FetchedRecord] = []
    if not _is_void(part, batch):
        first = part.next_fetch_offset  # a compressed batch may begin before it
        records = [
            FetchedRecord(topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers)
            for r in batch
            if r.offset >= first
        ]
    part.next_fetch_offset = batch.next_offset  # past what compaction removed at the batch's end, too
    return records


def _is_void(part: PartitionRecords, batch: Any) -> bool:
    if batch.producer_id is not None:
        part._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and part._contains_abort_marker(batch):
            part._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in part._aborted_producers:
            return True
    return bool(batch.is_control_batch)
