"""The life cycle of an alarm: what is kept of one, what happens to it, what is told of that (pure).

One open alarm per device and rule. All ids derive from what happened, so a replay gives the same ones. Times are in
microseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from schemas import wire
from schemas.derived_ids import derived_id
from schemas.device import split_device_id
from schemas.timestamps import from_micros, to_micros
from streams.detect.conditions import Latest, Value
from streams.detect.rules import CompiledRule

RECENT_EVENTS = 256
"""So many ids of vendors' alerts are remembered per device, to recognise repeats."""
RECENT_ACTIONS = 64
"""So many ids of operators' actions are remembered per device."""
REOPENABLE = 30 * 86400 * 1_000_000
"""A resolved alarm is forgotten when the next reading finds it resolved for so long; till then it can be reopened."""

ENGINE = "rule_engine"
VENDOR = "vendor"


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
    resolved_at: int | None = None
    acknowledged_at: int | None = None
    snoozed_until: int | None = None
    flapping: bool = False
    rule_id: str | None = None
    """The rule it is shown under, where that is not what identifies it (WAYSCloud's alarms)."""

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
    """Where one rule stands for one device."""

    since: int | None = None
    """When the crossing under way began; None while the condition is false."""
    counted: bool = False
    """The crossing under way has been counted within the cooldown."""
    settled: bool = False
    """The crossing under way has triggered or repeated an alarm: it can do no more."""
    alarm: AlarmFacts | None = None
    cleared: bool = False
    """The condition has ended, and the alarm waits for somebody to acknowledge it (`latch`)."""
    window: int | None = None
    """Beginning of the window that is counted (rates)."""
    count: int = 0
    recent: list[int] = []
    """Times of the latest occurrences, to recognise flapping."""
    told_at: int | None = None
    """When the vendor last told of it, by our clock (vendors' alarms)."""
    ahead: bool = False
    """Whether the condition holds by what was received; what that means is judged later (see `evaluation`)."""
    spans: list[tuple[int, int | None]] = []
    """When the alarm was open, on the device's line of time, as told to the devices it inhibits."""


class HeldReading(msgspec.Struct, array_like=True):
    """A reading that waits for late ones before it."""

    release: int
    at: int
    metric: str
    value: Value
    unit: str | None
    offset: int


class HeldAction(msgspec.Struct, array_like=True):
    """What somebody did to an alarm, waiting until the device's inputs have been read up to its time."""

    due: int
    offset: int
    partition: int
    action: wire.AlarmAction


class Unjudged(msgspec.Struct, array_like=True):
    """What happened to a rule that other devices' alarms inhibit, or to an alarm of one, and is yet to be judged."""

    moment: int
    """On the device's line of time."""
    rule_id: str = ""
    holds: bool | None = None
    """Whether the condition was true; None: the rule went."""
    at: int = 0
    facts: dict[str, Any] = {}
    offset: int = 0
    action: HeldAction | None = None
    calm: bool = False
    """It has been calm for long enough after flapping."""


class DeviceState(msgspec.Struct, array_like=True):
    """All that is remembered of one device on one input topic."""

    offset: int = -1
    """Offset of the last record applied; that and older ones change nothing when they come again."""
    clock: int = 0
    """Up to here, by the time of receipt, everything has happened to the device that was due."""
    observed: dict[str, int] = {}
    """Time of the last reading applied, by metric."""
    rules: dict[str, RuleState] = {}
    recent_events: list[str] = []
    heard: int | None = None
    """When a record with readings was last received."""
    heard_metrics: dict[str, int] = {}
    """Likewise for metrics that a `missing_data` rule names."""
    latest: dict[str, Latest] = {}
    """Readings that conditions refer to later."""
    connected: bool | None = None
    connected_at: str | None = None
    waiting: list[HeldReading] = []
    actions: list[HeldAction] = []
    actions_offset: int = -1
    recent_actions: list[str] = []
    unjudged: dict[int, list[Unjudged]] = {}
    """By level, in order of time. None of it has had any effect yet."""
    retried: dict[str, tuple[int, Unjudged]] = {}
    """Silences that may trigger when their causes are over, by rule; with their level."""
    judged: int = 0
    """Moment of what was judged last."""
    calming: dict[str, tuple[int, int, int]] = {}
    """Rules whose alarms flap and are suppressed: their level, when they are calm if nothing happens till then, and the
    offset of what happened last."""

    @property
    def open_alarms(self) -> int:
        """Number of open alarms."""
        return sum(1 for state in self.rules.values() if state.alarm is not None and state.alarm.is_open)

    @property
    def is_void(self) -> bool:
        """Whether nothing is worth keeping."""
        return not self.rules and not self.actions and not self.unjudged and self.offset < 0


encode_state = msgspec.msgpack.Encoder().encode
decode_state = msgspec.msgpack.Decoder(DeviceState).decode


class Counts:
    """What changed no state, by reason."""

    __slots__ = ("late", "replayed", "suspect", "void")

    def __init__(self) -> None:
        self.late = 0
        self.replayed = 0
        self.suspect = 0
        self.void = 0


class Subject(NamedTuple):
    """Of which device, and from which record, alarm events are made."""

    device_id: str
    vendor: str
    origin: wire.Origin


def alarm_id(device_id: str, rule_id: str, alarm: AlarmFacts) -> str:
    """UUIDv5 of device, rule and first trigger."""
    return derived_id("alarm", device_id, rule_id, str(alarm.triggered_at))


def tell(
    rule_id: str,
    alarm: AlarmFacts,
    event_type: str,
    at: int,
    subject: Subject,
    facts: Mapping[str, Any],
    note: str | None = None,
    actor: str = ENGINE,
) -> wire.AlarmEvent:
    """One entry of the alarm's timeline, with the alarm as it now stands."""
    alarm.sequence += 1
    name = alarm_id(subject.device_id, rule_id, alarm)
    return wire.AlarmEvent(
        event_id=derived_id("alarm-event", name, str(alarm.sequence)),
        sequence=alarm.sequence,
        event_type=event_type,
        actor=actor,
        created_at=from_micros(at),
        alarm=wire.Alarm(
            alarm_id=name,
            device_id=subject.device_id,
            vendor=subject.vendor,
            rule_id=alarm.rule_id or rule_id,
            rule_name=alarm.rule_name,
            severity=alarm.severity,
            title=alarm.title,
            message=alarm.message,
            status=alarm.status,
            triggered_at=from_micros(alarm.triggered_at),
            last_triggered_at=from_micros(alarm.last_triggered_at),
            occurrence_count=alarm.occurrence_count,
            metric=alarm.metric,
            acknowledged_at=_moment(alarm.acknowledged_at),
            resolved_at=_moment(alarm.resolved_at),
            snoozed_until=_moment(alarm.snoozed_until),
            flapping=alarm.flapping,
        ),
        origin=subject.origin,
        note=note,
        metadata={"severity": alarm.severity, **facts},
    )


def _moment(at: int | None) -> datetime | None:
    return None if at is None else from_micros(at)


# -- what a rule does


def cooling(alarm: AlarmFacts, rule: CompiledRule, at: int) -> bool:
    """Within the cooldown; also at the very moment of the trigger, since the alarm's id derives from it."""
    return at - alarm.last_triggered_at < rule.cooldown or at <= alarm.last_triggered_at


def crossing(
    state: RuleState, rule: CompiledRule, facts: Mapping[str, Any], at: int, subject: Subject, inhibited: bool
) -> Iterator[wire.AlarmEvent]:
    """The condition is true at `at`: what that means for the alarm of the device and rule."""
    state.cleared = False
    if state.since is None:
        state.since = at
    if state.settled or at - state.since < rule.duration:
        return
    alarm = state.alarm
    if alarm is not None and alarm.is_open:
        state.settled = True
        if not cooling(alarm, rule, at):
            alarm.last_triggered_at = at
        yield from _repeated(state, rule, alarm, at, subject, facts)
    elif inhibited:
        return  # its cause is known; if it still holds when that is over, it triggers then
    elif alarm is not None and cooling(alarm, rule, at):
        if not state.counted:
            yield from _repeated(state, rule, alarm, at, subject, facts, "within the cooldown")
    else:
        state.settled = True
        alarm = state.alarm = _new_alarm(rule, facts, at, subject)
        _occurred(state, rule, alarm, at)
        if rule.severity_original is not None:
            facts = {**facts, "severity_original": rule.severity_original}
        yield tell(rule.id, alarm, "triggered", at, subject, facts)


def ended(
    state: RuleState, rule: CompiledRule, facts: Mapping[str, Any], at: int, subject: Subject
) -> Iterator[wire.AlarmEvent]:
    """The condition is false at `at`. Only the end of a crossing resolves, so that what was reopened stays open."""
    was_crossing = state.since is not None
    state.since, state.counted, state.settled = None, False, False
    alarm = state.alarm
    if was_crossing and alarm is not None and alarm.is_open and rule.auto_resolve:
        if rule.flapping_suppress and alarm.flapping:
            return  # until it is calm
        if rule.latch and alarm.acknowledged_at is None:
            state.cleared = True
        else:
            yield resolve(rule.id, state, alarm, at, subject, facts)


def calmed(state: RuleState, rule: CompiledRule, at: int, subject: Subject) -> Iterator[wire.AlarmEvent]:
    """Nothing has happened for long enough to a rule whose alarm flapped."""
    alarm = state.alarm
    if alarm is None:
        return
    alarm.flapping = False
    if not alarm.is_open:
        return
    facts = {"calm_seconds": rule.flapping_within / 1e6}
    note = f"no longer flapping, {alarm.occurrence_count} occurrences in all"
    is_over = state.since is None and rule.auto_resolve
    if is_over and not (rule.latch and alarm.acknowledged_at is None):
        yield resolve(rule.id, state, alarm, at, subject, facts, note)
        return
    state.cleared = is_over
    yield tell(rule.id, alarm, "repeated", at, subject, facts, note)


def resolve(
    rule_id: str,
    state: RuleState,
    alarm: AlarmFacts,
    at: int,
    subject: Subject,
    facts: Mapping[str, Any],
    note: str | None = None,
    actor: str = ENGINE,
) -> wire.AlarmEvent:
    """Resolve an open alarm."""
    alarm.resolved_at = max(at, alarm.triggered_at)
    alarm.snoozed_until = None
    state.cleared = False
    return tell(rule_id, alarm, "resolved", alarm.resolved_at, subject, facts, note, actor)


def _repeated(
    state: RuleState,
    rule: CompiledRule,
    alarm: AlarmFacts,
    at: int,
    subject: Subject,
    facts: Mapping[str, Any],
    note: str | None = None,
) -> Iterator[wire.AlarmEvent]:
    state.counted = True
    alarm.occurrence_count += 1
    is_known_to_flap = alarm.flapping and rule.flapping_suppress
    _occurred(state, rule, alarm, at)
    if not is_known_to_flap:
        yield tell(rule.id, alarm, "repeated", at, subject, facts, note)


def _occurred(state: RuleState, rule: CompiledRule, alarm: AlarmFacts, at: int) -> None:
    """Mark the alarm as flapping when it occurs too often, and no longer when it does not (or is calm: `calmed`)."""
    recent = [moment for moment in state.recent if at - moment < rule.flapping_within]
    state.recent = [*recent[1 - rule.flapping_count :], at]
    is_held = alarm.flapping and rule.flapping_suppress
    alarm.flapping = is_held or len(state.recent) >= rule.flapping_count


def _new_alarm(rule: CompiledRule, facts: Mapping[str, Any], at: int, subject: Subject) -> AlarmFacts:
    return AlarmFacts(
        triggered_at=at,
        last_triggered_at=at,
        rule_name=rule.name,
        severity=rule.severity,
        title=f"{rule.name}: {split_device_id(subject.device_id)[1]}",
        message=_message(rule, facts),
        metric=rule.metric,
    )


def _message(rule: CompiledRule, facts: Mapping[str, Any]) -> str:
    if (silent := facts.get("silent_seconds")) is not None:
        return f"{rule.text} for {silent:g} s"
    if (count := facts.get("count")) is not None:
        return f"{rule.text}; now {count:g}"
    lasting = f" for {rule.duration / 1e6:g} s" if rule.duration else ""
    now = " ".join(str(facts[name]) for name in ("value", "unit") if name in facts)
    return f"{rule.text}{lasting}; now {now}"


# -- what operators do


def hold(state: DeviceState, action: wire.AlarmAction, partition: int, offset: int, timestamp_ms: int) -> bool:
    """Take an action in, to be carried out when its time has come; whether it was new.

    Its place among the device's records is when it was written to Kafka, which is after what its author had seen.
    """
    if offset <= state.actions_offset:
        return False
    state.actions_offset = offset
    due = max([timestamp_ms * 1000, *(held.due for held in state.actions[-1:])])
    state.actions = [*state.actions, HeldAction(due, offset, partition, action)]
    return True


def act(
    state: DeviceState, held: HeldAction, device_id: str, vendor: str, topic: str, counts: Counts
) -> Iterator[wire.AlarmEvent]:
    """Carry an action out, once by its id. What cannot be done to the alarm as it stands changes nothing."""
    action = held.action
    if action.action_id in state.recent_actions:
        counts.replayed += 1
        return
    found = alarm_named(state, device_id, action.alarm_id)
    if found is None:
        return  # not an alarm of this input's, or no alarm any more
    state.recent_actions = [*state.recent_actions[1 - RECENT_ACTIONS :], action.action_id]
    subject = Subject(device_id, vendor, wire.Origin(topic, held.partition, held.offset))
    at = to_micros(action.requested_at)
    rule_id, rule, alarm = found
    event_type = _done(rule, alarm, action, at)
    if event_type is None:
        counts.void += 1
        return
    facts: dict[str, Any] = {"action_id": action.action_id}
    if event_type == "snoozed" and action.until is not None:
        facts["until"] = action.until
    yield tell(rule_id, alarm, event_type, at, subject, facts, action.note, action.actor)
    if event_type == "acknowledged" and rule.cleared:
        yield resolve(rule_id, rule, alarm, at, subject, {}, "the condition had ended before")


def alarm_named(state: DeviceState, device_id: str, name: str) -> tuple[str, RuleState, AlarmFacts] | None:
    """The alarm of this id, with its rule and where that stands."""
    for rule_id, rule in state.rules.items():
        if rule.alarm is not None and alarm_id(device_id, rule_id, rule.alarm) == name:
            return rule_id, rule, rule.alarm
    return None


def _done(rule: RuleState, alarm: AlarmFacts, action: wire.AlarmAction, at: int) -> str | None:
    """Change the alarm; the entry for its timeline, None where nothing could be done."""
    if action.action == "acknowledge" and alarm.status == "active":
        alarm.acknowledged_at = at
        return "acknowledged"
    if action.action == "resolve" and alarm.is_open:
        alarm.resolved_at, alarm.snoozed_until, rule.cleared = at, None, False
        return "resolved"
    if action.action == "reopen" and not alarm.is_open:
        alarm.resolved_at, alarm.acknowledged_at = None, None
        return "reopened"
    if action.action == "snooze" and alarm.is_open and action.until is not None:
        alarm.snoozed_until = to_micros(action.until)
        return "snoozed"
    return None
