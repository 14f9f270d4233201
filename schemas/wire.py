"""The records for hot paths: msgspec twins of `records`, four times cheaper to build and encode.

A property test keeps both equal, field by field: each reads what the other encodes. Stream operators and sinks build
these; `records` is for the edges, where malformed input deserves a precise error. The records of private topics
(`Watermark`, `Coverage`, `InhibitorHistory`, `InhibitorProgress`) have no twin.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class Origin(msgspec.Struct, frozen=True, gc=False):
    """See `records.Origin`."""

    topic: str
    partition: int
    offset: int


class Reading(msgspec.Struct, omit_defaults=True, gc=False):
    """See `records.Reading`."""

    metric: str
    observed_at: datetime
    value_number: float | None = None
    value_text: str | None = None
    value_boolean: bool | None = None
    value_json: str | None = None
    unit: str | None = None
    time_source: str = "vendor"
    time_quality: str = "ok"


class Observation(msgspec.Struct, omit_defaults=True, gc=False):
    """See `records.Observation`."""

    id: str
    device_id: str
    vendor: str
    received_at: datetime
    origin: Origin
    readings: list[Reading]
    polled: bool = False
    heard_at: datetime | None = None

    @property
    def device_heard_at(self) -> datetime | None:
        """When the device last spoke, as far as this record shows it; None where it does not."""
        return self.heard_at if self.polled else self.received_at


class Event(msgspec.Struct, omit_defaults=True, gc=False):
    """See `records.Event`."""

    event_id: str
    type: str
    occurred_at: datetime
    data: str
    time_source: str = "vendor"
    severity: str | None = None
    title: str | None = None


class EventSet(msgspec.Struct, omit_defaults=True):
    """See `records.EventSet`."""

    id: str
    device_id: str
    vendor: str
    received_at: datetime
    origin: Origin
    events: list[Event]


class Alarm(msgspec.Struct, omit_defaults=True):
    """See `records.Alarm`."""

    alarm_id: str
    device_id: str
    vendor: str
    rule_id: str
    rule_name: str
    severity: str
    title: str
    message: str
    status: str
    triggered_at: datetime
    last_triggered_at: datetime
    occurrence_count: int
    metric: str | None = None
    acknowledged_at: datetime | None = None
    resolved_at: datetime | None = None
    snoozed_until: datetime | None = None
    flapping: bool = False


class AlarmEvent(msgspec.Struct, omit_defaults=True):
    """See `records.AlarmEvent`."""

    event_id: str
    sequence: int
    event_type: str
    actor: str
    created_at: datetime
    alarm: Alarm
    origin: Origin
    note: str | None = None
    metadata: dict[str, Any] | None = None


class AlarmAction(msgspec.Struct, omit_defaults=True):
    """See `records.AlarmAction`."""

    action_id: str
    alarm_id: str
    device_id: str
    action: str
    actor: str
    requested_at: datetime
    note: str | None = None
    until: datetime | None = None


class Device(msgspec.Struct, omit_defaults=True):
    """See `records.Device`."""

    device_id: str
    vendor: str
    updated_at: datetime
    registered: bool = True
    name: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware_version: str | None = None
    attributes: dict[str, Any] = {}


class Problem(msgspec.Struct, omit_defaults=True):
    """See `records.Problem`."""

    path: str
    reason: str
    detail: str = ""


class DeadLetter(msgspec.Struct, omit_defaults=True):
    """See `records.DeadLetter`."""

    id: str
    stage: str
    received_at: datetime
    problems: list[Problem]
    payload: str
    payload_bytes: int
    payload_sha256: str
    device_id: str | None = None
    vendor: str | None = None
    message_type: str | None = None
    origin: Origin | None = None


class Watermark(msgspec.Struct, omit_defaults=True, gc=False):
    """Up to when a vendor's raw partition is normalised (topic `fleetlake.clock.v1`, private, same partition number).

    All that was received before `at` is on the readings and events topics. The last raw record that gave readings has
    the offset `readings_to`; the last that gave events has the offset `events_to`. -1 means that none is known.
    """

    vendor: str
    at: datetime
    readings_to: int = -1
    events_to: int = -1
    clock: datetime | None = None
    """As `at`, but not held back where the vendor's connectors do not report that they listen; absent: `at`."""
    coverage_to: int = -1
    """Offset of the last report of coverage (same partition number) before `clock`."""


class Coverage(msgspec.Struct, omit_defaults=True):
    """When one listener listened (topic `fleetlake.coverage.v1`, private; `schemas.coverage`).

    Times are microseconds since the epoch. A vendor-wide listener (a channel of a connector process) reports every
    second or so; a device's socket when that changes. Only so many spans are kept.
    """

    vendor: str
    channel: str
    spans: list[tuple[int, int | None]]
    """Start and end of each span; the end of the one under way is None, which lasts until `reported_until` so far."""
    reported_until: int
    device_id: str = ""
    """The device whose socket it is; empty for a vendor-wide listener."""


class InhibitorHistory(msgspec.Struct, omit_defaults=True):
    """When an alarm that inhibits alarms of other devices was open (topic `fleetlake.causes.v1`, private).

    Times are microseconds since the epoch, in the device's event-time order (docs/adr/0007-alarm-time.md). Only the
    latest spans are kept.
    """

    rule_id: str
    device_id: str
    spans: list[tuple[int, int | None]]
    """Start and end of each span; the end of an open one is None."""
    attributes: dict[str, str] = {}
    """Attributes of the device, by which a rule may select devices that have an attribute in common."""


class InhibitorProgress(msgspec.Struct, gc=False):
    """Up to when a partition has reported its inhibitors (same topic, its own partition number).

    `reached[n]` is the time, in microseconds since the epoch, before which all inhibitors of level n are reported
    (`schemas.inhibition`).
    """

    reached: list[int]


encode = msgspec.json.Encoder().encode
"""JSON bytes of any record; times as RFC 3339 with `Z`."""

decode_observation = msgspec.json.Decoder(Observation).decode
decode_event_set = msgspec.json.Decoder(EventSet).decode
decode_alarm_event = msgspec.json.Decoder(AlarmEvent).decode
decode_alarm_action = msgspec.json.Decoder(AlarmAction).decode
decode_device = msgspec.json.Decoder(Device).decode
decode_watermark = msgspec.json.Decoder(Watermark).decode
decode_coverage = msgspec.json.Decoder(Coverage).decode
decode_inhibitor_history = msgspec.json.Decoder(InhibitorHistory).decode
decode_inhibitor_progress = msgspec.json.Decoder(InhibitorProgress).decode
decode_dead_letter = msgspec.json.Decoder(DeadLetter).decode
