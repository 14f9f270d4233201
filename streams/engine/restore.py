"""Restoring the steps' state from its topics when partitions are assigned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.types import TP

from runtime.topic_reader import HIGH_WATERMARK, ReadLimits, Span, committed_consumer, read_spans, spans_of
from streams.engine.step_inputs import StepInputs

# `PipelineSupervisor.unhealthy` notices a restoration that stalls.
_LIMITS = ReadLimits(batch_records=5000, stall_seconds=None)

_CLOCKS_MS = 3 * 3600 * 1000
"""How much more than its window is read of a state: input and state are stamped by the clocks of different machines."""

_LOOK_AHEAD = 100
"""Of how many unread records of an input the oldest time is looked for: the first one's clock may have been fast."""

_ByPartition = dict[TopicPartition, list[StepInputs]]


async def restore_state(client: Mapping[str, Any], inputs: Sequence[StepInputs], now_ms: int) -> None:
    """Feed each step the records of its state partitions, up to the end the logs have now.

    Call it after the transactional ids of the steps' input partitions were initialised: then nobody else can add to the
    state of these steps, and what they committed is at most decided, not open. The end is the *high watermark*, not the
    last stable offset: where steps share a partition, another one's open transaction may hide our committed records
    behind it, so this waits until that is decided. The state partitions must exist (`Pipeline.open` checks).

    A windowed state is read back from its window before the oldest input record that is still to be processed, however
    long ago that was written, or before `now_ms` where that is earlier.
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
        oldest = await _oldest_inputs(consumer, [item for item in inputs if _has_window(item)], now_ms)
        consumer.assign(list(waiting))
        starts = await _starts(consumer, waiting, oldest)
        spans = {tp: Span(start, HIGH_WATERMARK) for tp, start in starts.items()}
        async for batch in read_spans(consumer, spans, _LIMITS):
            for item in waiting[batch.partition]:
                for record in batch.records:
                    item.step.restore(record.key, record.value)
                if batch.complete:
                    unread[item.tp] -= 1
                    if not unread[item.tp]:
                        item.state_restored()


def _has_window(item: StepInputs) -> bool:
    return any(window is not None for window in item.step.state_topics.values())


async def _oldest_inputs(consumer: AIOKafkaConsumer, inputs: Sequence[StepInputs], now_ms: int) -> dict[TP, int | None]:
    """The oldest time of what each step will be given, as far as it is known: of its first unread records, of the last
    one that was read, and now. None where there are unread records, and none of them has a time.
    """
    for item in inputs:
        await item.is_positioned.wait()
    first = {TopicPartition(*item.tp): item.first_unread for item in inputs}
    consumer.assign(list(first))
    times: dict[TP, list[int]] = {item.tp: [] for item in inputs}
    unread = dict.fromkeys(times, False)
    spans = {
        tp: Span(max(held.start, first[tp] - 1), min(held.end, first[tp] + _LOOK_AHEAD))
        for tp, held in (await spans_of(consumer, list(first))).items()
    }
    async for batch in read_spans(consumer, {tp: span for tp, span in spans.items() if span.start < span.end}, _LIMITS):
        tp = TP(*batch.partition)
        times[tp] += [record.timestamp for record in batch.records if record.timestamp >= 0]
        unread[tp] |= any(record.offset >= first[batch.partition] for record in batch.records)
    return {tp: None if unread[tp] and not some else min([now_ms, *some]) for tp, some in times.items()}


async def _starts(
    consumer: AIOKafkaConsumer, waiting: Mapping[TopicPartition, list[StepInputs]], oldest: Mapping[TP, int | None]
) -> dict[TopicPartition, int]:
    """Where to begin: at the first record, or at the first one that is as young as the steps' windows reach."""
    since = {tp: at for tp, items in waiting.items() if (at := _since(tp.topic, items, oldest)) is not None}
    starts: dict[TopicPartition, int] = dict(
        await consumer.beginning_offsets([tp for tp in waiting if tp not in since])
    )
    if since:
        ends = await consumer.end_offsets(list(since))
        for tp, at in (await consumer.offsets_for_times(since)).items():
            starts[tp] = ends[tp] if at is None else at.offset
    return starts


def _since(topic: str, items: Sequence[StepInputs], oldest: Mapping[TP, int | None]) -> int | None:
    """From which time on a state is read; None for all of it."""
    times = []
    for item in items:
        window, at = item.step.state_topics[topic], oldest.get(item.tp)
        if window is None or at is None:
            return None
        times.append(at - 1000 * window - _CLOCKS_MS)
    return max(0, min(times))
