"""Restoring the steps' state from its topics when partitions are assigned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from runtime.topic_reader import HIGH_WATERMARK, ReadLimits, Span, committed_consumer, read_spans
from streams.engine.step_inputs import StepInputs

_LIMITS = ReadLimits(batch_records=5000, stall_seconds=None)  # `Pipelines.unhealthy` notices a restoration that stalls

_ByPartition = dict[TopicPartition, list[StepInputs]]


async def restore_state(client: Mapping[str, Any], inputs: Sequence[StepInputs], now_ms: int) -> None:
    """Feed each step the records of its state partitions, up to the end the logs have now.

    Call it after the transactional ids of the steps' input partitions were initialised: then nobody else can add to the
    state of these steps, and what they committed is at most decided, not open. The end is the *high watermark*, not the
    last stable offset: where steps share a partition, another one's open transaction may hide our committed records
    behind it, so this waits until that is decided. The state partitions must exist (`Pipeline.open` checks).
    """
    waiting: _ByPartition = {}
    for item in inputs:
        for topic in item.step.state_topics:
            waiting.setdefault(TopicPartition(topic, item.tp.partition), []).append(item)
        if not item.step.state_topics:
            item.state_restored()
    if not waiting:
        return
    unread = {item.tp: len(item.step.state_topics) for item in inputs}
    async with committed_consumer(client) as consumer:
        consumer.assign(list(waiting))
        starts = await _starts(consumer, waiting, now_ms)
        spans = {tp: Span(start, HIGH_WATERMARK) for tp, start in starts.items()}
        async for batch in read_spans(consumer, spans, _LIMITS):
            for item in waiting[batch.partition]:
                for record in batch.records:
                    item.step.restore(record.key, record.value)
                if batch.complete:
                    unread[item.tp] -= 1
                    if not unread[item.tp]:
                        item.state_restored()


async def _starts(
    consumer: AIOKafkaConsumer, waiting: Mapping[TopicPartition, list[StepInputs]], now_ms: int
) -> dict[TopicPartition, int]:
    """Where to begin: at the first record, or at the first one that is as young as the steps' window."""
    windows = {tp: [item.step.state_topics[tp.topic] for item in items] for tp, items in waiting.items()}
    since = {tp: now_ms - 1000 * max(w for w in ws if w is not None) for tp, ws in windows.items() if None not in ws}
    starts: dict[TopicPartition, int] = dict(
        await consumer.beginning_offsets([tp for tp in waiting if tp not in since])
    )
    if since:
        ends = await consumer.end_offsets(list(since))
        for tp, at in (await consumer.offsets_for_times(since)).items():
            starts[tp] = ends[tp] if at is None else at.offset
    return starts
