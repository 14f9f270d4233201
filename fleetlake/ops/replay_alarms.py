"""Alarms made anew beside `fleetlake replay`: the stream's own steps, in process, without a topic between them.

That is exact because an alarm's life depends on its device's records, in their order, and on times that stand in them
(docs/adr/0007-alarm-time.md): rules, actions, and what other devices' alarms caused in the first run are told
beforehand, since they have their place by their times; of the clock ticks only the last ones matter, which say how far
time had come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fleetlake.ops.replay_topics import Kept, Whole, read_tail, read_whole
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.consumed import Record
from schemas.timestamps import from_micros, to_micros
from schemas.topics import ALARM_ACTIONS, ALARMS, DEVICES, EVENTS, INHIBITORS, MAINTENANCE, READINGS, RULES, WATERMARKS
from streams.detect.operator import DetectOptions, DetectStep
from streams.engine.step import Output

_TAIL = 2000


class Detection:
    """The detect steps of all partitions. `followed`: what the topics hold that they follow."""

    def __init__(self, options: DetectOptions, followed: Mapping[str, Whole]) -> None:
        self._options = options
        self._followed = followed
        self._steps: dict[tuple[str, int], DetectStep] = {}
        self._next: dict[tuple[str, int], int] = {}

    def take(self, partition: int, made: Sequence[Output]) -> list[wire.AlarmEvent]:
        """What records that were made of one raw partition cause."""
        found: list[wire.AlarmEvent] = []
        for topic in (READINGS, EVENTS):
            first = self._next.get((topic, partition), 0)
            outputs = [output for output in made if output.topic == topic]
            records = [
                Kept(topic, partition, first + number, 0, output.key, output.value)
                for number, output in enumerate(outputs)
            ]
            if records:
                self._next[topic, partition] = first + len(records)
                found += _events(self._step(topic, partition), records)
        return found

    def finish(self, reached: Mapping[tuple[str, int], int]) -> list[wire.AlarmEvent]:
        """What happens by itself until time has come as far as it had, by vendor and partition."""
        found: list[wire.AlarmEvent] = []
        for (vendor, partition), at in sorted(reached.items()):
            tick = wire.encode(wire.Watermark(vendor, from_micros(at), -1, -1))  # all it speaks of has been read
            for topic in (READINGS, EVENTS):
                step = self._step(topic, partition)
                step.process_side_input(Kept(WATERMARKS, partition, 0, 0, None, tick))
                found += _events(step, [])
        return found

    def _step(self, topic: str, partition: int) -> DetectStep:
        known = self._steps.get((topic, partition))
        if known is None:
            known = self._steps[topic, partition] = DetectStep(topic, partition, self._options)
            known.assign_side_inputs({name: set(whole.end) for name, whole in self._followed.items()})
            for followed in known.side_inputs:
                if followed.from_end:
                    continue
                whole = self._followed[followed.topic].records
                for number in whole if followed.all_partitions else [partition]:
                    for record in whole.get(number, []):
                        known.process_side_input(record)
        return known


def _events(step: DetectStep, records: Sequence[Record]) -> list[wire.AlarmEvent]:
    return [
        wire.decode_alarm_event(output.value)
        for output in step.process(records, 0)
        if output.topic == ALARMS and output.value is not None
    ]


async def followed_topics(kafka: KafkaSettings) -> dict[str, Whole]:
    """What detecting follows, as it stands in Kafka."""
    return {topic: await read_whole(kafka, topic) for topic in (RULES, MAINTENANCE, INHIBITORS, DEVICES, ALARM_ACTIONS)}


def unknown(followed: Mapping[str, Whole]) -> list[str]:
    """What of that is not there any more, so that alarms would not come out as they were."""
    reasons = []
    if followed[RULES].lacks:
        reasons.append("Kafka has let older versions of changed rules go")
    if followed[MAINTENANCE].lacks:
        reasons.append("Kafka has let older versions of changed maintenance windows go")
    if any(followed[ALARM_ACTIONS].begin.values()):
        reasons.append("Kafka has let older actions of operators go")
    return reasons


async def last_ticks(kafka: KafkaSettings, vendors: Sequence[str]) -> dict[tuple[str, int], int]:
    """How far time had come for each vendor and partition, in microseconds.

    To be asked before the ends of the raw topics are: what a tick speaks of was in them before it.
    """
    found = _reached(await read_tail(kafka, WATERMARKS, _TAIL), vendors)
    if {vendor for vendor, _ in found} != set(vendors):  # some have not ticked for long
        found = _reached(await read_tail(kafka, WATERMARKS, 1 << 60), vendors)
    return found


def _reached(ticks: Sequence[Record], vendors: Sequence[str]) -> dict[tuple[str, int], int]:
    found: dict[tuple[str, int], int] = {}
    for record in ticks:
        tick = wire.decode_watermark(record.value or b"")
        if tick.vendor in vendors:
            place = (tick.vendor, record.partition)
            found[place] = max(found.get(place, 0), to_micros(tick.at))
    return found
