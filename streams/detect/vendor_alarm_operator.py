"""The operator that keeps vendors' own alarms over one partition of the events (pure)."""

from __future__ import annotations

from schemas import wire
from schemas.consumed import Record
from schemas.device import split_device_id
from schemas.topics import EVENTS
from streams.detect.alarm_operator import AlarmOperator
from streams.detect.device import Profile, TrackedDevice
from streams.detect.options import DetectOptions
from streams.detect.state import DeviceState
from streams.detect.vendor_alarms import VendorAlarms, VendorAlarmSettings
from streams.detect.vendor_alerts import is_vendor_alarm


class VendorAlarmOperator(AlarmOperator[VendorAlarms]):
    """Keeps the alarms that vendors report."""

    input_topic = EVENTS

    def __init__(self, partition: int, options: DetectOptions) -> None:
        super().__init__(partition, options)
        normalise = options.normalise
        self._settings = VendorAlarmSettings(options.quiet, normalise.future_after, normalise.ancient_after)

    def _raw_offset(self, watermark: wire.Watermark) -> int:
        return watermark.events_to

    def _new_alarms(self, device_id: str, state: DeviceState) -> VendorAlarms:
        profile = Profile(device_id, split_device_id(device_id)[0])
        skipped = self._skipped_of(device_id)
        return VendorAlarms(TrackedDevice(state, profile, EVENTS, self._partition, skipped), self._settings)

    def _apply(self, record: Record) -> list[wire.AlarmEvent]:
        event_set = wire.decode_event_set(record.value or b"")
        self._watermarks.read(event_set.vendor, event_set.origin.offset)
        split_device_id(event_set.device_id)  # raises before anything has changed
        if not any(is_vendor_alarm(event_set.vendor, event.type) for event in event_set.events):
            return []
        alarms = self._alarms_of(event_set.device_id)
        events = alarms.apply(event_set, wire.Origin(record.topic, record.partition, record.offset))
        self._note(alarms)
        self._schedule(alarms)
        return events
