"""The operator that says when fleetlake itself does not listen, over one partition of the coverage topic (pure)."""

from __future__ import annotations

from schemas import wire
from schemas.consumed import Record
from schemas.coverage import vendor_subject
from schemas.device import split_device_id
from schemas.timestamps import to_micros
from schemas.topics import ALARM_ACTIONS, COVERAGE, WATERMARKS
from streams.detect.alarm_operator import AlarmOperator
from streams.detect.device import Profile, TrackedDevice
from streams.detect.listening_alarms import ListeningAlarms
from streams.detect.options import DetectOptions
from streams.detect.state import DeviceState
from streams.engine.step import SideInput


class ListeningOperator(AlarmOperator[ListeningAlarms]):
    """Keeps the alarms about listeners.

    What the listeners have reported is read from the beginning at each assignment, so that only alarms are state.
    """

    input_topic = COVERAGE
    side_inputs = (SideInput(ALARM_ACTIONS), SideInput(WATERMARKS, from_end=True), SideInput(COVERAGE))

    def __init__(self, partition: int, options: DetectOptions) -> None:
        super().__init__(partition, options)
        self._after = options.not_listening

    def _raw_offset(self, watermark: wire.Watermark) -> int:
        return watermark.coverage_to

    def _take_watermark(self, record: Record) -> None:
        watermark = wire.decode_watermark(record.value or b"")
        clock = to_micros(watermark.clock or watermark.at)
        self._watermarks.add(watermark.vendor, clock, self._raw_offset(watermark))

    def _take_coverage(self, record: Record) -> None:
        if record.value is None:
            return
        report = wire.decode_coverage(record.value)
        subject = report.device_id or vendor_subject(report.vendor)
        split_device_id(subject)  # raises before anything has changed
        if self._coverage.take((record.key or b"").decode(), report):
            self._alarms.look_at(self._alarms.of(subject))

    def _new_alarms(self, device_id: str, state: DeviceState) -> ListeningAlarms:
        profile = Profile(device_id, split_device_id(device_id)[0])
        skipped = self._skipped_of(device_id)
        device = TrackedDevice(state, profile, COVERAGE, self._partition, skipped, coverage=self._coverage)
        return ListeningAlarms(device, self._after)

    def _apply(self, record: Record) -> list[wire.AlarmEvent]:
        self._take_coverage(record)
        for vendor in self._watermarks.vendors:
            self._watermarks.read(vendor, record.offset)
        return []
