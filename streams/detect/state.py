"""What is kept of a device between records: its alarms, where each rule stands, and what waits (pure).

Times are in microseconds since the epoch. States are MessagePack arrays on the private state topic: the order of the
fields is the encoding, so fields are only ever added at the end; their names may change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import wire
from streams.detect.conditions import Latest, Value


class AlarmFacts(msgspec.Struct, array_like=True):
    """The latest alarm of a device and rule."""

    triggered_at: int
    last_triggered_at: int
    rule_name: str
    severity: str
    title: str
    message: str
    metric: str | None
    occurrence_count: int = 1
    sequence: int = 0
    """Number of the latest entry of its timeline."""
    resolved_at: int | None = None
    acknowledged_at: int | None = None
    snoozed_until: int | None = None
    flapping: bool = False
    rule_id: str | None = None
    """The rule that the alarm shows, where another id identifies the alarm (WAYSCloud's alarms)."""

    @property
    def is_open(self) -> bool:
        """Active or acknowledged: nobody has resolved it."""
        return self.resolved_at is None

    @property
    def status(self) -> str:
        """WAYSCloud's word."""
        if self.resolved_at is not None:
            return "resolved"
        return "active" if self.acknowledged_at is None else "acknowledged"


class RuleState(msgspec.Struct, array_like=True):
    """Where one rule stands for one device.

    A *crossing* begins when the rule's condition turns true and ends when it turns false.
    """

    crossing_since: int | None = None
    """When the crossing under way began; None while the condition is false."""
    crossing_counted: bool = False
    """The crossing under way has been counted on an alarm, within the cooldown or while the alarm was open."""
    crossing_done: bool = False
    """The crossing under way has triggered an alarm or repeated an open one. It has no further effect."""
    alarm: AlarmFacts | None = None
    awaits_acknowledgement: bool = False
    """The condition has ended, and the open alarm resolves when somebody acknowledges it (`latch`)."""
    window_start: int | None = None
    """Beginning of the window that is being counted (rates)."""
    window_count: int = 0
    recent_occurrences: list[int] = []
    """Times of the latest occurrences, to recognise flapping."""
    last_reported_at: int | None = None
    """When the vendor last reported the alarm, by receipt (vendors' alarms)."""
    holds_as_received: bool = False
    """Whether the condition holds by what was received. Its effect on the alarm may be deferred (`evaluation_gate`)."""
    open_spans: list[tuple[int, int | None]] = []
    """When the alarm was open (from, until), in the device's event-time order, as reported to the devices it
    inhibits."""

    @property
    def has_open_alarm(self) -> bool:
        """Whether the rule has an open alarm."""
        return self.alarm is not None and self.alarm.is_open


class HeldReading(msgspec.Struct, array_like=True):
    """A reading that is held back so that late ones can be applied before it."""

    release: int
    """When it is applied."""
    at: int
    """When it was observed."""
    metric: str
    value: Value
    unit: str | None
    offset: int


class HeldAction(msgspec.Struct, array_like=True):
    """An operator's action that is held until the device's inputs have been read up to its time."""

    due: int
    offset: int
    partition: int
    action: wire.AlarmAction


SNOOZE_ENDS = "snooze_ends"


class Deferred(msgspec.Struct, array_like=True):
    """One evaluation, removal or action that waits until the inhibitors on other devices are known."""

    moment: int
    """When it happened, in the device's event-time order."""
    rule_id: str = ""
    holds: bool | None = None
    """Whether the condition was true; None: the rule was removed."""
    at: int = 0
    facts: dict[str, Any] = {}
    offset: int = 0
    action: HeldAction | None = None
    calm: bool = False
    """No crossing has begun or ended for long enough after flapping."""

    @property
    def snooze_ends(self) -> bool:
        """Whether it is the end of a snooze. Such an item is made when it is due, and never kept."""
        return SNOOZE_ENDS in self.facts


class DeferredSilence(msgspec.Struct, array_like=True):
    """A silence that may trigger when its inhibitors have ended."""

    level: int
    item: Deferred


class CalmTimer(msgspec.Struct, array_like=True):
    """When a suppressed flapping alarm is calm, if no crossing begins or ends before."""

    level: int
    """The level on which the end of the flapping is deferred; 0: it is not."""
    at: int
    offset: int
    """The offset of the record that last began or ended a crossing."""


class SnoozeTimer(msgspec.Struct, array_like=True):
    """When the snooze of an alarm ends, if the alarm is still open."""

    level: int
    """The level on which that is deferred; 0: it is not."""
    at: int
    offset: int
    """The offset of the action."""


class DeviceState(msgspec.Struct, array_like=True):
    """All that is kept of one device on one input topic."""

    offset: int = -1
    """Offset of the last record applied. Records up to it change nothing when they are delivered once more."""
    processed_until: int = 0
    """Up to this moment, by time of receipt, everything that was due has happened to the device."""
    observed_until: dict[str, int] = {}
    """Time of observation of the last reading applied, by metric."""
    rules: dict[str, RuleState] = {}
    recent_events: list[str] = []
    """Ids of the latest vendors' alerts, to recognise duplicates."""
    heard_at: int | None = None
    """When the device last spoke; when a record of it first came, where it never did."""
    metric_heard_at: dict[str, int] = {}
    """Likewise by metric, for metrics that a `missing_data` rule names."""
    latest: dict[str, Latest] = {}
    """Readings that conditions on several readings refer to, by metric."""
    connected: bool | dict[str, bool] | None = None
    """Whether the device is connected, by the metric that says so; a boolean where only `network.connected` has."""
    last_connected: str | None = None
    held_readings: list[HeldReading] = []
    """In order of release."""
    held_actions: list[HeldAction] = []
    """In order of their times."""
    actions_offset: int = -1
    """Offset of the last action received."""
    recent_actions: list[str] = []
    """Ids of the latest actions carried out, to recognise duplicates."""
    deferred: dict[int, list[Deferred]] = {}
    """What waits for inhibitors on other devices, by level, in order of time. It has had no effect yet."""
    deferred_silences: dict[str, DeferredSilence] = {}
    """Silences that may trigger when their inhibitors have ended, by rule."""
    deferred_until: int = 0
    """Moment of the last deferred item that took effect."""
    calm_timers: dict[str, CalmTimer] = {}
    """For each rule whose alarm flaps and is suppressed."""
    snooze_timers: dict[str, SnoozeTimer] = {}
    """For each rule whose alarm is snoozed."""
    polled_metrics: list[str] = []
    """Metrics that came last as polled states without a time of their own, which hold until they change."""
    held_facts: dict[str, dict[str, Any]] = {}
    """By rule, what shows that its condition is true, where that is such a state."""

    @property
    def open_alarms(self) -> int:
        """Number of open alarms."""
        return sum(1 for state in self.rules.values() if state.has_open_alarm)

    @property
    def is_void(self) -> bool:
        """Whether nothing is worth keeping."""
        return not self.rules and not self.held_actions and not self.deferred and self.offset < 0

    @property
    def awaits_inhibitors(self) -> bool:
        """Whether something takes effect only when more is known of inhibitors on other devices."""
        return (
            bool(self.deferred or self.deferred_silences)
            or any(timer.level for timer in self.calm_timers.values())
            or any(timer.level for timer in self.snooze_timers.values())
        )

    def deferred_level(self, rule_id: str) -> int:
        """The level on which something of this rule is deferred; 0: nothing is."""
        if not self.deferred and not self.deferred_silences:
            return 0
        for level, items in self.deferred.items():
            if any(item.rule_id == rule_id for item in reversed(items)):
                return level
        silence = self.deferred_silences.get(rule_id)
        return 0 if silence is None else silence.level

    def is_removal_deferred(self, rule_id: str) -> bool:
        """Whether the last thing deferred of this rule is its removal."""
        for items in self.deferred.values():
            for item in reversed(items):
                if item.rule_id == rule_id:
                    return item.holds is None
        return False


_encode = msgspec.msgpack.Encoder().encode
_ADDED_LATER = 2
"""Fields at the end that most devices do not have: without them, a state is written as it was before there were any."""


def encode_state(state: DeviceState) -> bytes:
    """The state as it stands on the state topic; `decode_state` reads it."""
    if state.polled_metrics or state.held_facts:
        return _encode(state)
    return _encode(msgspec.structs.astuple(state)[:-_ADDED_LATER])


decode_state = msgspec.msgpack.Decoder(DeviceState).decode
