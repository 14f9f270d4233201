"""The detect step: alarm rules over one partition of the readings, or vendors' alarms of one of the events (pure).

A step has one input topic and follows others, none of which it has to be exact about: operators' actions and clock
ticks (`fleetlake.clock.v1`), and for the readings also rules and the registry. A device's state knows what it has
taken of its actions, and ticks only bring forward what the next record would bring (`device_alarms`), so that
all of them may be read anew at any time.
"""

from __future__ import annotations

import heapq
import json
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from runtime.metrics import ALARM_EVENTS, DEAD_LETTERS, DUPLICATES, LEFT_OUT, RECORDS_IN, RECORDS_OUT
from schemas import wire
from schemas.consumed import Record
from schemas.device import split_device_id
from schemas.envelope import JSON, message_id
from schemas.records import AlarmRule, MaintenanceWindow
from schemas.rules import RefusedRule, parse_rule
from schemas.timestamps import from_millis, to_micros
from schemas.topics import (
    ALARM_ACTIONS,
    ALARM_STATE,
    ALARMS,
    DEAD_LETTER,
    DEVICES,
    INHIBITORS,
    MAINTENANCE,
    READINGS,
    RULES,
    WATERMARKS,
)
from schemas.vendors import vendor_names
from streams.detect.device_alarms import Machine
from streams.detect.evaluation import MOST_UNJUDGED, Profile, Terms
from streams.detect.inhibitors import Causes
from streams.detect.lifecycle import Counts, DeviceState, decode_state, encode_state, hold
from streams.detect.rules import CompiledRule, RuleBook, RuleSet, compile_rule, refusal
from streams.detect.schedules import NEVER, Maintenance, Scope, window_of
from streams.detect.vendor_alarms import VendorMachine, VendorTerms, is_vendor_alarm
from streams.engine.step import Output, SideInput, SkipMark, Step
from streams.normalise import Options, payload_extract
from streams.normalise.message import Datapoint
from streams.normalise.wayscloud import of_account

log = logging.getLogger(__name__)

_CONTENT_TYPE = ("content-type", JSON.encode())
_TOLD_TO = b"#told"
_PATIENCE = 900 * 1_000_000
_OPEN = {"triggered": 1, "reopened": 1, "resolved": -1}
_SETTLING_MS = 60_000
"""A rule's `updated_at` is believed if it lies no further before the time of its record."""


@dataclass(frozen=True, slots=True)
class DetectOptions:
    """What detecting needs to know beside its inputs; `streams.settings.StreamSettings` makes it. Microseconds."""

    normalise: Options = field(default_factory=Options)
    late_allowance: int = 0
    quiet: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Group to its devices: ids, or patterns with `*`."""
    profiles: Mapping[str, Sequence[str]] = field(default_factory=dict)
    maintenance: tuple[Maintenance, ...] = ()
    attributes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    """Attribute to value to devices: ids, or patterns with `*`. They go before what the registry tells."""
    inhibition_wait: int = 0
    most_unjudged: int = MOST_UNJUDGED


AnyMachine = Machine | VendorMachine


class _Ticks:
    """How far one vendor's readings have been read, by its clock ticks: one holds once what it speaks of was read."""

    def __init__(self) -> None:
        self.seen = -1
        """Offset of the raw record that the last record was made of."""
        self.reached = -1
        """All that was received before this has been read."""
        self.newest = -1
        """The furthest raw record that a tick spoke of."""
        self._waiting: deque[tuple[int, int]] = deque()

    def add(self, at: int, read_to: int) -> None:
        """Take a tick. Of those that wait, the oldest is kept, so that a lag does not put them all off."""
        if len(self._waiting) > 1:
            self._waiting.pop()
        self._waiting.append((at, read_to))
        self.newest = max(self.newest, read_to)
        self.settle()

    def settle(self) -> None:
        """See which ticks hold now."""
        while self._waiting and self._waiting[0][1] <= self.seen:
            self.reached = max(self.reached, self._waiting.popleft()[0])


class DetectStep(Step):
    """Detects alarms in one partition of the readings or of the events.

    The state of a device is written once a batch, under the key `<input topic>/<device id>`. `rules` are in force
    from the beginning, beside those that come by the rules topic.
    """

    state_topic = ALARM_STATE
    state_window_seconds = None

    def __init__(self, topic: str, partition: int, options: DetectOptions, rules: Sequence[CompiledRule] = ()) -> None:
        self._options = options
        self._partition = partition
        self._of_readings = topic == READINGS
        self._prefix = f"{topic}/".encode()
        self._seen_key = f"{topic}#seen".encode()
        self._book = RuleBook(rules)
        self._windows: dict[str, Maintenance] = {}
        self._causes = Causes(options.inhibition_wait)
        self._terms = Terms(self._book, options.late_allowance, self._maintenance, self._causes, options.most_unjudged)
        self._vendor_terms = VendorTerms(options.quiet, options.normalise.future_after, options.normalise.ancient_after)
        self._counts: dict[str, Counts] = {}
        self._machines: dict[str, AnyMachine] = {}
        self._profiles: dict[str, Profile] = {}
        self._registry: dict[str, wire.Device] = {}
        self._touched: dict[str, AnyMachine] = {}
        self._due: dict[str, list[tuple[int, str]]] = {}
        self._scheduled: dict[str, int] = {}
        self._ticks: dict[str, _Ticks] = {vendor: _Ticks() for vendor in vendor_names()}
        self._seen_changed = False
        self._rules_changed = bool(rules)
        self._windows_changed = False
        self._levels = 0
        self._circular: frozenset[str] = frozenset()
        self._waiting: set[str] = set()
        self._told_causes: list[wire.InhibitorHistory] = []
        self._told_to = -1
        self._known: tuple[int, ...] = ()
        self._news: tuple[int, int] | None = None
        """What was known of causes, and since when by the clock."""
        self._bugs: set[str] = set()
        self._read: Callable[[Record], list[wire.AlarmEvent]] = self._readings if self._of_readings else self._events
        own = (SideInput(ALARM_ACTIONS), SideInput(WATERMARKS, from_end=True))
        self.side_inputs = (
            (
                *(SideInput(topic, all_partitions=True) for topic in (RULES, MAINTENANCE, INHIBITORS)),
                SideInput(DEVICES),
                *own,
            )
            if self._of_readings
            else own
        )
        self.refused: list[RefusedRule] = []
        """Rules of the topic that are not in force, newest last."""
        self.open_alarms = 0
        """Number of open alarms of this partition."""

    # -- state

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take the state of one device, if it was of this input topic."""
        if key == self._seen_key and value is not None:
            for vendor, offset in msgspec.msgpack.decode(value).items():
                self._ticks.setdefault(vendor, _Ticks()).seen = offset
        if key is None or not key.startswith(self._prefix):
            return
        device = key[len(self._prefix) :].decode()
        before = self._machines.pop(device, None)
        self.open_alarms -= before.state.open_alarms if before else 0
        if value is not None:
            machine = self._machine(device, decode_state(value))
            self.open_alarms += machine.state.open_alarms
            self._note_waiting(device, machine)

    def _machine(self, device: str, state: DeviceState | None = None) -> AnyMachine:
        """The device's machine; made with this state, or with an empty one, where there is none."""
        found = self._machines.get(device)
        if found is None:
            vendor = split_device_id(device)[0]
            counts = self._counts.setdefault(_label(vendor), Counts())
            state = state or DeviceState()
            if self._of_readings:
                found = Machine(state, self._profile(device), self._terms, counts, self._partition)
            else:
                found = VendorMachine(state, device, vendor, self._vendor_terms, counts, self._partition)
            self._machines[device] = found
            self._schedule(device, found)
        return found

    def _schedule(self, device: str, machine: AnyMachine) -> None:
        """Let a tick find the device when something is due."""
        if machine.due < self._scheduled.get(device, NEVER):
            self._scheduled[device] = machine.due
            heapq.heappush(self._due.setdefault(device.partition(":")[0], []), (machine.due, device))

    # -- side inputs

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:
        """See `Step.assign_side_inputs`."""
        self._causes.expect(frozenset(partitions.get(INHIBITORS, {0})))

    def process_side_input(self, record: Record) -> None:
        """Take a record of a side input. What is not usable there is left out, with a line in the log."""
        try:
            if record.topic == WATERMARKS:
                self._tick(record)
            elif record.topic == ALARM_ACTIONS:
                self._action(record)
            elif record.topic == RULES:
                self._rule(record)
            elif record.topic == DEVICES:
                self._device(record)
            elif record.topic == MAINTENANCE:
                self._window(record)
            elif record.topic == INHIBITORS and record.value is not None:
                self._cause(record, record.value)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            log.warning("%s[%s]@%s is left out: %s", record.topic, record.partition, record.offset, error)

    def _tick(self, record: Record) -> None:
        tick = wire.decode_watermark(record.value or b"")
        read_to = tick.readings_to if self._of_readings else tick.events_to
        self._ticks.setdefault(tick.vendor, _Ticks()).add(to_micros(tick.at), read_to)

    def _action(self, record: Record) -> None:
        if record.value is None:
            return
        action = wire.decode_alarm_action(record.value)
        to_micros(action.requested_at)
        if split_device_id(action.device_id)[0] not in vendor_names():
            raise ValueError(f"device {action.device_id!r} is of no known vendor")
        machine = self._machine(action.device_id)
        if hold(machine.state, action, record.partition, record.offset, record.timestamp):
            machine.due = min(machine.due, machine.state.actions[0].due)
            self._touched[action.device_id] = machine
            self._schedule(action.device_id, machine)

    def _rule(self, record: Record) -> None:
        name = (record.key or b"").decode()
        at = record.timestamp * 1000
        rule = None if record.value is None else parse_rule(json.loads(record.value))
        if isinstance(rule, RefusedRule):
            self.refused.append(rule)
            log.error("not in force: %s", rule)
            rule = None
        if rule is not None and rule.id != name:
            raise ValueError(f"the rule has the id {rule.id!r} and the key {name!r}")
        datapoints = of_account(_header(record, "ce_datapoints"), self._options.normalise.datapoints)
        self._put_rule(name, rule, at, datapoints)

    def _put_rule(self, name: str, rule: AlarmRule | None, at: int, datapoints: Mapping[str, Datapoint]) -> None:
        """A rule that is new here has been in force since it was made; a change is since it was made known.

        `datapoints` are those of the vendor's account, by id.
        """
        compiled = None
        since = at
        if rule is not None:
            if rule.is_enabled:
                compiled = self._compiled(rule, {**datapoints, **self._options.normalise.datapoints})
            if not self._book.knows(name):
                since = 0 if rule.created_at is None else min(at, to_micros(rule.created_at))
            elif rule.updated_at is not None and 0 <= at - to_micros(rule.updated_at) <= _SETTLING_MS * 1000:
                since = to_micros(rule.updated_at)
        self._book.put(name, compiled, since)
        self._rules_changed = True

    def _compiled(self, rule: AlarmRule, datapoints: Mapping[str, Datapoint]) -> CompiledRule | None:
        try:
            return compile_rule(rule, datapoints)
        except ValueError as error:
            self.refused.append(refusal(rule.id, error))
            log.error("not in force: %s", self.refused[-1])
            return None

    def _window(self, record: Record) -> None:
        name = (record.key or b"").decode()
        found = None if record.value is None else window_of(MaintenanceWindow.model_validate_json(record.value))
        if found == self._windows.get(name):
            return
        if found is None:
            del self._windows[name]
        else:
            self._windows[name] = found
        self._profiles.clear()
        self._windows_changed = True

    def _maintenance(self) -> Sequence[Maintenance]:
        return (*self._options.maintenance, *self._windows.values())

    def _cause(self, record: Record, value: bytes) -> None:
        if record.key == _TOLD_TO:
            self._causes.reach(record.partition, wire.decode_inhibitor_progress(value).reached)
        else:
            self._causes.tell(wire.decode_inhibitor_history(value))

    def _device(self, record: Record) -> None:
        told = None if record.value is None else wire.decode_device(record.value)
        self.know((record.key or b"").decode(), told)

    def know(self, device: str, told: wire.Device | None) -> None:
        """Take what the registry tells of a device; None: nothing any more."""
        if told is None:
            self._registry.pop(device, None)
        else:
            self._registry[device] = told
        self._profiles.pop(device, None)
        if isinstance(machine := self._machines.get(device), Machine):
            machine.profile = self._profile(device)
            machine.due = 0
            self._schedule(device, machine)

    def _profile(self, device: str) -> Profile:
        found = self._profiles.get(device)
        if found is None:
            known = self._registry.get(device)
            vendor = split_device_id(device)[0]
            scopes = [*_configured("group", self._options.groups, device)]
            scopes += _configured("profile", self._options.profiles, device)
            scopes += _told(known) if known is not None else []
            attributes = _attributes(known) if known is not None else {}
            attributes |= {
                name: value
                for name, values in self._options.attributes.items()
                for _, value in _configured(name, values, device)
            }
            found = self._profiles[device] = self._terms.profile(device, vendor, scopes, attributes)
        return found

    # -- records

    @property
    def pending(self) -> bool:
        """Whether `process` would have something to do without records."""
        self._take_rules()
        return (
            bool(self._touched)
            or any(map(self._is_due, self._ticks))
            or (self._levels > 0 and (self._is_told_more or self._reached > self._told_to))
        )

    @property
    def _is_told_more(self) -> bool:
        """Whether more causes are known than when it was judged last."""
        return bool(self._waiting) and self._known != self._all_known()

    def _all_known(self) -> tuple[int, ...]:
        return (
            int(self._causes.given_up),
            self._reached,
            *(self._causes.known(level) for level in range(self._levels)),
        )

    @property
    def _reached(self) -> int:
        """All that was received before this, from whichever vendor, has been read."""
        return min(ticks.reached for ticks in self._ticks.values())

    def skip_mark(self) -> SkipMark | None:
        """See `Step.skip_mark`: by vendor, the newest raw record that a watermark spoke of."""
        if not self._is_idle:
            return None
        return {vendor: ticks.newest for vendor, ticks in self._ticks.items()}

    def skipped(self, mark: SkipMark) -> None:
        """See `Step.skipped`. What the watermarks spoke of is skipped, too: they are written after their readings."""
        for vendor, offset in mark.items():
            self._see(vendor, max(offset, self._ticks[vendor].seen))

    @property
    def _is_idle(self) -> bool:
        """Without rules and without states of earlier ones, readings need not even be read."""
        return self._of_readings and self._book.is_empty and not self._machines

    def _is_due(self, vendor: str) -> bool:
        heap = self._due.get(vendor)
        return heap is not None and bool(heap) and heap[0][0] < self._ticks[vendor].reached

    def process(self, records: Sequence[Record], now_us: int) -> list[Output]:
        """Apply the records, in order; then what is due by the ticks; then write the states that changed."""
        outputs: list[Output] = []
        self._take_rules()
        if records and not self._is_idle:
            for record in records:
                self._process(record, outputs)
        for vendor, ticks in self._ticks.items():
            ticks.settle()
            self._advance(vendor, ticks.reached, outputs)
        if self._levels or self._waiting:
            self._lose_patience(now_us)
            self._judge(outputs)
            self._tell_causes(outputs)
        for vendor, counts in self._counts.items():
            _count_left_out(vendor, counts)
        outputs += [self._written(device) for device in sorted(self._touched)]
        self._touched.clear()
        if self._seen_changed:
            self._seen_changed = False
            seen = {vendor: ticks.seen for vendor, ticks in self._ticks.items() if ticks.seen >= 0}
            outputs.append(Output(ALARM_STATE, self._seen_key, msgspec.msgpack.encode(seen)))
        return outputs

    def _lose_patience(self, now_us: int) -> None:
        """Give up waiting for causes when no more has been told of them for too long, by the clock."""
        known = self._causes.known(0)
        if self._news is None or known != self._news[0] or not self._waiting:
            self._news = (known, now_us)
        self._causes.given_up = now_us - self._news[1] > _PATIENCE

    def _judge(self, outputs: list[Output]) -> None:
        """Judge what waited for causes."""
        if self._known == (known := self._all_known()):
            return
        self._known = known
        for device in sorted(self._waiting):
            machine = self._machines[device]
            assert isinstance(machine, Machine)
            self._emit(machine.judge(self._ticks[device.partition(":")[0]].reached), outputs)
            self._note(device, machine)
            self._schedule(device, machine)

    def _tell_causes(self, outputs: list[Output]) -> None:
        """Tell this partition's causes, and then up to when it has told them: in that order they are read."""
        for told in self._told_causes:
            outputs.append(Output(INHIBITORS, f"{told.rule_id}/{told.device_id}".encode(), wire.encode(told)))
        self._told_causes.clear()
        if self._levels and self._reached > self._told_to:
            self._told_to = self._reached
            reached = [self._told_to, *(min(self._told_to, self._causes.bound(n)) for n in range(1, self._levels))]
            outputs.append(Output(INHIBITORS, _TOLD_TO, wire.encode(wire.InhibitorProgress(reached))))

    def _take_rules(self) -> None:
        """After rules or windows have changed something may be due for any device."""
        if self._windows_changed:
            for device, machine in self._machines.items():
                if isinstance(machine, Machine):
                    machine.profile = self._profile(device)
                    machine.due = 0
                    self._schedule(device, machine)
            self._windows_changed = False
        if not self._rules_changed:
            return
        self._rules_changed = False
        found = self._book.at(NEVER)
        self._levels = max(self._levels, found.levels)  # what waits on a level may still do so
        self._refuse_circles(found)
        for device, machine in self._machines.items():
            machine.due = 0
            self._schedule(device, machine)

    def _refuse_circles(self, rules: RuleSet) -> None:
        for rule_id in sorted(rules.circular - self._circular):
            reason = "its causes on other devices lead back to it; they do not inhibit it"
            self.refused.append(RefusedRule(rule_id, "inhibited_by", reason))
            log.error("%s", self.refused[-1])
        self._circular = rules.circular

    def _process(self, record: Record, outputs: list[Output]) -> None:
        vendor = _vendor_label(record.key)
        try:
            events = self._read(record)
        except Exception as error:  # a record of somebody else's, or a bug: it must not stop the partition
            outputs.append(self._unusable(record, error))
            DEAD_LETTERS.labels("detect", vendor).inc()
            return
        self._emit(events, outputs)
        RECORDS_IN.labels("detect", vendor).inc()
        RECORDS_OUT.labels("detect", vendor).inc(len(events))

    def _emit(self, events: Sequence[wire.AlarmEvent], outputs: list[Output]) -> None:
        for event in events:
            headers = (_CONTENT_TYPE, ("ce_id", event.event_id.encode()))
            outputs.append(Output(ALARMS, event.alarm.device_id.encode(), wire.encode(event), headers))
            ALARM_EVENTS.labels(event.event_type).inc()
            self.open_alarms += _OPEN.get(event.event_type, 0)

    def _advance(self, vendor: str, at: int, outputs: list[Output]) -> None:
        """Let everything happen to this vendor's devices that is due before `at`."""
        heap = self._due.get(vendor, [])
        while heap and heap[0][0] < at:
            due, device = heapq.heappop(heap)
            if self._scheduled.get(device) != due:
                continue  # scheduled anew for an earlier time, and done then
            del self._scheduled[device]
            machine = self._machines.get(device)
            if machine is None:
                continue
            if machine.due < at:
                self._emit(machine.advance(at), outputs)
                self._note(device, machine)
            self._schedule(device, machine)

    def _note(self, device: str, machine: AnyMachine) -> None:
        if machine.changed:
            machine.changed = False
            self._touched[device] = machine
            self._note_waiting(device, machine)

    def _note_waiting(self, device: str, machine: AnyMachine) -> None:
        if isinstance(machine, Machine):
            if machine.is_waiting:
                self._waiting.add(device)
            else:
                self._waiting.discard(device)
            if machine.told_causes:
                self._told_causes += machine.told_causes
                machine.told_causes.clear()

    def _written(self, device: str) -> Output:
        machine = self._touched[device]
        key = self._prefix + device.encode()
        if not machine.state.is_void:
            return Output(ALARM_STATE, key, encode_state(machine.state))
        self._machines.pop(device, None)
        self._scheduled.pop(device, None)
        self._waiting.discard(device)
        return Output(ALARM_STATE, key, None)

    def _see(self, vendor: str, offset: int) -> None:
        ticks = self._ticks.get(vendor)
        if ticks is not None and ticks.seen != offset:
            ticks.seen = offset
            self._seen_changed = True

    def _readings(self, record: Record) -> list[wire.AlarmEvent]:
        observation = wire.decode_observation(record.value or b"")
        self._see(observation.vendor, observation.origin.offset)
        return self.observe(observation, wire.Origin(record.topic, record.partition, record.offset))

    def observe(self, observation: wire.Observation, origin: wire.Origin) -> list[wire.AlarmEvent]:
        """What one record of the readings causes."""
        device = observation.device_id
        machine = self._machines.get(device)
        if machine is None:
            made = Machine(DeviceState(), self._profile(device), self._terms, self._counted(device), self._partition)
        else:
            assert isinstance(machine, Machine)
            made = machine
        events = made.apply(observation, origin)
        if made.changed:
            self._machines[device] = made
            self._note(device, made)
            self._schedule(device, made)
        return events

    def pass_time(self, until: int) -> list[wire.AlarmEvent]:
        """What happens by itself to all devices before a moment, and what their causes mean: there are no more."""
        self._take_rules()
        events: list[wire.AlarmEvent] = []
        for level in range(self._levels + 1):
            if level:
                self._causes.reach(self._partition, [NEVER] * level)
            for device in sorted(self._machines):
                machine = self._machines[device]
                events += machine.advance(until)
                self._note(device, machine)
            for told in self._told_causes:
                self._causes.tell(told)
            self._told_causes.clear()
        return events

    def _counted(self, device: str) -> Counts:
        return self._counts.setdefault(_label(device.partition(":")[0]), Counts())

    def _events(self, record: Record) -> list[wire.AlarmEvent]:
        told = wire.decode_event_set(record.value or b"")
        self._see(told.vendor, told.origin.offset)
        split_device_id(told.device_id)  # raises before anything has changed
        events: list[wire.AlarmEvent] = []
        if any(is_vendor_alarm(told.vendor, event.type) for event in told.events):
            machine = self._machine(told.device_id)
            assert isinstance(machine, VendorMachine)
            events = machine.apply(told, wire.Origin(record.topic, record.partition, record.offset))
            self._note(told.device_id, machine)
            self._schedule(told.device_id, machine)
        return events

    def _unusable(self, record: Record, error: Exception) -> Output:
        broken = isinstance(error, msgspec.MsgspecError | UnicodeDecodeError)
        if not broken and type(error).__name__ not in self._bugs:
            self._bugs.add(type(error).__name__)
            log.error("a record of %s could not be applied: a bug", record.topic, exc_info=error)
        problem = wire.Problem("", "not_a_record" if broken else "internal_error", type(error).__name__)
        payload, size, digest = payload_extract(record.value or b"", True, self._options.normalise)
        letter = wire.DeadLetter(
            id=message_id([record.topic, str(record.partition), str(record.offset)]),
            stage="detect",
            received_at=from_millis(record.timestamp),
            problems=[problem],
            payload=payload,
            payload_bytes=size,
            payload_sha256=digest,
            origin=wire.Origin(record.topic, record.partition, record.offset),
        )
        headers = (_CONTENT_TYPE, ("ce_id", letter.id.encode()))
        return Output(DEAD_LETTER, record.key or b"", wire.encode(letter), headers)


def _header(record: Record, name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name and value is not None), "")


def _configured(kind: str, named: Mapping[str, Sequence[str]], device: str) -> list[Scope]:
    return [(kind, name) for name, members in named.items() if any(fnmatchcase(device, each) for each in members)]


def _told(device: wire.Device) -> list[Scope]:
    """The scopes a registry record tells: model, groups, profile."""
    found: list[Scope] = [("model", device.model)] if device.model else []
    for kind, names in (("group", ("group_id", "groups", "tags")), ("profile", ("profile_id", "profile"))):
        for name in names:
            given = device.attributes.get(name)
            values = given if isinstance(given, list) else [given]
            found += [(kind, value) for value in values if isinstance(value, str) and value]
    return found


def _attributes(device: wire.Device) -> dict[str, Any]:
    own = {"name": device.name, "model": device.model, "firmware_version": device.firmware_version}
    return {**{name: value for name, value in own.items() if value is not None}, **device.attributes}


def _label(vendor: str) -> str:
    return vendor if vendor in vendor_names() else "unknown"


def _vendor_label(key: bytes | None) -> str:
    return _label((key or b"").partition(b":")[0].decode(errors="replace"))


def _count_left_out(vendor: str, counts: Counts) -> None:
    if counts.replayed:
        DUPLICATES.labels("detect", vendor).inc(counts.replayed)
    reasons = (("late", counts.late), ("suspect_time", counts.suspect), ("void_action", counts.void))
    for reason, number in reasons:
        if number:
            LEFT_OUT.labels("detect", vendor, reason).inc(number)
    counts.late = counts.replayed = counts.suspect = counts.void = 0
