"""A scripted day of a fleet: what its devices send and operators do, and which alarms are true of it.

The truth is written down as the day is scripted, by arithmetic on the script alone; the engine has no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from schemas import wire
from schemas.coverage import NOT_LISTENING
from schemas.derived_ids import derived_id
from schemas.envelope import Envelope, message_id
from schemas.timestamps import format_iso, to_micros

SLOT = 300
"""Seconds between two readings of a device."""
SLOTS = 288
TRANSIT = 2
"""Seconds from observation to receipt."""
ALLOWANCE = 120
LASTING = 900
SILENCE = 900
COOLDOWN = 1800
HOURS = 24
OUTAGE_SLOTS = range(268, 278)
"""When our connector is not running: longer than a silence, and after all stories."""
NOT_LISTENING_AFTER = 60
OURS = "wayscloud:fleetlake"
VENDOR_ALARM = "wayscloud.alarm.event"

RULES: list[dict[str, Any]] = [
    {
        "id": "hot",
        "name": "Too hot",
        "rule_type": "threshold",
        "severity": "critical",
        "config": {"metric": "environment.temperature", "operator": "gt", "value": 40, "duration_seconds": LASTING},
        "auto_resolve": True,
        "cooldown_seconds": 0,
    },
    {
        "id": "low",
        "name": "Battery low",
        "rule_type": "threshold",
        "config": {"metric": "battery.level", "operator": "lt", "value": 15},
        "cooldown_seconds": 0,
    },
    {
        "id": "off",
        "name": "Offline",
        "rule_type": "offline",
        "config": {"duration_seconds": SILENCE},
        "auto_resolve": True,
        "cooldown_seconds": 0,
        "inhibited_by": [{"rule": "gateway", "device": "gateway"}],
    },
    {
        "id": "gateway",
        "name": "Gateway offline",
        "rule_type": "offline",
        "config": {"duration_seconds": SILENCE},
        "scope_type": "group",
        "scope_group_id": "gateways",
        "auto_resolve": True,
        "cooldown_seconds": 0,
    },
    {
        "id": "door",
        "name": "Door open",
        "rule_type": "threshold",
        "config": {"metric": "door.open", "operator": "eq", "value": True},
        "auto_resolve": True,
        "cooldown_seconds": COOLDOWN,
        "flapping": {"count": 3, "seconds": 3600},
    },
]


GROUPS = {"gateways": ["wayscloud:gateway-*"]}
ATTRIBUTES = {"gateway": {f"gateway-{n:03d}": [f"wayscloud:sensor-{n:03d}"] for n in range(8, 1000, 16)}}
"""Every second of the quiet devices is behind a gateway of its own."""


class Told(NamedTuple):
    """One entry of a timeline, as it must come out."""

    device: str
    rule: str
    alarm_id: str
    sequence: int
    event_type: str
    at: datetime
    status: str
    count: int
    actor: str
    flapping: bool


class Sent(NamedTuple):
    """One message: when it is received, and as what."""

    received: datetime
    envelope: Envelope


class Act(NamedTuple):
    """What an operator does."""

    at: datetime
    device: str
    alarm_id: str
    action: str


@dataclass
class Day:
    """The script and its truth."""

    start: datetime
    devices: int
    sent: list[Sent] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    truth: list[Told] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.devices):
            _Device(self, number).live()
        for special in (_SilentBefore(self), _SilentIntoIt(self), _Polled(self), _OfAnAccount(self)):
            special.live()
        self._not_listening()
        self.sent.sort(key=lambda sent: (sent.received, sent.envelope.device_id))
        self.acts.sort()

    @property
    def outage(self) -> tuple[datetime, datetime]:
        """From when to when nobody listens."""
        begin = self.start + timedelta(seconds=OUTAGE_SLOTS.start * SLOT)
        return begin, begin + timedelta(seconds=len(OUTAGE_SLOTS) * SLOT)

    def is_heard(self, received: datetime) -> bool:
        """Whether anybody is there to receive a message."""
        begin, end = self.outage
        return not begin <= received < end

    def covered(self, now: datetime) -> wire.Coverage:
        """What the connector has reported by then."""
        begin, end = self.outage
        first = to_micros(self.start - timedelta(hours=1))
        if now < end:
            return wire.Coverage("wayscloud", "mqtt", [(first, None)], to_micros(min(now, begin)))
        return wire.Coverage("wayscloud", "mqtt", [(first, to_micros(begin)), (to_micros(end), None)], to_micros(now))

    def _not_listening(self) -> None:
        begin, end = self.outage
        alarm = _Alarm(self, OURS, NOT_LISTENING, begin + timedelta(seconds=NOT_LISTENING_AFTER))
        alarm.tell("triggered", alarm.triggered, actor="pipeline")
        alarm.tell("resolved", end, "resolved", actor="pipeline")

    @property
    def end(self) -> datetime:
        """When all is over, silence at the end included."""
        return self.start + timedelta(hours=HOURS + 1)


@dataclass
class _Alarm:
    """The timeline of one true alarm, being written."""

    day: Day
    device: str
    rule: str
    triggered: datetime
    entries: int = 0
    count: int = 1
    status: str = "active"
    identity: str = ""
    """The name of an alarm of the vendor."""

    @property
    def name(self) -> str:
        return derived_id("alarm", self.device, self.identity or self.rule, str(to_micros(self.triggered)))

    def tell(
        self,
        event_type: str,
        at: datetime,
        status: str | None = None,
        actor: str = "rule_engine",
        flapping: bool = False,
    ) -> None:
        self.entries += 1
        self.count += event_type == "repeated"
        self.status = status or self.status
        self.day.truth.append(
            Told(
                self.device,
                self.rule,
                self.name,
                self.entries,
                event_type,
                at,
                self.status,
                self.count,
                actor,
                flapping,
            )
        )


class _Device:
    """One device, whose number says what befalls it; a multiple of the number says when."""

    def __init__(self, day: Day, number: int) -> None:
        self.day = day
        self.id = f"wayscloud:sensor-{number:03d}"
        self.first = day.start + timedelta(seconds=1.5 * number)
        self.begin = 12 + number * 7 % 200
        self.stories: list[Callable[[], None]] = [
            self._quiet,
            self._hot,
            self._hot_for_too_short,
            self._outage,
            self._flapping,
            self._late_in_time,
            self._late_out_of_time,
            self._battery,
        ]
        self.has_gateway = number % 16 == 8
        self.story = self._behind_a_gateway if self.has_gateway else self.stories[number % len(self.stories)]
        self.temperature: dict[int, float] = {}
        self.battery: dict[int, float] = {}
        self.door: dict[int, bool] = {}
        self.silent: set[int] = set()
        self.late: list[Sent] = []

    def live(self) -> None:
        """Tell the story; then send what the device measured."""
        self.story()
        for slot in range(SLOTS):
            if slot not in self.silent and self.day.is_heard(self.received(slot)):
                values = {"temperature": self.temperature.get(slot, 21.5), "battery": self.battery.get(slot, 80.0)}
                door = {"door_open": self.door.get(slot, False)}
                self.day.sent.append(self._message(self.at(slot), self.received(slot), {**values, **door}))
        self.day.sent += self.late
        # After its last reading of the day it is silent.
        last = max(set(range(SLOTS)) - self.silent)
        if not self.has_gateway:  # which falls silent as well
            self._alarm("off", self.received(last) + timedelta(seconds=SILENCE))

    def at(self, slot: int) -> datetime:
        return self.first + timedelta(seconds=slot * SLOT)

    def received(self, slot: int) -> datetime:
        return self.at(slot) + timedelta(seconds=TRANSIT)

    def _message(self, observed: datetime, received: datetime, values: dict[str, Any]) -> Sent:
        data = json.dumps({"timestamp": format_iso(observed), **values}).encode()
        topic = f"devices/{self.id.partition(':')[2]}/sensors/state"
        name = message_id([self.id, format_iso(received), data])
        source = "wayscloud/mqtt"
        attributes = {"mqtttopic": topic}
        return Sent(
            received, Envelope(name, "wayscloud.publish", source, self.id, received, data, attributes=attributes)
        )

    def _alarm(self, rule: str, at: datetime, *, tell: bool = True) -> _Alarm:
        alarm = _Alarm(self.day, self.id, rule, at)
        if tell:
            alarm.tell("triggered", at)
        return alarm

    def _quiet(self) -> None:
        pass

    def _hot(self) -> None:
        for slot in range(self.begin, self.begin + 6):
            self.temperature[slot] = 45.0
        self._was_hot(self.begin + 6)

    def _was_hot(self, until: int) -> None:
        alarm = self._alarm("hot", self.at(self.begin) + timedelta(seconds=LASTING))
        alarm.tell("resolved", self.at(until), "resolved")

    def _hot_for_too_short(self) -> None:
        for slot in range(self.begin, self.begin + 3):  # 600 s are proven
            self.temperature[slot] = 45.0

    def _outage(self) -> None:
        self.silent = set(range(self.begin, self.begin + 8))
        alarm = self._alarm("off", self.received(self.begin - 1) + timedelta(seconds=SILENCE))
        alarm.tell("resolved", self.received(self.begin + 8), "resolved")

    def _behind_a_gateway(self) -> None:
        """Both fall silent, the gateway three seconds later; and it is back before the device is."""
        self.silent = set(range(self.begin, self.begin + 8))
        gateway = _Gateway(self)
        gateway.live()
        alarm = self._alarm("off", gateway.received(self.begin + 6))
        alarm.tell("resolved", self.received(self.begin + 8), "resolved")

    def _flapping(self) -> None:
        """Open in every second slot; six slots are one cooldown."""
        slots = range(self.begin, self.begin + 10, 2)
        for slot in slots:
            self.door[slot] = True
        first = self._alarm("door", self.at(slots[0]))
        first.tell("resolved", self.at(slots[0] + 1), "resolved")
        first.tell("repeated", self.at(slots[1]))
        first.tell("repeated", self.at(slots[2]), flapping=True)
        second = self._alarm("door", self.at(slots[3]), tell=False)
        second.tell("triggered", self.at(slots[3]), flapping=True)
        second.tell("resolved", self.at(slots[3] + 1), "resolved", flapping=True)
        second.tell("repeated", self.at(slots[4]), flapping=True)

    def _late_in_time(self) -> None:
        """A cool reading in the midst of the heat comes late, but within the allowance: no crossing lasts."""
        for slot in range(self.begin, self.begin + 5):
            self.temperature[slot] = 45.0
        between = self.at(self.begin + 2) - timedelta(seconds=60)
        received = self.received(self.begin + 2) + timedelta(seconds=ALLOWANCE - 30)
        self.late.append(self._message(between, received, {"temperature": 20.0}))

    def _late_out_of_time(self) -> None:
        """The same reading comes after the allowance is over: it changes nothing."""
        for slot in range(self.begin, self.begin + 5):
            self.temperature[slot] = 45.0
        between = self.at(self.begin + 2) - timedelta(seconds=60)
        received = self.received(self.begin + 2) + timedelta(seconds=ALLOWANCE + 60)
        self.late.append(self._message(between, received, {"temperature": 20.0}))
        self._was_hot(self.begin + 5)

    def _battery(self) -> None:
        """Acknowledged, resolved by hand, loaded; low once more; and a word about the first, which is over."""
        again = self.begin + 40
        for slot in range(self.begin, self.begin + 30):
            self.battery[slot] = 10.0
        for slot in range(again, SLOTS):
            self.battery[slot] = 12.0
        first = self._alarm("low", self.at(self.begin))
        acknowledged, resolved = (self.at(self.begin) + timedelta(seconds=s) for s in (1000, 5000))
        self.day.acts.append(Act(acknowledged, self.id, first.name, "acknowledge"))
        self.day.acts.append(Act(resolved, self.id, first.name, "resolve"))
        self.day.acts.append(Act(resolved + timedelta(seconds=60), self.id, first.name, "acknowledge"))
        first.tell("acknowledged", acknowledged, "acknowledged", "ops@example.com")
        first.tell("resolved", resolved, "resolved", "ops@example.com")
        self._alarm("low", self.at(again))


class _Gateway(_Device):
    """A device that others are behind: both rules about silence concern it."""

    def __init__(self, behind: _Device) -> None:
        super().__init__(behind.day, 0)
        self.id = behind.id.replace("sensor", "gateway")
        self.first = behind.first + timedelta(seconds=3)
        self.begin = behind.begin
        self.story = self._away

    def _away(self) -> None:
        self.silent = set(range(self.begin, self.begin + 6))
        for rule in ("off", "gateway"):
            alarm = self._alarm(rule, self.received(self.begin - 1) + timedelta(seconds=SILENCE))
            alarm.tell("resolved", self.received(self.begin + 6), "resolved")
        self._alarm("gateway", self.received(SLOTS - 1) + timedelta(seconds=SILENCE))


class _SilentBefore(_Device):
    """Silent before our outage and until after it: one alarm, which stays open over it."""

    def __init__(self, day: Day) -> None:
        super().__init__(day, 0)
        self.id = "wayscloud:silent-before"
        self.story = self._away

    def _away(self) -> None:
        self.silent = set(range(OUTAGE_SLOTS.start - 6, OUTAGE_SLOTS.stop + 3))
        alarm = self._alarm("off", self.received(OUTAGE_SLOTS.start - 7) + timedelta(seconds=SILENCE))
        alarm.tell("resolved", self.received(OUTAGE_SLOTS.stop + 3), "resolved")


class _SilentIntoIt(_Device):
    """Silent for too short when our outage begins; its silence goes on when we are back."""

    def __init__(self, day: Day) -> None:
        super().__init__(day, 0)
        self.id = "wayscloud:silent-into-it"
        self.story = self._away

    def _away(self) -> None:
        begin, end = self.day.outage
        last = OUTAGE_SLOTS.start - 2
        self.silent = set(range(last + 1, OUTAGE_SLOTS.stop + 6))
        alarm = self._alarm("off", end + timedelta(seconds=SILENCE) - (begin - self.received(last)))
        alarm.tell("resolved", self.received(OUTAGE_SLOTS.stop + 6), "resolved")


class _Polled(_Device):
    """A device whose state we read; it is off for a while, and we go on reading."""

    def __init__(self, day: Day) -> None:
        super().__init__(day, 0)
        self.id = "wayscloud:polled"

    def live(self) -> None:
        """Tell what is read in each slot."""
        off = range(100, 120)
        for slot in range(SLOTS):
            seen = self.at(off.start - 1 if slot in off else slot)
            if self.day.is_heard(self.received(slot)):
                self.day.sent.append(self._read(slot, seen))
        alarm = self._alarm("off", self.at(off.start - 1) + timedelta(seconds=SILENCE))
        alarm.tell("resolved", self.received(off.stop), "resolved")
        self._alarm("off", self.at(SLOTS - 1) + timedelta(seconds=SILENCE))

    def _read(self, slot: int, seen: datetime) -> Sent:
        data = json.dumps({"is_online": True, "battery_level": 80.0, "last_seen": format_iso(seen)}).encode()
        received = self.received(slot)
        name = message_id([self.id, format_iso(received), data])
        return Sent(received, Envelope(name, "wayscloud.device", "wayscloud/rest", self.id, received, data))


class _OfAnAccount(_Device):
    """A device whose alarms we read from its account: of a rule that is evaluated here, too, and of one that is not."""

    def __init__(self, day: Day) -> None:
        super().__init__(day, 1)
        self.id = "wayscloud:account"
        self.story = self._hot

    def live(self) -> None:
        """Tell the heat, and what the account says of it."""
        super().live()
        triggered = self.at(self.begin + 3)
        for rule in ("hot", "theirs"):
            self.day.sent += [self._read(rule, triggered, steps) for steps in (1, 2, 3)]
        alarm = _Alarm(self.day, self.id, "wayscloud:theirs", triggered, identity="wayscloud:alarm:a-theirs")
        alarm.tell("triggered", triggered)
        alarm.tell("acknowledged", triggered + timedelta(seconds=SLOT), "acknowledged", "they")
        alarm.tell("resolved", triggered + timedelta(seconds=2 * SLOT), "resolved")

    def _read(self, rule: str, triggered: datetime, steps: int) -> Sent:
        """An alarm with the beginning of its timeline, read when that was all."""
        entries = [("triggered", "rule_engine"), ("acknowledged", "they"), ("resolved", "rule_engine")][:steps]
        times = [triggered + timedelta(seconds=number * SLOT) for number in range(steps)]
        timeline = [
            {"id": number, "event_type": kind, "actor": actor, "created_at": format_iso(at)}
            for number, ((kind, actor), at) in enumerate(zip(entries, times, strict=True))
        ]
        detail = {"id": f"a-{rule}", "rule_id": rule, "rule_name": rule, "title": rule, "severity": "warning"}
        shown = {**detail, "triggered_at": format_iso(triggered), "occurrence_count": 1}
        data = json.dumps({"alarm": shown, "timeline": timeline}).encode()
        received = times[-1] + timedelta(seconds=60)
        name = message_id([self.id, data])
        return Sent(received, Envelope(name, VENDOR_ALARM, "wayscloud/rest", self.id, received, data))


def day_before(now: datetime, devices: int) -> Day:
    """A day that is over by now, so that no clock disturbs it."""
    start = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS + 2)
    return Day(start, devices)


def chunks(day: Day) -> Iterator[tuple[datetime, list[Sent], list[Act]]]:
    """The day hour by hour: until when, what is received, what operators do."""
    for hour in range(HOURS + 1):
        begin, end = day.start + timedelta(hours=hour), day.start + timedelta(hours=hour + 1)
        yield (
            end,
            [sent for sent in day.sent if begin <= sent.received < end],
            [act for act in day.acts if begin <= act.at < end],
        )
