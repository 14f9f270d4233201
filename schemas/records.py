"""The normalised records, as pydantic models: the documented contract of every topic but the raw ones.

JSON on the topics: UTF-8, times RFC 3339 in UTC with `Z`, absent optional fields left out. Unknown fields are to be
ignored by readers, so that a field can be added without a new version.
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
    str, Field(min_length=1, description="Dotted lower case, see the metric catalogue.", examples=["battery.level"])
]


class Record(BaseModel):
    """Base of all records: strict about types it knows, indifferent to fields it does not know."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Origin(Record):
    """Where a record came from: the Kafka coordinates of the record it was made of."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class Reading(Record):
    """One value of one metric. Exactly one of the four value fields is set."""

    metric: MetricName
    value_number: FiniteFloat | None = None
    value_text: str | None = None
    value_boolean: bool | None = None
    value_json: str | None = Field(default=None, description="A structured state, as JSON text.")
    unit: str | None = Field(default=None, description="UCUM code for numbers (`1` for an index), null for the others.")
    observed_at: AwareDatetime
    time_source: Literal["vendor", "received"] = Field(
        default="vendor", description="`received` where the vendor gave no time and `observed_at` is when we got it."
    )
    time_quality: Literal["ok", "future", "ancient"] = Field(
        default="ok", description="A time far off the clock is kept and flagged; it never moves a watermark."
    )

    @model_validator(mode="after")
    def _exactly_one_value(self) -> Self:
        values = (self.value_number, self.value_text, self.value_boolean, self.value_json)
        if sum(v is not None for v in values) != 1:
            raise ValueError("exactly one of value_number, value_text, value_boolean, value_json must be set")
        return self


class Observation(Record):
    """All readings that one vendor message carried for one device (topic `telemetry.readings.v1`)."""

    id: str = Field(description="The envelope's id: the same message delivered again has the same one.")
    device_id: DeviceId
    vendor: str
    received_at: AwareDatetime
    origin: Origin
    readings: list[Reading] = Field(min_length=1)


class Event(Record):
    """A discrete fact: cleaning report, alert, activity, command result, connection gap…"""

    event_id: UUID = Field(description="UUIDv5 of device, type and the vendor's id (or the envelope's).")
    type: str = Field(
        description="Lower case with underscores.", examples=["cleaning_report", "alert", "connection_gap"]
    )
    occurred_at: AwareDatetime
    time_source: Literal["vendor", "received"] = "vendor"
    severity: Severity | None = None
    title: str | None = None
    data: str = Field(description="The vendor's fields, as JSON text.")


class EventSet(Record):
    """All events that one vendor message carried for one device (topic `telemetry.events.v1`)."""

    id: str
    device_id: DeviceId
    vendor: str
    received_at: AwareDatetime
    origin: Origin
    events: list[Event] = Field(min_length=1)


class Alarm(Record):
    """An alarm as it stands. One open alarm per device and rule; repeats raise `occurrence_count`."""

    alarm_id: UUID = Field(description="UUIDv5 of device, rule and first trigger: never random.")
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
    snoozed_until: AwareDatetime | None = Field(default=None, description="Till then nothing is to be notified.")
    flapping: bool = Field(default=False, description="It comes and goes often: see the rule's `flapping`.")
    occurrence_count: int = Field(ge=1)


class AlarmEventType(StrEnum):
    """What happened to an alarm. `repeated` marks a further occurrence of one already known."""

    TRIGGERED = "triggered"
    REPEATED = "repeated"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    REOPENED = "reopened"
    SNOOZED = "snoozed"


class AlarmEvent(Record):
    """One entry of an alarm's timeline, with the alarm as it then stands (topic `telemetry.alarms.v1`)."""

    event_id: UUID = Field(description="UUIDv5 of alarm and sequence.")
    sequence: int = Field(ge=1, description="1, 2, 3… per alarm.")
    event_type: AlarmEventType
    actor: str = Field(description="`rule_engine`, `vendor`, or who did it.")
    note: str | None = None
    metadata: dict[str, Any] | None = None
    created_at: AwareDatetime
    alarm: Alarm
    origin: Origin


class AlarmActionType(StrEnum):
    """What somebody does to an alarm."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    REOPEN = "reopen"
    SNOOZE = "snooze"


class AlarmAction(Record):
    """What somebody did to an alarm (topic `telemetry.alarm-actions.v1`, key: the alarm's device).

    The alarm engine carries it out once, by `action_id`; what cannot be done to the alarm as it stands changes nothing.
    """

    action_id: UUID = Field(description="Made by whoever asks: the same request made again has the same one.")
    alarm_id: UUID
    device_id: DeviceId
    action: AlarmActionType
    actor: str = Field(min_length=1, max_length=200, description="Who did it; becomes the timeline entry's actor.")
    note: str | None = Field(default=None, max_length=4000)
    requested_at: AwareDatetime
    until: AwareDatetime | None = Field(default=None, description="End of a `snooze`: till then nothing is notified.")


class Device(Record):
    """What is known of a device (topic `telemetry.devices.v1`, latest by key)."""

    device_id: DeviceId
    vendor: str
    registered: bool = Field(default=True, description="False for a device that sends but no registry knows.")
    name: str | None = None
    model: str | None = None
    serial_number: str | None = None
    firmware_version: str | None = None
    attributes: dict[str, Any] = Field(default_factory=dict, description="The vendor's further attributes.")
    updated_at: AwareDatetime


class Problem(Record):
    """What was wrong with one field or with the whole message."""

    path: str = Field(description="Where in the payload, e.g. `data.location.coordinateX`; empty for the whole.")
    reason: str = Field(
        description="A code.", examples=["not_json", "not_utf8", "wrong_type", "missing", "not_finite", "too_large"]
    )
    detail: str = ""


class DeadLetter(Record):
    """A message, or the bad part of one, that could not be used (topic `telemetry.dead-letter.v1`)."""

    id: str = Field(description="The envelope's id where there is one.")
    device_id: str | None = None
    vendor: str | None = None
    stage: Literal["connector", "normalise", "detect", "sink"]
    message_type: str | None = None
    received_at: AwareDatetime
    origin: Origin | None = Field(default=None, description="Absent where the connector could not even publish it raw.")
    problems: list[Problem] = Field(min_length=1)
    payload: str = Field(description="The payload as text, cut and masked where it cannot be redacted by field.")
    payload_bytes: int = Field(ge=0)
    payload_sha256: str


RULE_TYPES = ("threshold", "missing_data", "offline", "message_rate", "reconnect_rate")
RuleType = Literal["threshold", "missing_data", "offline", "message_rate", "reconnect_rate"]
ScopeType = Literal["fleet", "group", "profile", "device", "vendor", "model"]


Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ActiveHours(BaseModel):
    """When a rule may trigger, by the clock of a time zone. Whole days where neither `from` nor `to` is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    timezone: str = Field(default="UTC", description="IANA name, e.g. `Europe/Oslo`.")
    starts: str = Field(default="00:00", alias="from", pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="HH:MM.")
    ends: str = Field(
        default="24:00",
        alias="to",
        pattern=r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$",
        description="HH:MM, excluded; not after `from`: on the next day.",
    )
    days: list[Weekday] = Field(
        default_factory=lambda: list(WEEKDAYS),
        min_length=1,
        description="The days on which the hours begin.",
    )

    @model_validator(mode="after")
    def _zone_is_known(self) -> Self:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"time zone {self.timezone!r} is not known") from None
        return self


class Flapping(BaseModel):
    """An alarm is marked as flapping from so many occurrences within so many seconds on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(default=5, ge=2, le=100)
    seconds: float = Field(default=3600, gt=0, le=30 * 86400)
    suppress: bool = Field(
        default=False,
        description="While it flaps it stays open and tells nothing, until nothing happened for `seconds`.",
    )


class RemoteInhibitor(BaseModel):
    """An alarm of a rule, open on another device: the one that an attribute of this device names, or any like it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rule: str = Field(min_length=1, description="Id of the rule whose alarm is the cause.")
    device: str | None = Field(default=None, min_length=1, description="Attribute that names the other device.")
    same: str | None = Field(default=None, min_length=1, description="Attribute that is the same on the other device.")

    @model_validator(mode="after")
    def _says_which_device(self) -> Self:
        if (self.device is None) == (self.same is None):
            raise ValueError("either device or same must be given: the attribute that tells which other device")
        return self


class AlarmRule(BaseModel):
    """An alarm rule (topic `telemetry.rules.v1`, key: its id): WAYSCloud's fields and defaults, and some beyond.

    The source is wayscloud.txt, «POST /v1/iot/rules»; what `config` holds, `schemas.rules` says.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

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
    severity_original: str | None = Field(default=None, description="The word given, where it is none of ours.")
    actions: list[str] = Field(default_factory=lambda: ["create_alarm"])
    cooldown_seconds: int = Field(default=300, ge=0)
    is_enabled: bool = True
    auto_resolve: bool = False
    latch: bool = Field(default=False, description="Auto-resolve only what somebody has acknowledged.")
    active_hours: ActiveHours | None = None
    inhibited_by: list[str | RemoteInhibitor] = Field(
        default_factory=list,
        description="Rules (ids, of the same device; or objects, of another): while one's alarm is open, this triggers "
        "none.",
    )
    flapping: Flapping = Flapping()
    source: str | None = Field(default=None, description="Who wrote it: `file`, `cli`, `api`, `wayscloud`…")
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
    """A time in which a scope triggers no alarms."""

    model_config = ConfigDict(extra="forbid")

    scope_type: ScopeType = Field(default="fleet", description="fleet, group, profile, device, vendor or model.")
    scope: str = Field(default="", description="Its id or name; a device as `vendor:native-id`.")
    starts_at: AwareDatetime = Field(description="When it begins, with time zone.")
    ends_at: AwareDatetime = Field(description="When it is over.")
    rules: list[str] = Field(default_factory=list, description="Only these rules (ids); default: all.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        if (self.scope_type == "fleet") is not (self.scope == ""):
            raise ValueError("scope must name what scope_type speaks of, and nothing for fleet")
        return self


class MaintenanceWindow(Silence):
    """A maintenance window (topic `telemetry.maintenance.v1`, key: its id).

    It silences from `starts_at`, but not before it was created, to `ends_at`, or until it was cancelled.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    window_id: str = Field(min_length=1, max_length=200)
    note: str | None = Field(default=None, max_length=4000)
    actor: str = Field(min_length=1, max_length=200, description="Who planned it.")
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
"""The records of the public topics, by the name of their JSON Schema file."""
