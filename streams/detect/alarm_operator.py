"""What the alarm operators have in common: state, watermarks, operators' actions, outputs (pure).

There are three (`operators`): of rules over readings, of vendors' own alarms over events, of listening over coverage.
An operator has one input topic and side inputs, whose records may come once more or late without harm: operators'
actions, watermarks (`fleetlake.clock.v1`) and coverage (`fleetlake.coverage.v1`), and for rules also the rules, the
maintenance windows, the registry and the inhibitors. A device's state knows which actions it has received, and
watermarks only bring forward what the next record would bring (`device_alarms`), so all of them may be read from the
beginning at any time.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Generic

import msgspec

from runtime.metrics import ALARM_EVENTS, RECORDS_IN, RECORDS_OUT
from schemas import wire
from schemas.consumed import Record
from schemas.device import split_device_id
from schemas.timestamps import to_micros
from schemas.topics import ALARM_ACTIONS, ALARM_STATE, ALARMS, COVERAGE, WATERMARKS
from schemas.vendors import vendor_names
from streams.detect.actions import hold_action
from streams.detect.due_queue import vendor_of
from streams.detect.options import DetectOptions
from streams.detect.skipped import SkippedCounts
from streams.detect.state import DeviceState
from streams.detect.tracked_alarms import A, TrackedAlarms
from streams.detect.unusable_records import CONTENT_TYPE, UnusableRecords
from streams.detect.watermarks import Watermarks
from streams.engine.step import Output, SideInput, Step
from streams.normalise.coverage import CoverageMap

log = logging.getLogger(__name__)

_OPEN = {"triggered": 1, "reopened": 1, "resolved": -1}
"""By how much an entry of a timeline changes the number of open alarms."""


class AlarmOperator(Step, Generic[A]):
    """Detects alarms in one partition of an input topic.

    The state of a device is written once per batch, under the key `<input topic>/<device id>`.
    """

    input_topic: str
    state_topic = ALARM_STATE
    side_inputs: Sequence[SideInput] = (
        SideInput(ALARM_ACTIONS),
        SideInput(WATERMARKS, from_end=True),
        SideInput(COVERAGE, all_partitions=True, is_ahead=True),
    )

    def __init__(self, partition: int, options: DetectOptions) -> None:
        self._partition = partition
        self._watermarks_key = f"{self.input_topic}#seen".encode()
        self._watermarks = Watermarks(vendor_names())
        self._coverage = CoverageMap()
        self._alarms: TrackedAlarms[A] = TrackedAlarms(self.input_topic, self._new_alarms)
        self._skipped: dict[str, SkippedCounts] = {}
        self._unusable = UnusableRecords(options.normalise)
        self._handlers: dict[str, Callable[[Record], None]] = {
            ALARM_ACTIONS: self._take_action,
            WATERMARKS: self._take_watermark,
            COVERAGE: self._take_coverage,
        }

    # -- what a subclass says

    @abstractmethod
    def _new_alarms(self, device_id: str, state: DeviceState) -> A:
        """The alarms of a device with this state. ValueError if the id is no device id."""

    @abstractmethod
    def _apply(self, record: Record) -> list[wire.AlarmEvent]:
        """Apply one record of the input. It may raise, but only before anything has changed."""

    @abstractmethod
    def _raw_offset(self, watermark: wire.Watermark) -> int:
        """The raw offset that the last record of the input was made of, as a watermark says."""

    def _prepare(self) -> None:
        """Let changes of side inputs take effect."""

    def _track(self, alarms: A) -> None:
        """Take note of a device whose state was restored or has changed."""

    def _forget(self, device_id: str) -> None:
        """Forget a device of which nothing is kept."""

    def _conclude(self, now_us: int, outputs: list[Output]) -> None:
        """After the records of a batch and the passing of time."""

    # -- state

    @property
    def open_alarms(self) -> int:
        """Number of open alarms of this partition."""
        return self._alarms.open_alarms

    def restore(self, key: bytes | None, value: bytes | None) -> None:
        """Take the state of one device, or of the watermarks, if it is of this input topic."""
        if key is None:
            return
        if key == self._watermarks_key and value is not None:
            self._watermarks.restore(value)
        elif (alarms := self._alarms.restore(key, value)) is not None:
            self._track(alarms)

    def _skipped_of(self, device_id: str) -> SkippedCounts:
        return self._skipped.setdefault(_label(vendor_of(device_id)), SkippedCounts())

    # -- side inputs

    def process_side_input(self, record: Record) -> None:
        """Take a record of a side input. One that is not usable is skipped, with a line in the log."""
        try:
            self._handlers[record.topic](record)
        except (msgspec.MsgspecError, ValueError, OverflowError) as error:
            log.warning("%s[%s]@%s is skipped: %s", record.topic, record.partition, record.offset, error)

    def _take_watermark(self, record: Record) -> None:
        watermark = wire.decode_watermark(record.value or b"")
        clock = None if watermark.clock is None else to_micros(watermark.clock)
        self._watermarks.add(watermark.vendor, to_micros(watermark.at), self._raw_offset(watermark), clock)

    def _take_coverage(self, record: Record) -> None:
        if record.value is None:
            return
        self.know_coverage((record.key or b"").decode(), wire.decode_coverage(record.value))

    def know_coverage(self, key: str, report: wire.Coverage) -> None:
        """Take what a listener reports."""
        is_changed = self._coverage.take(key, report)
        if (until := self._coverage.reported_until(report.vendor)) is not None:
            self._watermarks.bound(report.vendor, until)
        if not is_changed:
            return
        concerned = (
            [report.device_id] if report.device_id else [d for d in self._alarms if vendor_of(d) == report.vendor]
        )
        for device_id in concerned:
            if (alarms := self._alarms.find(device_id)) is not None:
                self._alarms.look_at(alarms)

    def _take_action(self, record: Record) -> None:
        if record.value is None:
            return
        action = wire.decode_alarm_action(record.value)
        to_micros(action.requested_at)  # raises before anything has changed
        if split_device_id(action.device_id)[0] not in vendor_names():
            raise ValueError(f"device {action.device_id!r} is of no known vendor")
        alarms = self._alarms.of(action.device_id)
        device = alarms.device
        if hold_action(device.state, action, record):
            device.wake_at(device.state.held_actions[0].due)
            self._alarms.change(action.device_id)
            self._alarms.schedule(alarms)

    # -- records

    def needs_side_inputs(self, records: Sequence[Record]) -> bool:
        """See `Step.needs_side_inputs`. Something may be due before a record, which may depend on who listened."""
        keys = [(record.key or b"").decode(errors="replace") for record in records]
        return len(set(keys)) < len(keys) or any(
            (alarms := self._alarms.find(key)) is not None and alarms.device.due < record.timestamp * 1000
            for key, record in zip(keys, records, strict=True)
        )

    @property
    def pending(self) -> bool:
        """Whether `process` would have something to do without records."""
        self._prepare()
        return self._alarms.has_changes or any(
            self._alarms.is_due(vendor, self._watermarks.reached(vendor)) for vendor in self._watermarks.vendors
        )

    def process(self, records: Sequence[Record], now_us: int) -> list[Output]:
        """Apply the records, in order; then what is due by the watermarks; then write the states that changed."""
        outputs: list[Output] = []
        self._prepare()
        if records and self.skip_mark() is None:
            for record in records:
                self._process(record, outputs)
        for vendor, reached in self._watermarks.settled():
            self._advance(vendor, reached, outputs)
        self._conclude(now_us, outputs)
        for vendor, skipped in self._skipped.items():
            skipped.report(vendor)
        for device_id, output in self._alarms.written():
            outputs.append(output)
            if output.value is None:
                self._forget(device_id)
        if (watermarks := self._watermarks.encoded()) is not None:
            outputs.append(Output(ALARM_STATE, self._watermarks_key, watermarks))
        return outputs

    def _process(self, record: Record, outputs: list[Output]) -> None:
        vendor = _label((record.key or b"").partition(b":")[0].decode(errors="replace"))
        try:
            events = self._apply(record)
        except Exception as error:  # a foreign record, or a bug: it must not stop the partition
            outputs.append(self._unusable.dead_letter(record, error, vendor))
            return
        self._emit(events, outputs)
        RECORDS_IN.labels("detect", vendor).inc()
        RECORDS_OUT.labels("detect", vendor).inc(len(events))

    def _advance(self, vendor: str, until: int, outputs: list[Output]) -> None:
        """Let everything happen to the vendor's devices that is due before `until`."""
        while (alarms := self._alarms.next_due(vendor, until)) is not None:
            if alarms.device.due < until:
                self._emit(alarms.advance(until), outputs)
                self._note(alarms)
            self._alarms.schedule(alarms)

    def _emit(self, events: Sequence[wire.AlarmEvent], outputs: list[Output]) -> None:
        for event in events:
            headers = (CONTENT_TYPE, ("ce_id", event.event_id.encode()))
            outputs.append(Output(ALARMS, event.alarm.device_id.encode(), wire.encode(event), headers))
            ALARM_EVENTS.labels(event.event_type).inc()
            self._alarms.open_alarms += _OPEN.get(event.event_type, 0)

    def _note(self, alarms: A) -> None:
        """Have the device's state written if it has changed."""
        device = alarms.device
        if device.changed:
            device.changed = False
            self._alarms.change(device.id)
            self._track(alarms)


def _label(vendor: str) -> str:
    return vendor if vendor in vendor_names() else "unknown"
