"""The normalised records, as pydantic models: the documented contract of every topic but the raw ones.

The topics carry JSON in UTF-8. Times are RFC 3339 in UTC with `Z`, and absent optional fields are omitted. Readers
ignore unknown fields, so that a field can be added without a new version.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from schemas.words import AlarmStatus, Severity

DeviceId = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9-]*:.+$",
        description="`vendor:native-id`; the Kafka key of every record.",
        examples=["karcher:1.454-500.0/002005"],
    ),
]
MetricName = Annotated[
    str, Field(min_length=1, description="Dotted lower case; see the catalogue of metrics.", examples=["battery.level"])
]


class Record(BaseModel):
    """Base of all records: strict about the types of known fields, indifferent to unknown fields."""

    model_config = ConfigDict(frozen=True)


class Origin(Record):
    """The source of a record: the Kafka coordinates of the record that it was made from."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


_VALUES = ("value_number", "value_text", "value_boolean", "value_json")


class Reading(Record):
    """One value of one metric. Exactly one of the four value fields is set."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in _VALUES]
        }
    )

    metric: MetricName
    value_number: FiniteFloat | None = None
    value_text: str | None = None
    value_boolean: bool | None = None
    value_json: str | None = Field(default=None, description="A structured state, as JSON text.")
    unit: str | None = Field(default=None, description="UCUM code for numbers (`1` for an index), null for the others.")
    observed_at: AwareDatetime
    time_source: Literal["vendor", "received"] = Field(
        default="vendor", description="`received`: the vendor gave no time, and `observed_at` is the time of receipt."
    )
    time_quality: Literal["ok", "future", "ancient"] = Field(
        default="ok",
        description="A time far from the clock is kept and flagged; it never advances a watermark.",
    )

    @model_validator(mode="after")
    def _exactly_one_value(self) -> Self:
        if sum(getattr(self, name) is not None for name in _VALUES) != 1:
            raise ValueError("exactly one of value_number, value_text, value_boolean, value_json must be set")
        return self


class Observation(Record):
    """All readings of one vendor message for one device (topic `telemetry.readings.v1`)."""

    id: str = Field(description="Id of the envelope; a message delivered twice has the same id both times.")
    device_id: DeviceId
    vendor: str
    received_at: AwareDatetime
    origin: Origin
    readings: list[Reading] = Field(min_length=1)
    polled: bool = Field(
        default=False,
        description="True: we asked the vendor for it, so its receipt is no sign of the device. The device was heard "
        "at `heard_at`, or not at all where that is absent. False: the device sent it, and was heard at `received_at`.",
    )
    heard_at: AwareDatetime | None = Field(
        default=None, description="When the device last spoke, as the vendor says of what we asked for."
    )


class Event(Record):
    """A discrete fact, such as a cleaning report, an alert, a command result or a connection gap."""

    event_id: UUID = Field(description="UUIDv5 of the device, the type, and the vendor's id (or the envelope's).")
    type: str = Field(
        description="Lower case with underscores.", examples=["cleaning_report", "alert", "connection_gap"]
    )
    occurred_at: AwareDatetime
    time_source: Literal["vendor", "received"] = "vendor"
    severity: Severity | None = None
    title: str | None = None
    data: str = Field(description="The vendor's fields, as JSON text.")


class EventSet(Record):
    """All events of one vendor message for one device (topic `telemetry.events.v1`)."""

    id: str
    device_id: DeviceId
    vendor: str
    received_at: AwareDatetime
    origin: Origin
    events: list[Event] = Field(min_length=1)


class Alarm(Record):
    """The current state of an alarm. There is one open alarm per device and rule; repeats raise `occurrence_count`."""

    alarm_id: UUID = Field(description="UUIDv5 of the device, the rule and the first trigger; never random.")
    device_id: DeviceId
    vendor: str
    rule_id: str
    rule_name: str
    severity: Severity
    title: str
    message: str
    status: AlarmStatus
    metric: str | None = None
    triggered_at: AwareDatetime
    last_triggered_at: AwareDatetime
    acknowledged_at: AwareDatetime | None = None
    resolved_at: AwareDatetime | None = None
    snoozed_until: AwareDatetime | None = Field(default=None, description="No notifications are sent until then.")
    flapping: bool = Field(
        default=False, description="The alarm triggers and resolves often; see the rule's `flapping`."
    )
    occurrence_count: int = Field(ge=1)


class AlarmEventType(StrEnum):
    """What happened to an alarm. `repeated` is a further occurrence of an alarm that is open; `snooze_ended`: it is
    still open when its snooze is over.
    """

    TRIGGERED = "triggered"
    REPEATED = "repeated"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    SNOOZED = "snoozed"
    SNOOZE_ENDED = "snooze_ended"


class AlarmEvent(Record):
    """One entry of an alarm's timeline, with the state of the alarm after it (topic `telemetry.alarms.v1`)."""

    event_id: UUID = Field(description="UUIDv5 of the alarm and the sequence number.")
    sequence: int = Field(ge=1, description="1, 2, 3… per alarm.")
    event_type: AlarmEventType
    actor: str = Field(description="`rule_engine`, `vendor`, or the person or API key that acted.")
    note: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: AwareDatetime
    alarm: Alarm
    origin: Origin


class AlarmActionType(StrEnum):
    """What an operator does to an alarm."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    SNOOZE = "snooze"


class AlarmAction(Record):
    """An operator's action on an alarm (topic `telemetry.alarm-actions.v1`, key: the alarm's device).

    The alarm engine carries out each `action_id` once. An action that the alarm's state does not allow changes nothing.
    """

    action_id: UUID = Field(description="Chosen by the client; a repeated request has the same id.")
    alarm_id: UUID
    device_id: DeviceId
    action: AlarmActionType
    actor: str = Field(min_length=1, max_length=200, description="Who acted; becomes the actor of the timeline entry.")
    note: str | None = Field(default=None, max_length=4000)
    requested_at: AwareDatetime
    until: AwareDatetime | None = Field(
        default=None, description="End of a `snooze`; no notifications are sent until then."
    )


class Device(Record):
    """What is known of a device (topic `telemetry.devices.v1`; the latest record per key counts)."""

    device_id: DeviceId
    vendor: str
    registered: bool = Field(default=True, description="False: the device sends messages, but no registry lists it.")
    name: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware_version: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict, description="Further attributes, by the vendor's names.")
    updated_at: AwareDatetime


class Problem(Record):
    """What is wrong with one field, or with the whole message."""

    path: str = Field(
        description="Path in the payload, such as `data.location.coordinateX`; empty for the whole message."
    )
    reason: str = Field(
        description="A code.", examples=["not_json", "not_utf8", "wrong_type", "missing", "not_finite", "too_large"]
    )
    detail: str = ""


class DeadLetter(Record):
    """A message, or a part of one, that cannot be used (topic `telemetry.dead-letter.v1`)."""

    id: str = Field(description="Id of the envelope, if there is one.")
    device_id: str | None = None
    vendor: str | None = None
    stage: Literal["connector", "normalise", "detect", "sink"]
    message_type: str | None = None
    received_at: AwareDatetime
    origin: Origin | None = Field(default=None, description="Absent: the connector could not publish the message raw.")
    problems: list[Problem] = Field(min_length=1)
    payload: str = Field(
        description="The payload as text; truncated and masked when it cannot be redacted field by field."
    )
    payload_bytes: int = Field(ge=0)
    payload_sha256: str


RULE_TYPES = ("threshold", "missing_data", "offline", "message_rate", "reconnect_rate")
RuleType = Literal["threshold", "missing_data", "offline", "message_rate", "reconnect_rate"]
ScopeType = Literal["fleet", "group", "profile", "device", "vendor", "model"]


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ActiveHours(BaseModel):
    """When a rule may trigger, in the local time of a time zone. Whole days when neither `from` nor `to` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    timezone: str = Field(default="UTC", description="IANA name, such as `Europe/Oslo`.")
    starts: str = Field(default="00:00", alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM.")
    ends: str = Field(
        default="24:00",
        alias="to",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$",
        description="HH:MM, exclusive. A time at or before `from` is on the next day.",
    )
    days: list[Weekday] = Field(
        default_factory=lambda: list(WEEKDAYS),
        min_length=1,
        description="The days on which the active hours begin.",
    )

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"time zone {self.timezone!r} is not known") from None
        return self


class Flapping(BaseModel):
    """When an alarm counts as flapping: `count` occurrences within `seconds`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=5, ge=2, le=100)
    seconds: float = Field(default=3600, gt=0, le=30 * 86400)
    suppress: bool = Field(
        default=False,
        description="A flapping alarm stays open and emits no events until nothing has happened for `seconds`.",
    )


class RemoteInhibitor(BaseModel):
    """An open alarm of a rule on another device, which an attribute of this device names or has in common with it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(min_length=1, description="Id of the rule whose alarm inhibits.")
    device: str | None = Field(
        default=None, min_length=1, description="Attribute of this device that names the other device."
    )
    same: str | None = Field(
        default=None, min_length=1, description="Attribute that has the same value on both devices."
    )

    @model_validator(mode="after")
    def _says_which_device(self) -> Self:
        if (self.device is None) == (self.same is None):
            raise ValueError("either device or same must be given: the attribute that says which other device")
        return self


class AlarmRule(BaseModel):
    """An alarm rule (topic `telemetry.rules.v1`, key: its id): WAYSCloud's fields and defaults, and some of our own.

    The source is WAYSCloud's API document, «POST /v1/iot/rules». `schemas.rules` describes `config`.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    description: str | None = None
    rule_type: RuleType
    scope_type: ScopeType = "fleet"
    scope_device_id: str | None = None
    scope_group_id: str | None = None
    scope_profile_id: str | None = None
    scope_vendor: str | None = None
    scope_model: str | None = None
    config: dict[str, Any]
    severity: Severity = Severity.WARNING
    severity_original: str | None = Field(
        default=None, description="The severity as given, when it is not one of ours."
    )
    actions: list[str] = Field(default_factory=lambda: ["create_alarm"])
    cooldown_seconds: int = Field(default=300, ge=0)
    is_enabled: bool = True
    auto_resolve: bool = False
    latch: bool = Field(default=False, description="Auto-resolve acknowledged alarms only.")
    active_hours: ActiveHours | None = None
    inhibited_by: list[str | RemoteInhibitor] = Field(
        default_factory=list,
        description="Inhibitors: this rule triggers no alarm while an alarm of one of these rules is open. An id names "
        "a rule on the same device, an object a rule on another device.",
    )
    flapping: Flapping = Flapping()
    source: str | None = Field(default=None, description="Who wrote the rule: `file`, `cli`, `api`, `wayscloud`…")
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None

    @model_validator(mode="after")
    def _scope_is_complete(self) -> Self:
        if self.scope_type != "fleet" and not getattr(self, f"scope_{self._scope_field}"):
            raise ValueError(f"scope_{self._scope_field} must be given when scope_type is {self.scope_type}")
        return self

    @property
    def _scope_field(self) -> str:
        return self.scope_type if self.scope_type in ("vendor", "model") else f"{self.scope_type}_id"


class Silence(BaseModel):
    """A period in which no alarms are triggered in a scope."""

    model_config = ConfigDict(extra="forbid")

    scope_type: ScopeType = Field(
        default="fleet", description="`fleet`, `group`, `profile`, `device`, `vendor` or `model`."
    )
    scope: str = Field(
        default="", description="Id or name of the scope; a device as `vendor:native-id`; empty for `fleet`."
    )
    starts_at: AwareDatetime = Field(description="Start, with time zone.")
    ends_at: AwareDatetime = Field(description="End, with time zone.")
    rules: list[str] = Field(
        default_factory=list, description="Ids of the rules that are silenced; all rules when empty."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        if (self.scope_type == "fleet") is not (self.scope == ""):
            raise ValueError("scope must be given for every scope_type but fleet, and empty for fleet")
        return self


class MaintenanceWindow(Silence):
    """A maintenance window (topic `telemetry.maintenance.v1`, key: its id).

    It lasts from `starts_at`, or its creation if that is later, to `ends_at`, or its cancellation if that is earlier.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    window_id: str = Field(min_length=1, max_length=200)
    note: str | None = Field(default=None, max_length=4000)
    actor: str = Field(min_length=1, max_length=200, description="Who created the window.")
    created_at: AwareDatetime
    cancelled_at: AwareDatetime | None = None
    cancelled_by: str | None = None


RECORDS: dict[str, type[BaseModel]] = {
    "observation": Observation,
    "event-set": EventSet,
    "alarm-event": AlarmEvent,
    "alarm-action": AlarmAction,
    "alarm-rule": AlarmRule,
    "maintenance-window": MaintenanceWindow,
    "device": Device,
    "dead-letter": DeadLetter,
}
"""The records of the public topics, by the names of their JSON Schema files."""
