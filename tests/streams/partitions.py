"""Detection on several partitions in one process, which exchange what inhibits other devices."""

from __future__ import annotations

from typing import Any

from schemas import wire
from schemas.topics import ALARM_STATE, ALARMS, INHIBITORS, READINGS
from schemas.vendors import vendor_names
from streams.detect.options import DetectOptions
from streams.detect.rule_operator import RuleOperator
from tests.support.detecting import at, device, record, rule, tick
from tests.support.records import ConsumedRecord

WAIT = 5
GATEWAY, SENSOR, OTHER = "wayscloud:gw", "wayscloud:s1", "wayscloud:s2"
OPTIONS = DetectOptions(inhibition_wait=WAIT * 1_000_000)


def offline(offset: int, name: str, seconds: float, **fields: Any) -> ConsumedRecord:
    config = {"duration_seconds": seconds}
    common = {"auto_resolve": True, "cooldown_seconds": 0}
    return rule(offset, 0, name, rule_type="offline", config=config, **{**common, **fields})


GATEWAY_OFFLINE = offline(0, "gateway-offline", 60, scope_type="model", scope_model="gateway")
BY_DEVICE = [{"rule": "gateway-offline", "device": "gateway_id"}]
SENSOR_OFFLINE = offline(1, "offline", 62, scope_type="model", scope_model="sensor", inhibited_by=BY_DEVICE)
REGISTRY = (
    device(0, GATEWAY, model="gateway", attributes={"site_id": 7}),
    device(1, SENSOR, model="sensor", attributes={"gateway_id": "gw", "site_id": "7"}),
    device(2, OTHER, model="sensor", attributes={"gateway_id": "other", "site_id": "8"}),
)


class Partitions:
    """Detect steps of several partitions, each with its device; what they tell of causes reaches all, when it does."""

    def __init__(self, of: dict[str, int], *followed: ConsumedRecord) -> None:
        self.of = of
        self.followed = followed
        self.numbers = sorted(set(of.values()))
        self.states: dict[int, dict[bytes, bytes]] = {number: {} for number in self.numbers}
        self.log: list[ConsumedRecord] = []
        self.read: dict[int, int] = dict.fromkeys(self.numbers, 0)
        self.acts: list[ConsumedRecord] = []
        self.now = 0.0
        self.seen: dict[int, int] = dict.fromkeys(self.numbers, -1)
        self.events: list[wire.AlarmEvent] = []
        self.steps = {number: self._new(number) for number in self.numbers}

    def _new(self, number: int) -> RuleOperator:
        step = RuleOperator(number, OPTIONS)
        step.assign_side_inputs({INHIBITORS: set(self.numbers)})
        for key, value in self.states[number].items():
            step.restore(key, value)
        for each in (*self.followed, *(act for act in self.acts if self.of[act.key.decode()] == number)):
            step.process_side_input(each)
        return step

    def restart(self, number: int) -> None:
        """As after a kill: committed state, and the inhibitors reported so far from the beginning."""
        self.steps[number] = self._new(number)
        for each in self.log:
            self.steps[number].process_side_input(each)
        self.read[number] = len(self.log)

    def feed(self, *records: ConsumedRecord) -> None:
        for each in records:
            number = self.of[(each.key or b"").decode()]
            if each.topic == READINGS:
                self.seen[number] = each.offset
                self._run(number, each)
            else:
                self.acts.append(each)
                self.steps[number].process_side_input(each)
                self._run(number)

    def tick(self, number: int, seconds: float) -> None:
        for vendor in vendor_names():
            self.steps[number].process_side_input(
                tick(seconds, self.seen[number] if vendor == "wayscloud" else -1, vendor)
            )
        self._run(number)

    def hear(self, number: int, count: int | None = None) -> None:
        """Let a partition read what others reported of inhibitors."""
        end = len(self.log) if count is None else min(len(self.log), self.read[number] + count)
        for each in self.log[self.read[number] : end]:
            self.steps[number].process_side_input(each)
        self.read[number] = end
        self._run(number)

    def pass_to(self, seconds: float) -> None:
        """Time passes for all, and everything is heard."""
        for number in self.numbers:
            self.tick(number, seconds)
        while any(self.read[number] < len(self.log) for number in self.numbers):
            for number in self.numbers:
                self.hear(number)

    def _run(self, number: int, *records: ConsumedRecord) -> None:
        for output in self.steps[number].process(records, round(self.now * 1e6)):
            assert output.key is not None
            if output.topic == ALARM_STATE:
                self.states[number][output.key] = output.value or b""
            elif output.topic == INHIBITORS:
                self.log.append(ConsumedRecord(INHIBITORS, len(self.log), output.key, output.value, 0, number))
            elif output.topic == ALARMS:
                self.events.append(wire.decode_alarm_event(output.value or b""))
        self.states[number] = {key: value for key, value in self.states[number].items() if value}

    @property
    def emitted(self) -> list[tuple[str, str, str, float]]:
        return [
            (e.alarm.device_id, e.alarm.rule_id, e.event_type, (e.created_at - at(0)).total_seconds())
            for e in self.events
        ]

    def of_device(self, name: str) -> list[tuple[str, float]]:
        return [(kind, seconds) for device, _, kind, seconds in self.emitted if device == name]


def fleet(*followed: ConsumedRecord) -> Partitions:
    rules = followed or (GATEWAY_OFFLINE, SENSOR_OFFLINE)
    return Partitions({GATEWAY: 0, SENSOR: 1, OTHER: 1}, *REGISTRY, *rules)


def heard(offset: int, seconds: float, name: str, **values: Any) -> ConsumedRecord:
    return record(offset, seconds, values or {"t": 1.0}, name)
