"""A seeded story of two partitions of readings and one of events, that leaves something in every field of the state."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from schemas import wire
from schemas.topics import ALARM_STATE, ALARMS, EVENTS, INHIBITORS, READINGS
from schemas.vendors import vendor_names
from streams.engine.step import Step
from tests.support.detecting import action, alert, at, device, record, rule, tick, window
from tests.support.records import ConsumedRecord

GATEWAY, SENSOR, OTHER, ROBOT = "wayscloud:gw", "wayscloud:s1", "wayscloud:s2", "karcher:1.454-500.0/002005"
PARTITION = {GATEWAY: 0, ROBOT: 0, SENSOR: 1, OTHER: 1}
STEPS = 700
HALF = 400
"""The story is cut here: state is taken, and goes on in other steps."""

_HOT = {"rule_type": "threshold", "config": {"metric": "t", "operator": "gt", "value": 40}}
_BAND = {"rule_type": "threshold", "config": {**_HOT["config"], "clear": {"operator": "lt", "value": 30}}}  # type: ignore[dict-item]
_SUPPRESS = {"count": 3, "seconds": 60, "suppress": True}
_BY_DEVICE = [{"rule": "gateway-offline", "device": "gateway_id"}]
_BY_SITE = [{"rule": "gateway-offline", "same": "site_id"}]


def _offline(seconds: float) -> dict[str, Any]:
    return {"rule_type": "offline", "config": {"duration_seconds": seconds}, "auto_resolve": True}


_RULES: list[dict[str, Any]] = [
    {"id": "hot", **_HOT, "auto_resolve": True, "cooldown_seconds": 20, "severity": "Urgent"},
    {"id": "latched", **_HOT, "auto_resolve": True, "latch": True, "cooldown_seconds": 0},
    {"id": "band", **_BAND, "cooldown_seconds": 0, "auto_resolve": True},
    {"id": "flaps", **_HOT, "auto_resolve": True, "cooldown_seconds": 0, "flapping": _SUPPRESS},
    {"id": "marked", **_HOT, "auto_resolve": True, "cooldown_seconds": 0, "flapping": {"count": 3, "seconds": 60}},
    {"id": "gateway-offline", **_offline(30), "cooldown_seconds": 0, "scope_type": "model", "scope_model": "gateway"},
    {"id": "offline", **_offline(31), "cooldown_seconds": 0, "inhibited_by": _BY_DEVICE},
    {"id": "site", **_HOT, "auto_resolve": True, "cooldown_seconds": 0, "inhibited_by": _BY_SITE},
    {"id": "site-flaps", **_HOT, "auto_resolve": True, "cooldown_seconds": 0, "inhibited_by": _BY_SITE,
     "flapping": _SUPPRESS},
    {"id": "below", **_HOT, "cooldown_seconds": 5, "inhibited_by": [{"rule": "offline", "same": "site_id"}]},
    {"id": "missing", "rule_type": "missing_data", "config": {"metric": "t", "duration_seconds": 40},
     "inhibited_by": ["offline"], "auto_resolve": True, "cooldown_seconds": 60},
    {"id": "few", "rule_type": "message_rate", "config": {"operator": "lt", "value": 3, "window_seconds": 20},
     "auto_resolve": True, "cooldown_seconds": 0},
    {"id": "unstable", "rule_type": "reconnect_rate", "config": {"value": 1, "window_seconds": 30}},
    {"id": "working", **_HOT, "auto_resolve": True, "cooldown_seconds": 0,
     "active_hours": {"timezone": "Europe/Oslo", "from": "01:00", "to": "01:20", "days": ["mon"]}},
]  # fmt: skip


def _fields(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name != "id"}


FOLLOWED: Sequence[ConsumedRecord] = (
    *(rule(number, -10, given["id"], **_fields(given)) for number, given in enumerate(_RULES)),
    device(0, GATEWAY, model="gateway", attributes={"site_id": 7}),
    device(1, SENSOR, model="sensor", attributes={"gateway_id": "gw", "site_id": "7"}),
    device(2, OTHER, model="sensor", attributes={"gateway_id": "other", "site_id": "8"}),
    window(0, 100, 150, 260, scope_type="device", scope=SENSOR, rules=["hot", "offline"]),
)
"""What stands on the side inputs at the beginning."""


class Story:
    """Plays the story with the steps that `make(topic, partition)` makes."""

    def __init__(self, make: Callable[[str, int], Step]) -> None:
        self._make = make
        self.states: dict[str, dict[bytes, bytes]] = {"readings/0": {}, "readings/1": {}, "events/0": {}}
        self.side_inputs: dict[str, list[ConsumedRecord]] = {name: list(FOLLOWED) for name in self.states}
        self.steps = {name: self._new(name) for name in self.states}
        self.alarms: dict[str, str] = {}
        self._open: dict[str, str] = {}
        self._offsets = {"readings/0": -1, "readings/1": -1, "events/0": -1}
        self._read_to: dict[tuple[str, str], int] = {}
        self._inhibitors = 0

    def _new(self, name: str) -> Step:
        topic, _, number = name.partition("/")
        step = self._make(READINGS if topic == "readings" else EVENTS, int(number))
        step.assign_side_inputs({INHIBITORS: {0, 1}})
        for key, value in self.states[name].items():
            step.restore(key, value)
        for each in self.side_inputs[name]:
            if topic == "readings" or each.topic not in {f.topic for f in FOLLOWED}:
                step.process_side_input(each)
        return step

    def restart(self) -> None:
        """Make all steps anew from what they have written."""
        self.steps = {name: self._new(name) for name in self.states}

    def run(self, first: int, last: int, seed: int = 14) -> Iterator[tuple[str, bytes, bytes]]:
        """Play some turns; topic, key and value of each output, in order. Values that delete are empty."""
        for turn in range(first, last):
            chance = random.Random(seed * 10_000 + turn)
            yield from self._turn(turn * 3.0, chance)

    def _turn(self, now: float, chance: random.Random) -> Iterator[tuple[str, bytes, bytes]]:
        kind = chance.choices(["record", "alert", "action", "tick", "rule"], [12, 2, 3, 8, 1.5])[0]
        if kind == "record":
            yield from self._record(now, chance)
        elif kind == "alert":
            self._offsets["events/0"] += 1
            self._read_to["events/0", "ogmen"] = self._offsets["events/0"]
            header = chance.choice(["Stuck", "Bin low"])
            yield from self._run("events/0", alert(self._offsets["events/0"], now, header))
        elif kind == "action" and self._open:
            alarm, name = chance.choice([*self._open.items()][-8:])
            what = chance.choice(["acknowledge", "resolve", "reopen", "snooze", "acknowledge"])
            more: dict[str, Any] = {"until": at(now + 600).isoformat()} if what == "snooze" else {"note": "seen"}
            self._side(name, action(int(now), now, what, alarm, self.alarms[alarm], f"{now}", **more))
            yield from self._run(name)
        elif kind == "rule":
            given = chance.choice(_RULES)
            enabled = {**_fields(given), "is_enabled": chance.random() < 0.7}
            for name in ("readings/0", "readings/1"):
                self._side(name, rule(int(1000 + now), now, given["id"], **enabled))
                yield from self._run(name)
        else:
            for name in chance.sample(sorted(self.states), 2):
                for vendor in vendor_names():
                    read_to = self._read_to.get((name, vendor), -1)
                    self.steps[name].process_side_input(tick(now - chance.choice([0, 2, 9]), read_to, vendor))
                yield from self._run(name)

    def _record(self, now: float, chance: random.Random) -> Iterator[tuple[str, bytes, bytes]]:
        for name in chance.sample(sorted(PARTITION), chance.choice([1, 1, 2, 3])):
            place = f"readings/{PARTITION[name]}"
            self._offsets[place] += 1
            self._read_to[place, name.partition(":")[0]] = self._offsets[place]
            values: dict[str, Any] = {"t": chance.choice([20.0, 35.0, 41.0, 50.0])}
            if chance.random() < 0.3:
                values["network.connected"] = chance.random() < 0.5
            if chance.random() < 0.2:
                values["connection.last_connected"] = f"2026-03-16T00:0{chance.randrange(9)}:00Z"
            observed = now - chance.choice([0, 0, 1, 4, 8])
            yield from self._run(place, record(self._offsets[place], now, values, name, observed))

    def _side(self, name: str, given: ConsumedRecord) -> None:
        self.side_inputs[name].append(given)
        self.steps[name].process_side_input(given)

    def _run(self, name: str, *records: ConsumedRecord) -> Iterator[tuple[str, bytes, bytes]]:
        for output in self.steps[name].process(records, 0):
            key, value = output.key or b"", output.value or b""
            if output.topic == ALARM_STATE:
                self.states[name][key] = value
                self.states[name] = {key: value for key, value in self.states[name].items() if value}
            elif output.topic == INHIBITORS:
                given = ConsumedRecord(INHIBITORS, self._inhibitors, key, value, 0, int(name[-1]))
                self._inhibitors += 1
                for other in ("readings/0", "readings/1"):
                    self._side(other, given)
            elif output.topic == ALARMS:
                self._remember(name, value)
            yield output.topic, key, value

    def _remember(self, name: str, value: bytes) -> None:
        alarm = wire.decode_alarm_event(value).alarm
        self.alarms[alarm.alarm_id] = alarm.device_id
        if alarm.status != "resolved" or len(self._open) < 3:
            self._open[alarm.alarm_id] = name
        else:
            self._open.pop(alarm.alarm_id, None)
