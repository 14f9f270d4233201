"""The operator that keeps vendors' own alarms over one partition of the events (pure)."""

from __future__ import annotations

import logging

from schemas import wire
from schemas.consumed import Record
from schemas.device import split_device_id
from schemas.timestamps import to_micros
from schemas.topics import DEVICES, EVENTS, RULES
from streams.detect.alarm_operator import AlarmOperator
from streams.detect.device import Profile, TrackedDevice
from streams.detect.maintenance_windows import MaintenanceWindows
from streams.detect.options import DetectOptions
from streams.detect.registry import Registry
from streams.detect.rules_intake import RulesIntake
from streams.detect.state import DeviceState
from streams.detect.vendor_alarms import RulesInForce, VendorAlarms, VendorAlarmSettings
from streams.detect.vendor_alerts import is_vendor_alarm
from streams.engine.step import SideInput


class VendorAlarmOperator(AlarmOperator[VendorAlarms]):
    """Keeps the alarms that vendors report, except those of rules that our engine evaluates itself."""

    input_topic = EVENTS
    side_inputs = (SideInput(RULES, all_partitions=True), SideInput(DEVICES), *AlarmOperator.side_inputs)

    def __init__(self, partition: int, options: DetectOptions) -> None:
        super().__init__(partition, options)
        normalise = options.normalise
        self._settings = VendorAlarmSettings(options.quiet, normalise.future_after, normalise.ancient_after)
        self._rules = RulesIntake(normalise.datapoints, log_level=logging.DEBUG)  # the rule operator says what is wrong
        self._registry = Registry(options, MaintenanceWindows())
        self._handlers |= {RULES: self._rules.take, DEVICES: self._take_device}

    def _take_device(self, record: Record) -> None:
        self._registry.take(record)

    def _raw_offset(self, watermark: wire.Watermark) -> int:
        return watermark.events_to

    def _new_alarms(self, device_id: str, state: DeviceState) -> VendorAlarms:
        profile = Profile(device_id, split_device_id(device_id)[0])
        skipped = self._skipped_of(device_id)
        device = TrackedDevice(state, profile, EVENTS, self._partition, skipped, coverage=self._coverage)
        return VendorAlarms(device, self._settings)

    def _apply(self, record: Record) -> list[wire.AlarmEvent]:
        event_set = wire.decode_event_set(record.value or b"")
        self._watermarks.read(event_set.vendor, event_set.origin.offset)
        split_device_id(event_set.device_id)  # raises before anything has changed
        if not any(is_vendor_alarm(event_set.vendor, event.type) for event in event_set.events):
            return []
        alarms = self._alarms.of(event_set.device_id)
        rules = self._rules.book.at(to_micros(event_set.received_at))
        in_force = RulesInForce(rules, self._registry.profile(event_set.device_id).scopes)
        events = alarms.apply(event_set, wire.Origin(record.topic, record.partition, record.offset), in_force)
        self._note(alarms)
        self._alarms.schedule(alarms)
        return events
