"""The fetcher's buffers: taking records one Kafka batch at a time. Written against aiokafka 0.14.0.

Reason: `AIOKafkaConsumer.getmany` spends four Python calls and an eleven-field object on each record, more than
anything else before the step. `take` hands over whole Kafka batches as they are, and makes objects of the records of
those only that begin before the position or are of an old format. It skips what `read_committed` has to skip, and
leaves aiokafka's buffers and positions as `getmany` would.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Container
from types import FunctionType, MethodType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition, codec
from aiokafka.consumer.fetcher import Fetcher, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords

from runtime.kafka_records.columns import HEAD_BYTES
from runtime.kafka_records.fetched import FetchedBatch, FetchedRecords, LooseRecords, records_of

_LENGTH = struct.Struct(">i")


class RawRecords:
    """What a fetch brought of one partition: aiokafka's batches, and the bytes of the one that it gave last.

    Reason: aiokafka's `MemoryRecords` keeps the bytes to itself, and its batches make an object of each record.
    """

    def __init__(self, data: bytes) -> None:
        self.last = b""
        """The batch that `next_batch` returned last, as it was stored."""
        self._data = data
        self._parsed = MemoryRecords(data)
        self._at = 0

    def has_next(self) -> bool:
        """See aiokafka."""
        return bool(self._parsed.has_next())

    def next_batch(self) -> Any:
        """See aiokafka."""
        batch = self._parsed.next_batch()
        (length,) = _LENGTH.unpack_from(self._data, self._at + 8)
        end = self._at + 12 + length
        self.last, self._at = self._data[self._at : end], end
        return batch

    def size_in_bytes(self) -> int:
        """See aiokafka."""
        return len(self._data)


def keep_batches_as_bytes(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer's fetcher keep what it fetches as `RawRecords`. Call it after `start`.

    Reason: see `RawRecords`. `Fetcher._proc_fetch_request` finds the class by its global name, which is replaced for
    this consumer's fetcher alone.
    """
    process = Fetcher._proc_fetch_request
    names = {**process.__globals__, "MemoryRecords": RawRecords}
    consumer._fetcher._proc_fetch_request = MethodType(FunctionType(process.__code__, names), consumer._fetcher)


def take(
    consumer: AIOKafkaConsumer, wanted: Container[TopicPartition], limit: int
) -> dict[TopicPartition, FetchedRecords]:
    """What the consumer holds of the wanted partitions, without waiting; its positions move past it.

    Of each partition at most `limit` records, rounded up to a whole Kafka batch. Raises what a fetch failed with
    (KafkaError), and CorruptRecordException for a wrong checksum.
    """
    fetcher = consumer._fetcher
    taken: dict[TopicPartition, FetchedRecords] = {}
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


def _take_of(held: FetchResult, tp: TopicPartition, limit: int) -> FetchedRecords | None:
    if not held.check_assignment(tp) or not held.has_more():  # overtaken by a seek or a rebalance
        return None
    batches: list[FetchedBatch | LooseRecords] = []
    part, number = held._partition_records, 0
    while number < limit and part._records.has_next():
        if unpacked := _unpack(part, part._records.next_batch()):
            batches.append(unpacked)
            number += len(unpacked)
    held._update_position()
    if not part._records.has_next():
        held._partition_records = None
    return FetchedRecords(batches) if batches else None


def _unpack(part: PartitionRecords, batch: Any) -> FetchedBatch | LooseRecords | None:
    """The records of the next Kafka batch; None of one that was aborted, or is a marker."""
    topic, partition = part._tp
    if not batch.validate_crc():
        raise CorruptRecordException(f"Invalid CRC - {part._tp}")
    unpacked: FetchedBatch | LooseRecords | None = None
    if not _is_void(part, batch):
        first = part.next_fetch_offset  # a compressed batch may begin before it
        if isinstance(part._records, RawRecords) and _is_whole(batch, first):
            unpacked = FetchedBatch(topic, partition, uncompressed(part._records.last, batch.compression_type))
        else:
            unpacked = LooseRecords(records_of(topic, partition, batch, first))
    part.next_fetch_offset = batch.next_offset  # past what compaction removed at the batch's end, too
    return unpacked


def _is_whole(batch: Any, first: int) -> bool:
    """Whether a batch is of the present format and has no record before an offset."""
    return isinstance(batch, DefaultRecordBatch) and batch.base_offset >= first


def uncompressed(data: bytes, compression: int) -> bytes:
    """A batch without compression; its checksum is no longer right."""
    if not compression:
        return data
    if not (has := _HAS[compression])():
        raise UnsupportedCodecError(f"a batch is compressed with {has.__name__[4:]}, whose codec is not installed")
    records = _DECODE[compression](data[HEAD_BYTES:])
    attributes = bytes([data[_ATTRIBUTES] & ~DefaultRecordBatch.CODEC_MASK])
    return b"".join((data[:_ATTRIBUTES], attributes, data[_ATTRIBUTES + 1 : HEAD_BYTES], records))


_ATTRIBUTES = 22  # byte that names the codec
_HAS = {1: codec.has_gzip, 2: codec.has_snappy, 3: codec.has_lz4, 4: codec.has_zstd}
_DECODE = {1: codec.gzip_decode, 2: codec.snappy_decode, 3: codec.lz4_decode, 4: codec.zstd_decode}


def _is_void(part: PartitionRecords, batch: Any) -> bool:
    if batch.producer_id is not None:
        part._consume_aborted_up_to(batch.base_offset)
        if batch.is_control_batch and part._contains_abort_marker(batch):
            part._aborted_producers.discard(batch.producer_id)
        if batch.is_transactional and batch.producer_id in part._aborted_producers:
            return True
    return bool(batch.is_control_batch)
