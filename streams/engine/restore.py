"""Restoring the steps' state from its topics when partitions are assigned."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.engine.step_inputs import StepInputs

_POLL_MS = 100
_CHUNK_RECORDS = 5000

_ByPartition = dict[TopicPartition, list[StepInputs]]


async def restore_state(client: Mapping[str, Any], inputs: Sequence[StepInputs], now_ms: int) -> None:
    """Feed each step the records of its state partition, up to the end the log has now.

    Call it after the transactional ids of the steps' input partitions were initialised: then nobody else can add to the
    state of these steps, and what they committed is at most decided, not open. The end is the *high watermark*, not the
    last stable offset: where steps share a partition, another one's open transaction may hide our committed records
    behind it, so this waits until that is decided. The consumer's position says when the end is reached, since the last
    offsets may be transaction markers or aborted records. The state partitions must exist (`Pipeline.open` checks).
    """
    waiting: _ByPartition = {}
    for item in inputs:
        if item.step.state_topic is None:
            item.state_restored()
        else:
            waiting.setdefault(TopicPartition(item.step.state_topic, item.tp.partition), []).append(item)
    if not waiting:
        return
    consumer = AIOKafkaConsumer(
        **client,
        enable_auto_commit=False,
        isolation_level="read_committed",
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_POLL_MS,
        max_partition_fetch_bytes=4 << 20,
    )
    await consumer.start()
    try:
        consumer.assign(list(waiting))
        await _seek(consumer, waiting, now_ms)
        await _read_to_end(consumer, waiting)
    finally:
        await consumer.stop()


async def _seek(consumer: AIOKafkaConsumer, waiting: Mapping[TopicPartition, list[StepInputs]], now_ms: int) -> None:
    windows = {tp: [item.step.state_window_seconds for item in items] for tp, items in waiting.items()}
    since = {tp: now_ms - 1000 * max(w for w in ws if w is not None) for tp, ws in windows.items() if None not in ws}
    offsets = await consumer.offsets_for_times(since) if since else {}
    for tp in waiting:
        if tp not in since:
            await consumer.seek_to_beginning(tp)
        elif (at := offsets.get(tp)) is not None:
            consumer.seek(tp, at.offset)
        else:  # nothing is as young as the window
            await consumer.seek_to_end(tp)


async def _read_to_end(consumer: AIOKafkaConsumer, waiting: _ByPartition) -> None:
    ends: dict[TopicPartition, int] = {}
    while waiting:
        fetched = await consumer.getmany(*waiting, timeout_ms=_POLL_MS, max_records=_CHUNK_RECORDS)
        for tp, records in fetched.items():
            for item in waiting[tp]:
                for record in records:
                    item.step.restore(record.key, record.value)
        for tp in list(waiting):
            if tp not in ends and (high_watermark := consumer.highwater(tp)) is not None:
                ends[tp] = high_watermark
            if tp in ends and await consumer.position(tp) >= ends[tp]:
                for item in waiting.pop(tp):
                    item.state_restored()
        await asyncio.sleep(0)
