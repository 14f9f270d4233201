"""Taking fetched records from aiokafka a Kafka batch at a time.

`AIOKafkaConsumer.getmany` spends four Python calls and an eleven-field object on each record, more than anything else
on this side of the step. `take` does the same for a whole Kafka batch in one comprehension and makes leaner records. It
skips what `read_committed` has to skip, and leaves aiokafka's buffers and positions as `getmany` would.
"""

from __future__ import annotations

import time
from collections.abc import Container, Sequence
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException

from schemas.consumed import Headers

_RECORD_OVERHEAD_BYTES = 500  # what a record and its parts cost in memory beside their payload
_HEADER_OVERHEAD_BYTES = 150


class FetchedRecord(msgspec.Struct, frozen=True, gc=False):
    """One record as it came; a `schemas.consumed.Record`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


def take(fetcher: Fetcher, wanted: Container[TopicPartition], limit: int) -> dict[TopicPartition, list[FetchedRecord]]:
    """What aiokafka holds of the wanted partitions, without waiting; positions move past it.

    Of each partition at most `limit` records, rounded up to a whole Kafka batch. Raises what a fetch failed with
    (KafkaError), CorruptRecordException for a wrong check sum.
    """
    taken: dict[TopicPartition, list[FetchedRecord]] = {}
    for tp in list(fetcher._records):
        if tp not in wanted:
            continue
        held = fetcher._records[tp]
        if not isinstance(held, FetchResult):
            if taken:
                break  # these first; the error comes at the next call
            _let_go(fetcher, tp)
            held.check_raise()
        elif records := _take_of(held, tp, limit):
            taken[tp] = records
        if isinstance(held, FetchResult) and not held.has_more():
            _let_go(fetcher, tp)
    return taken


def keep_prompt(fetcher: Fetcher) -> None:
    """Have no partition wait until a fetch that leaves it out has ended.

    Aiokafka has one fetch at a time under way to a broker, without the partitions whose records still wait to be taken.
    Where the others have nothing new, it would be answered after `fetch_max_wait_ms`, and whoever is done with what
    waited gets nothing until then. So such a fetch asks only for what is there at once, as often as the back-off says.
    """
    plan, whole = fetcher._get_actions_per_node, fetcher._fetch_max_wait_ms

    def planned(assignment: Any) -> Any:
        fetcher._fetch_max_wait_ms = 0 if fetcher._records else whole
        actions = plan(assignment)
        if actions[0]:
            for held in fetcher._records.values():
                held._created = time.monotonic()  # from which its back-off counts
        return actions

    fetcher._get_actions_per_node = planned


def _let_go(fetcher: Fetcher, tp: TopicPartition) -> None:
    """Have the partition fetched again."""
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


def memory_bytes(records: Sequence[FetchedRecord]) -> int:
    """Estimated bytes of memory the records take: headers, which are much alike, by the first and the last of them."""
    payload = sum([len(r.value or b"") + len(r.key or b"") for r in records])
    headers = max(_header_bytes(records[0].headers), _header_bytes(records[-1].headers))
    return payload + len(records) * (_RECORD_OVERHEAD_BYTES + headers)


def _header_bytes(headers: Headers) -> int:
    return sum(_HEADER_OVERHEAD_BYTES + len(name) + len(value or b"") for name, value in headers)
