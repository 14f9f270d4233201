"""Section `[stream]` of the configuration."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.metrics import catalogue
from schemas.records import Silence
from schemas.timestamps import to_micros
from schemas.units import UNITS, ucum_code
from schemas.vendors import vendors
from streams.detect.options import DetectOptions
from streams.detect.schedules import CompiledWindow, silenced
from streams.normalise.duplicates import BYTES_PER_ID
from streams.normalise.message import Datapoint, Options

_MILLIMETRES = {"mm": 1, "cm": 10, "m": 1000}


class DatapointSettings(BaseModel):
    """What one of your WAYSCloud datapoints means. Its readings are converted to the metric's unit."""

    model_config = ConfigDict(extra="forbid")

    metric: str = Field(min_length=1, description="Metric of the catalogue, or a name of your own.")
    unit: str | None = Field(default=None, description="Unit the datapoint comes in, e.g. `°F`; default: the metric's.")
    data_type: Literal["number", "boolean", "string"] | None = Field(
        default=None, description="WAYSCloud's data_type; default: the metric's kind, else as the value comes."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        code = None if self.unit is None else ucum_code(self.unit)
        known = catalogue().get(self.metric)
        if known is None:
            return self
        if self.unit is not None and known.kind == "number":
            if code is None or known.unit is None or known.unit not in UNITS:
                raise ValueError(f"unit {self.unit!r} is not known and cannot be converted to {known.unit}")
            if UNITS[code].dimension != UNITS[known.unit].dimension:
                raise ValueError(f"unit {self.unit!r} cannot be converted to {known.unit}, the unit of {self.metric}")
        kind = "string" if known.kind == "text" else known.kind
        if self.data_type is not None and self.data_type != kind:
            raise ValueError(f"{self.metric} is a {kind}, not a {self.data_type}")
        return self

    def datapoint(self) -> Datapoint:
        """The definition, for the normaliser."""
        return Datapoint(self.metric, self.unit, "text" if self.data_type == "string" else self.data_type)


class MaintenanceSettings(Silence):
    """A time in which a scope triggers no alarms."""

    def window(self) -> CompiledWindow:
        """The window, for the rule operator."""
        return silenced(self, to_micros(self.starts_at), to_micros(self.ends_at))


class StreamSettings(BaseModel):
    """Normalisation, alarm rules, and the bounds of both."""

    model_config = ConfigDict(extra="forbid")

    instance_id: str | None = Field(
        default=None,
        min_length=1,
        description="Name of this worker among those that share the load. With the same name after a restart it "
        "takes its partitions back at once, not after the session timeout. `fleetlake up` names its own worker.",
    )
    rules_file: Path | None = Field(
        default=None,
        description="Alarm rules (YAML or JSON), put on the rules topic at each start where the file has changed.",
    )
    groups: dict[str, list[str]] = Field(
        default_factory=dict, description="Groups, for rules with scope group: id to devices (ids, or patterns with *)."
    )
    profiles: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Device profiles, for rules with scope profile: id to devices (ids, or patterns with *).",
    )
    maintenance: list[MaintenanceSettings] = Field(
        default_factory=list, description="Maintenance windows: times in which a scope triggers no alarms."
    )
    attributes: dict[str, dict[str, list[str]]] = Field(
        default_factory=dict,
        description="Attributes of devices that their vendors do not report, e.g. the site: name to value to devices.",
    )
    inhibition_wait_seconds: float = Field(
        default=5,
        ge=0,
        le=3600,
        description="How long an alarm waits for an inhibitor on another device that may be reported later.",
    )
    late_allowance_seconds: float = Field(
        default=0,
        ge=0,
        le=86400,
        description="How long a reading waits for earlier ones before thresholds are evaluated.",
    )
    tick_seconds: float = Field(
        default=1, ge=0, le=3600, description="How often silence and rates are evaluated; 0: at readings only."
    )
    clock_allowance_seconds: float = Field(
        default=2,
        ge=0,
        description="How long a message may take from its receipt to Kafka before silence is evaluated.",
    )
    not_listening_seconds: float = Field(
        default=60,
        ge=60,
        description="After how long without a listening connector that is an alarm (rule `pipeline-not-listening`).",
    )
    vendor_quiet_seconds: dict[str, float] = Field(
        default_factory=lambda: {
            spec.name: spec.alarms_quiet_seconds for spec in vendors().values() if spec.alarms_quiet_seconds is not None
        },
        description="By vendor: after how many seconds without a report an alarm of its own resolves.",
    )
    wayscloud_datapoints: dict[str, DatapointSettings] = Field(
        default_factory=dict, description="Meaning of your WAYSCloud datapoints, by name or id."
    )
    cv50_coordinate_unit: Literal["mm", "cm", "m"] = Field(
        default="mm", description="Unit of the coordinates a Kärcher CV50 sends (not documented; millimetres assumed)."
    )
    future_after_hours: float = Field(
        default=24,
        gt=0,
        description="A vendor's time that is further ahead of its receipt is flagged and affects no alarm.",
    )
    ancient_after_days: float = Field(
        default=3650,
        gt=0,
        description="A vendor's time that is further behind its receipt is flagged and affects no alarm.",
    )
    max_readings_per_message: int = Field(
        default=10_000, ge=1, description="Most readings of one message; further ones become a dead letter."
    )
    dead_letter_payload_chars: int = Field(
        default=65_536, ge=0, description="How many characters of its message a dead letter holds."
    )
    dedupe_max_bytes: int = Field(
        default=64 << 20,
        ge=1 << 16,
        description="Memory for message ids per vendor, partition and window. Where a window does not fit, that is "
        "logged, and `fleetlake_dedupe_ids_cut_total` counts what was forgotten too early.",
    )
    dedupe_max_ids: int | None = Field(
        default=None,
        ge=1,
        description="In place of `dedupe_max_bytes`: most message ids per vendor, partition and window.",
    )

    def dedupe_bytes(self) -> int:
        """The bound of the memory for message ids."""
        return self.dedupe_max_bytes if self.dedupe_max_ids is None else self.dedupe_max_ids * BYTES_PER_ID

    def detect_options(self) -> DetectOptions:
        """The options of detection."""
        return DetectOptions(
            normalise=self.options(),
            late_allowance=round(self.late_allowance_seconds * 1_000_000),
            quiet={vendor: round(seconds * 1_000_000) for vendor, seconds in self.vendor_quiet_seconds.items()},
            groups=self.groups,
            profiles=self.profiles,
            attributes=self.attributes,
            inhibition_wait=round(self.inhibition_wait_seconds * 1_000_000),
            not_listening=round(self.not_listening_seconds * 1_000_000),
            maintenance=tuple(each.window() for each in self.maintenance),
        )

    def options(self) -> Options:
        """The options of normalisation."""
        return Options(
            cv50_millimetres=_MILLIMETRES[self.cv50_coordinate_unit],
            datapoints={name: each.datapoint() for name, each in self.wayscloud_datapoints.items()},
            future_after=timedelta(hours=self.future_after_hours),
            ancient_after=timedelta(days=self.ancient_after_days),
            max_readings=self.max_readings_per_message,
            max_payload_chars=self.dead_letter_payload_chars,
            max_unparsed_chars=min(1024, self.dead_letter_payload_chars),
        )
