"""What the parts of alarm detection share of one device, and of all devices (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas import wire
from streams.detect.inhibitors import Inhibitors
from streams.detect.rule_book import RuleBook
from streams.detect.schedules import CompiledWindow, Scope
from streams.detect.skipped import SkippedCounts
from streams.detect.state import DeviceState
from streams.detect.timeline import Subject
from streams.normalise.coverage import CoverageMap, Receipt

MOST_DEFERRED = 2000
"""When more than this is deferred on a level of a device, the oldest is evaluated by the inhibitors that are known."""

_INTERVAL_ATTRIBUTE = "reporting_interval_seconds"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a device beside what it sends."""

    device_id: str
    vendor: str
    scopes: tuple[Scope, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    maintenance: tuple[CompiledWindow, ...] = ()

    @property
    def reporting_interval(self) -> int | None:
        """The device's expected reporting interval in microseconds."""
        seconds = self.attributes.get(_INTERVAL_ATTRIBUTE)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0:
            return round(float(seconds) * 1_000_000)
        return None


@dataclass(frozen=True, slots=True)
class EvaluationContext:
    """What the evaluation of every device depends on."""

    book: RuleBook
    late_allowance: int = 0
    """How long a reading is held back for late ones, in microseconds."""
    inhibitors: Inhibitors = field(default_factory=Inhibitors)
    most_deferred: int = MOST_DEFERRED


@dataclass(slots=True)
class TrackedDevice:
    """One device on one partition of an input topic. `state` has to be kept; the rest follows from it."""

    state: DeviceState
    profile: Profile
    input_topic: str
    partition: int = 0
    skipped: SkippedCounts = field(default_factory=SkippedCounts)
    due: int = 0
    """Nothing happens to the device by itself before this moment."""
    changed: bool = False
    """The state has to be written."""
    coverage: CoverageMap = field(default_factory=CoverageMap)
    receipt: Receipt | None = None
    """That of the record being applied, which shows who listened until then."""

    @property
    def id(self) -> str:
        """The device's id."""
        return self.profile.device_id

    @property
    def vendor(self) -> str:
        """The device's vendor."""
        return self.profile.vendor

    def wake_at(self, moment: int) -> None:
        """Have the device looked at no later than this moment."""
        self.due = min(self.due, moment)

    def listened_for(self, duration: int, since: int) -> int:
        """The first moment by which somebody has listened to the device for so long since a moment."""
        return self.coverage.due(self.id, since, duration, self.receipt)

    def listened_share(self, since: int, until: int) -> float:
        """The share of a span in which somebody listened to the device; 1: all the time."""
        return self.coverage.listened_within(self.id, since, until, self.receipt) / (until - since)

    def subject(self, offset: int) -> Subject:
        """The subject of events that a record of the input makes."""
        profile = self.profile
        origin = wire.Origin(self.input_topic, self.partition, max(offset, 0))
        return Subject(profile.device_id, profile.vendor, origin)

    @property
    def last_subject(self) -> Subject:
        """The subject of events that the passing of time makes: the last record applied."""
        return self.subject(self.state.offset)
