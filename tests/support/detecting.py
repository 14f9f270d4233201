"""What tests of the detect step need: records by the second, actions, rules, ticks; a step to be restarted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid5

from schemas import wire
from schemas.coverage import coverage_key
from schemas.derived_ids import NAMESPACE
from schemas.records import MaintenanceWindow
from schemas.timestamps import to_micros
from schemas.topics import (
    ALARM_ACTIONS,
    ALARM_STATE,
    ALARMS,
    COVERAGE,
    DEVICES,
    EVENTS,
    MAINTENANCE,
    READINGS,
    RULES,
    WATERMARKS,
    raw_topic,
)
from streams.detect.operators import OPERATORS, AnyAlarmOperator
from streams.detect.options import DetectOptions
from streams.engine.step import Output
from tests.support.records import ConsumedRecord

T0 = datetime(2026, 3, 16, tzinfo=UTC)
"""A Monday."""
DEVICE = "wayscloud:a"


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def millis(seconds: float) -> int:
    return round((at(seconds) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)


def reading(metric: str, value: Any, observed: float) -> wire.Reading:
    kinds = {bool: "value_boolean", str: "value_text"}
    return wire.Reading(metric, at(observed), **{kinds.get(type(value), "value_number"): value})


def record(
    offset: int,
    received: float,
    values: dict[str, Any],
    device: str = DEVICE,
    observed: float | None = None,
    **heard: Any,
) -> ConsumedRecord:
    """One record of the readings. Its raw record has the same offset. `heard`: `polled` and `heard_at`."""
    vendor = device.partition(":")[0]
    seen = received if observed is None else observed
    made = wire.Observation(
        f"m{offset}",
        device,
        vendor,
        at(received),
        wire.Origin(raw_topic(vendor), 0, offset),
        [reading(metric, value, seen) for metric, value in values.items()],
        **heard,
    )
    return ConsumedRecord(READINGS, offset, device.encode(), wire.encode(made), millis(received))


def alert(offset: int, received: float, header: str = "Stuck", device: str = "ogmen:1") -> ConsumedRecord:
    data = json.dumps({"source": "navigation", "header": header, "body": "Lift it"})
    event = wire.Event(str(uuid5(NAMESPACE, f"alert {offset}")), "alert", at(received), data, severity="major")
    origin = wire.Origin(raw_topic("ogmen"), 0, offset)
    made = wire.EventSet(f"m{offset}", device, "ogmen", at(received), origin, [event])
    return ConsumedRecord(EVENTS, offset, device.encode(), wire.encode(made), millis(received))


def action(
    offset: int, seconds: float, kind: str, alarm_id: str, device: str = DEVICE, name: str | None = None, **more: Any
) -> ConsumedRecord:
    action_id = str(uuid5(NAMESPACE, name or f"action {offset}"))
    made = wire.AlarmAction(action_id, alarm_id, device, kind, "ops@example.com", at(seconds), **more)
    return ConsumedRecord(ALARM_ACTIONS, offset, device.encode(), wire.encode(made), millis(seconds))


def rule(offset: int, seconds: float, name: str, **fields: Any) -> ConsumedRecord:
    value = json.dumps({"id": name, "name": name, **fields}).encode() if fields else None
    return ConsumedRecord(RULES, offset, name.encode(), value, millis(seconds))


def window(offset: int, created: float, starts: float, ends: float, **fields: Any) -> ConsumedRecord:
    """A maintenance window with the id `w`."""
    times = {"starts_at": at(starts), "ends_at": at(ends), "created_at": at(created)}
    made = MaintenanceWindow(window_id="w", actor="ops@example.com", **times, **fields)
    return ConsumedRecord(MAINTENANCE, offset, b"w", made.model_dump_json().encode(), millis(created))


def device(offset: int, name: str, **fields: Any) -> ConsumedRecord:
    made = wire.Device(name, name.partition(":")[0], T0, **fields)
    return ConsumedRecord(DEVICES, offset, name.encode(), wire.encode(made), millis(0))


def tick(seconds: float, read_to: int, vendor: str = "wayscloud") -> ConsumedRecord:
    return ConsumedRecord(
        WATERMARKS, 0, None, wire.encode(wire.Watermark(vendor, at(seconds), read_to, read_to)), millis(seconds)
    )


def micros(seconds: float) -> int:
    return to_micros(at(seconds))


def report(
    *spans: tuple[float, float | None],
    until: float,
    vendor: str = "wayscloud",
    device: str = "",
    channel: str = "connector",
    process: str = "0",
) -> ConsumedRecord:
    """A listener's report; times in seconds."""
    made = wire.Coverage(
        vendor,
        channel,
        [(micros(since), None if end is None else micros(end)) for since, end in spans],
        micros(until),
        device,
    )
    key = coverage_key(device) if device else coverage_key(f"{vendor}:fleetlake", channel, process)
    return ConsumedRecord(COVERAGE, 0, key.encode(), wire.encode(made), millis(until))


def clock(seconds: float, read_to: int = -1, vendor: str = "wayscloud") -> ConsumedRecord:
    made = wire.Watermark(vendor, at(0), -1, -1, at(seconds), read_to)
    return ConsumedRecord(WATERMARKS, 0, None, wire.encode(made), millis(seconds))


class Detecting:
    """A detect step whose outputs are committed, and which can be restarted from what was committed."""

    def __init__(self, *followed: ConsumedRecord, topic: str = READINGS, options: DetectOptions | None = None) -> None:
        self.topic = topic
        self.options = options or DetectOptions()
        self.followed: list[ConsumedRecord] = []
        self.state: dict[bytes, bytes] = {}
        self.events: list[wire.AlarmEvent] = []
        self.step = self._new()
        self.follow(*followed)

    def _new(self) -> AnyAlarmOperator:
        step = OPERATORS[self.topic](0, self.options)
        for key, value in self.state.items():
            step.restore(key, value)
        return step

    def follow(self, *records: ConsumedRecord) -> list[str]:
        """Records of followed topics; what they cause at once."""
        for each in records:
            self.step.process_side_input(each)
        self.followed += [each for each in records if each.topic != WATERMARKS]
        return self.feed() if self.step.pending else []

    def feed(self, *records: ConsumedRecord) -> list[str]:
        """Process and commit; the events as `rule:type`."""
        outputs = self.step.process(records, 0)
        assert not self.step.pending
        self._commit(outputs)
        made = [wire.decode_alarm_event(o.value or b"") for o in outputs if o.topic == ALARMS]
        self.events += made
        return [f"{event.alarm.rule_id}:{event.event_type}" for event in made]

    def _commit(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if output.topic == ALARM_STATE and output.key is not None:
                if output.value is None:
                    self.state.pop(output.key, None)
                else:
                    self.state[output.key] = output.value

    def restart(self) -> None:
        """As after a kill: committed state only, followed topics read from their beginning."""
        self.step = self._new()
        for each in self.followed:
            self.step.process_side_input(each)

    @property
    def alarm(self) -> wire.Alarm:
        return self.events[-1].alarm

    @property
    def last(self) -> wire.AlarmEvent:
        return self.events[-1]
