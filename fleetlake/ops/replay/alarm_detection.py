"""Detects alarms anew beside a replay: the stream's own operators, in process, without a topic between them.

This is exact because an alarm's life depends on its device's records, in their order, and on the times in them
(docs/adr/0007-alarm-time.md). Rules, actions, and the inhibitors that other devices' alarms were in the first run are
given beforehand, since they take effect by their times. Of the watermarks only the last ones matter: they state how far
event time had advanced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleetlake.ops.replay.topic_contents import RebuiltRecord, TopicContents, read_contents, read_tail
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.consumed import Record
from schemas.topics import (
    ALARM_ACTIONS,
    ALARMS,
    COVERAGE,
    DEVICES,
    EVENTS,
    INHIBITORS,
    MAINTENANCE,
    READINGS,
    RULES,
    WATERMARKS,
)
from streams.detect.operators import OPERATORS, AnyAlarmOperator
from streams.detect.options import DetectOptions
from streams.engine.step import Output

_TAIL_RECORDS = 2000


class AlarmDetection:
    """The detect operators of all partitions. `side_inputs` is what the topics of their side inputs hold."""

    def __init__(self, options: DetectOptions, side_inputs: Mapping[str, TopicContents]) -> None:
        self._options = options
        self._side_inputs = side_inputs
        self._operators: dict[tuple[str, int], AnyAlarmOperator] = {}
        self._next: dict[tuple[str, int], int] = {}

    def process(self, partition: int, outputs: Sequence[Output]) -> list[wire.AlarmEvent]:
        """The alarm events that follow from the normalised records of one raw partition."""
        events: list[wire.AlarmEvent] = []
        for topic in (READINGS, EVENTS):
            first = self._next.get((topic, partition), 0)
            chosen = [output for output in outputs if output.topic == topic]
            records = [
                RebuiltRecord(topic, partition, first + number, 0, output.key, output.value)
                for number, output in enumerate(chosen)
            ]
            if records:
                self._next[topic, partition] = first + len(records)
                events += _events(self._operator(topic, partition), records)
        return events

    def finish(self, watermarks: Mapping[tuple[str, int], wire.Watermark]) -> list[wire.AlarmEvent]:
        """The alarm events that follow when event time advances to these watermarks, by vendor and partition."""
        events: list[wire.AlarmEvent] = []
        for (vendor, partition), last in sorted(watermarks.items(), key=lambda item: item[0]):
            # All before it has been read.
            watermark = wire.encode(wire.Watermark(vendor, last.at, clock=last.clock))
            for topic in (READINGS, EVENTS, COVERAGE):
                operator = self._operator(topic, partition)
                operator.process_side_input(RebuiltRecord(WATERMARKS, partition, 0, 0, None, watermark))
                events += _events(operator, [])
        return events

    def _operator(self, topic: str, partition: int) -> AnyAlarmOperator:
        key = (topic, partition)
        if key not in self._operators:
            self._operators[key] = self._new_operator(topic, partition)
        return self._operators[key]

    def _new_operator(self, topic: str, partition: int) -> AnyAlarmOperator:
        operator = OPERATORS[topic](partition, self._options)
        operator.assign_side_inputs({name: set(contents.end) for name, contents in self._side_inputs.items()})
        for side_input in operator.side_inputs:
            if side_input.from_end:
                continue
            records = self._side_inputs[side_input.topic].records
            for number in records if side_input.all_partitions else [partition]:
                for record in records.get(number, []):
                    operator.process_side_input(record)
        return operator


def _events(operator: AnyAlarmOperator, records: Sequence[Record]) -> list[wire.AlarmEvent]:
    return [
        wire.decode_alarm_event(output.value)
        for output in operator.process(records, 0)
        if output.topic == ALARMS and output.value is not None
    ]


async def read_side_inputs(kafka: KafkaSettings) -> dict[str, TopicContents]:
    """The topics of detection's side inputs, as Kafka holds them now."""
    topics = (RULES, MAINTENANCE, INHIBITORS, DEVICES, ALARM_ACTIONS, COVERAGE)
    return {topic: await read_contents(kafka, topic) for topic in topics}


def why_inexact(side_inputs: Mapping[str, TopicContents]) -> list[str]:
    """Which side inputs are no longer complete, so that alarms would not come out as they were."""
    reasons = []
    if side_inputs[RULES].is_incomplete:
        reasons.append("Kafka no longer has the older versions of changed rules")
    if side_inputs[MAINTENANCE].is_incomplete:
        reasons.append("Kafka no longer has the older versions of changed maintenance windows")
    if any(side_inputs[ALARM_ACTIONS].begin.values()):
        reasons.append("Kafka no longer has the older actions of operators")
    return reasons


async def last_watermarks(kafka: KafkaSettings, vendors: Sequence[str]) -> dict[tuple[str, int], wire.Watermark]:
    """How far event time had advanced, by vendor and partition.

    Call this before the ends of the raw topics are read: a watermark covers what these held before it.
    """
    watermarks = _latest(await read_tail(kafka, WATERMARKS, _TAIL_RECORDS), vendors)
    if {vendor for vendor, _ in watermarks} != set(vendors):  # some have had none for long
        watermarks = _latest(await read_tail(kafka, WATERMARKS, 1 << 60), vendors)
    return watermarks


def _latest(records: Sequence[Record], vendors: Sequence[str]) -> dict[tuple[str, int], wire.Watermark]:
    latest: dict[tuple[str, int], wire.Watermark] = {}
    for record in records:
        watermark = wire.decode_watermark(record.value or b"")
        if watermark.vendor in vendors:
            key = (watermark.vendor, record.partition)
            latest[key] = max(latest.get(key, watermark), watermark, key=lambda each: (each.clock or each.at, each.at))
    return latest
