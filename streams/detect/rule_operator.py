"""The operator that evaluates alarm rules over one partition of the readings (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas import wire
from schemas.consumed import Record
from schemas.rules import RefusedRule
from schemas.timestamps import NEVER, to_micros
from schemas.topics import DEVICES, INHIBITORS, MAINTENANCE, READINGS, RULES
from streams.detect.alarm_operator import AlarmOperator
from streams.detect.device import EvaluationContext, TrackedDevice
from streams.detect.device_alarms import DeviceAlarms
from streams.detect.due_queue import vendor_of
from streams.detect.inhibitor_exchange import InhibitorExchange
from streams.detect.inhibitors import Inhibitors
from streams.detect.maintenance_windows import MaintenanceWindows
from streams.detect.options import DetectOptions
from streams.detect.registry import Registry
from streams.detect.rules import CompiledRule
from streams.detect.rules_intake import RulesIntake
from streams.detect.state import DeviceState
from streams.engine.step import Output, SideInput, SkipMark


class RuleOperator(AlarmOperator[DeviceAlarms]):
    """Evaluates alarm rules. `rules` are in force from the beginning, beside those of the rules topic."""

    input_topic = READINGS
    side_inputs = (
        *(SideInput(topic, all_partitions=True) for topic in (RULES, MAINTENANCE, INHIBITORS)),
        SideInput(DEVICES),
        *AlarmOperator.side_inputs,
    )

    def __init__(self, partition: int, options: DetectOptions, rules: Sequence[CompiledRule] = ()) -> None:
        super().__init__(partition, options)
        self._rules = RulesIntake(options.normalise.datapoints, rules)
        self._windows = MaintenanceWindows(options.maintenance)
        self._windows_changed = False
        self._registry = Registry(options, self._windows)
        self._exchange = InhibitorExchange(Inhibitors(options.inhibition_wait))
        self._context = EvaluationContext(
            self._rules.book, options.late_allowance, self._exchange.inhibitors, options.most_deferred
        )
        self._handlers |= {
            RULES: self._rules.take,
            MAINTENANCE: self._take_window,
            INHIBITORS: self._exchange.take,
            DEVICES: self._take_device,
        }

    @property
    def refused(self) -> Sequence[RefusedRule]:
        """Rules of the topic that are not in force, newest last."""
        return self._rules.refused

    # -- side inputs

    def assign_side_inputs(self, partitions: Mapping[str, set[int]]) -> None:
        """See `Step.assign_side_inputs`."""
        self._exchange.assign_partitions(partitions)

    def _raw_offset(self, watermark: wire.Watermark) -> int:
        return watermark.readings_to

    def _take_window(self, record: Record) -> None:
        self._windows_changed = self._windows.take(record) or self._windows_changed

    def _take_device(self, record: Record) -> None:
        self._refresh(self._registry.take(record))

    def know(self, device_id: str, device: wire.Device | None) -> None:
        """Take what the registry says of a device; None: nothing any more."""
        self._registry.put(device_id, device)
        self._refresh(device_id)

    def _refresh(self, device_id: str) -> None:
        """Have a device evaluated by its new profile."""
        if (alarms := self._alarms.find(device_id)) is not None:
            alarms.device.profile = self._registry.profile(device_id)
            self._alarms.look_at(alarms)

    def _prepare(self) -> None:
        """After rules or windows have changed, something may be due for any device."""
        if self._windows_changed:
            self._windows_changed = False
            self._registry.forget_profiles()
            for device_id in self._alarms:
                self._refresh(device_id)
        if (rules := self._rules.changed()) is not None:
            # What is deferred on a level may still be so when no rule is on that level any more.
            self._exchange.levels = max(self._exchange.levels, rules.levels)
            for alarms in self._alarms.values():
                self._alarms.look_at(alarms)

    # -- devices

    def _new_alarms(self, device_id: str, state: DeviceState) -> DeviceAlarms:
        profile = self._registry.profile(device_id)
        skipped = self._skipped_of(device_id)
        device = TrackedDevice(state, profile, READINGS, self._partition, skipped, coverage=self._coverage)
        return DeviceAlarms(device, self._context)

    def _track(self, alarms: DeviceAlarms) -> None:
        self._exchange.track(alarms)

    def _forget(self, device_id: str) -> None:
        self._exchange.waiting.discard(device_id)

    # -- records

    def skip_mark(self) -> SkipMark | None:
        """See `Step.skip_mark`. Without rules and without states of earlier ones, readings need not be read."""
        is_idle = self._rules.book.is_empty and not self._alarms
        return self._watermarks.skip_mark() if is_idle else None

    def skipped(self, mark: SkipMark) -> None:
        """See `Step.skipped`."""
        self._watermarks.skip(mark)

    @property
    def pending(self) -> bool:
        """Whether `process` would have something to do without records."""
        return super().pending or self._exchange.is_pending(self._watermarks.all_reached)

    def _apply(self, record: Record) -> list[wire.AlarmEvent]:
        observation = wire.decode_observation(record.value or b"")
        self._watermarks.read(observation.vendor, observation.origin.offset)
        return self.apply_observation(observation, wire.Origin(record.topic, record.partition, record.offset))

    def apply_observation(self, observation: wire.Observation, origin: wire.Origin) -> list[wire.AlarmEvent]:
        """Apply one record of the readings."""
        alarms = self._alarms.find(observation.device_id)
        if alarms is None:
            if not self._is_concerned(observation):
                return []
            alarms = self._new_alarms(observation.device_id, DeviceState())
        events = alarms.apply(observation, origin)
        if alarms.device.changed:
            self._alarms.keep(alarms)
            self._note(alarms)
            self._alarms.schedule(alarms)
        return events

    def _is_concerned(self, observation: wire.Observation) -> bool:
        """Whether a rule concerns a record of a device that has no state."""
        scopes = self._registry.profile(observation.device_id).scopes
        rules = self._rules.book.at(to_micros(observation.received_at))
        return bool(rules.for_record(scopes)) or any(
            rules.for_reading(reading.metric, scopes) for reading in observation.readings
        )

    # -- inhibitors on other devices

    def _conclude(self, now_us: int, outputs: list[Output]) -> None:
        if not self._exchange.levels and not self._exchange.waiting:
            return
        reached = self._watermarks.all_reached
        if self._exchange.is_news(now_us, reached):
            for device_id in sorted(self._exchange.waiting):
                alarms = self._alarms[device_id]
                self._emit(alarms.run_deferred(self._watermarks.reached(vendor_of(device_id))), outputs)
                self._note(alarms)
                self._alarms.schedule(alarms)
        outputs += self._exchange.reports(reached)

    def advance_all(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen before a moment, as if no other partition had inhibitors and no record were to come."""
        self._prepare()
        events: list[wire.AlarmEvent] = []
        for level in range(self._exchange.levels + 1):
            self._exchange.keep_to_itself(self._partition, [NEVER] * level)
            for device_id in sorted(self._alarms):
                alarms = self._alarms[device_id]
                events += alarms.advance(until)
                self._note(alarms)
        return events
