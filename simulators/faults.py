"""Faults on demand: the plan (a pure function of seed and settings) and what it does to one device's messages.

A plan's times count from a device's *first contact* (first socket, first poll, first accepted request), not from the
start of the process: a client that connects late still sees every planted fault.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, Field

from simulators.fleet import random_for
from simulators.wire import digest, encode, rfc3339

FaultKind = Literal["malformed", "duplicate", "late", "disconnect"]
Malformation = Literal["broken_json", "wrong_type", "invalid_utf8", "missing_field", "unknown_field", "oversize"]
Record = Callable[[dict[str, Any]], None]
"""Takes one line of the truth file; see ``simulators/README.md`` for the fields."""

MALFORMATIONS: tuple[Malformation, ...] = (
    "broken_json",
    "wrong_type",
    "invalid_utf8",
    "missing_field",
    "unknown_field",
    "oversize",
)
OVERSIZE_BYTES = 1 << 20


class FaultSettings(BaseModel):
    """How many faults are planted, **per vendor**, and when. All zero: a fleet without faults."""

    crossings: int = Field(default=2, ge=0, description="Number of devices that cross a threshold once and recover.")
    malformed: int = Field(default=6, ge=0, description="Number of malformed messages; the six kinds take turns.")
    duplicates: int = Field(default=3, ge=0, description="Number of messages that are sent twice.")
    late: int = Field(default=2, ge=0, description="Number of additional messages with an old time.")
    disconnects: int = Field(default=1, ge=0, description="Number of connections that end without a goodbye.")
    start_after: float = Field(
        default=12.0, ge=0, description="Seconds from a device's first contact to its first fault."
    )
    spacing: float = Field(default=1.5, ge=0, description="Seconds between two faults of one kind.")
    crossing_seconds: float = Field(default=6.0, gt=0, description="Least number of seconds that a crossing lasts.")
    crossing_messages: int = Field(default=4, ge=1, description="Least number of messages that a crossing lasts.")
    late_by: float = Field(default=7200.0, gt=0, description="How many seconds old a late message is.")

    @classmethod
    def none(cls) -> "FaultSettings":
        """No faults at all."""
        return cls(crossings=0, malformed=0, duplicates=0, late=0, disconnects=0)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A rule's condition, and a value that clearly fulfils it."""

    metric: str
    operator: Literal["lt", "gt"]
    threshold: float
    value: float


DEMO_THRESHOLDS = (
    Threshold("battery.level", "lt", 15.0, 8.0),
    Threshold("environment.temperature", "gt", 40.0, 44.0),
)


@dataclass(frozen=True, slots=True)
class Crossing:
    """A planted crossing: beyond the threshold from ``after`` for at least ``seconds`` and ``messages``, then back."""

    threshold: Threshold
    after: float
    seconds: float
    messages: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A planted fault other than a crossing; ``after`` seconds from the device's first contact."""

    kind: FaultKind
    after: float
    malformation: Malformation | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A device faults can be planted on, and the metrics of it that can cross a threshold."""

    device_id: str
    metrics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DevicePlan:
    """What is planted on one device; ``faults`` in the order of their times."""

    crossing: Crossing | None = None
    faults: tuple[Fault, ...] = ()


def plan(seed: int, vendor: str, targets: Sequence[Target], settings: FaultSettings) -> dict[str, DevicePlan]:
    """Which device gets which faults, and when.

    Devices with a crossing get nothing else as long as there are others: a late or lost message would blur what the
    crossing has to look like afterwards.
    """
    rng = random_for(seed, "faults", vendor)
    crossings = _crossings(rng, targets, settings)
    others = [target.device_id for target in targets if target.device_id not in crossings]
    rng.shuffle(others)
    faults: dict[str, list[Fault]] = {}
    for turn, fault in enumerate(_faults(settings) if others else ()):
        faults.setdefault(others[turn % len(others)], []).append(fault)
    return {
        target.device_id: DevicePlan(
            crossings.get(target.device_id),
            tuple(sorted(faults.get(target.device_id, ()), key=lambda fault: fault.after)),
        )
        for target in targets
    }


def _crossings(rng: Random, targets: Sequence[Target], settings: FaultSettings) -> dict[str, Crossing]:
    chosen: dict[str, Crossing] = {}
    usable = [
        threshold for threshold in DEMO_THRESHOLDS if any(threshold.metric in target.metrics for target in targets)
    ]
    for number in range(settings.crossings if usable else 0):
        threshold = usable[number % len(usable)]
        able = [t.device_id for t in targets if threshold.metric in t.metrics and t.device_id not in chosen]
        if able:
            after = settings.start_after + number * settings.spacing
            chosen[rng.choice(able)] = Crossing(threshold, after, settings.crossing_seconds, settings.crossing_messages)
    return chosen


def _faults(settings: FaultSettings) -> list[Fault]:
    def at(number: int) -> float:
        return settings.start_after + number * settings.spacing

    return [
        *(Fault("malformed", at(n), MALFORMATIONS[n % len(MALFORMATIONS)]) for n in range(settings.malformed)),
        *(Fault("duplicate", at(n)) for n in range(settings.duplicates)),
        *(Fault("late", at(n)) for n in range(settings.late)),
        *(Fault("disconnect", at(n)) for n in range(settings.disconnects)),
    ]


class DeviceFaults:
    """One device's plan while it is carried out; it notes what really happened.

    Not thread-safe: call it from the event loop only.
    """

    def __init__(self, vendor: str, device_id: str, device_plan: DevicePlan, record: Record) -> None:
        self.vendor, self.device_id = vendor, device_id
        self._crossing = device_plan.crossing
        self._pending = list(device_plan.faults)
        self._record = record
        self._first_contact: float | None = None
        self._crossed_at: float | None = None
        self._messages = 0

    def contact(self, now: float) -> None:
        """Note the first contact with the device; later calls change nothing."""
        if self._first_contact is None:
            self._first_contact = now

    def due(self, now: float) -> list[Fault]:
        """The faults that are due. Each is returned once; the caller carries it out and notes it."""
        if self._first_contact is None:
            return []
        elapsed = now - self._first_contact
        due = [fault for fault in self._pending if fault.after <= elapsed]
        self._pending = self._pending[len(due) :]
        return due

    def applied(self, metric: str, value: float, now: float) -> float:
        """The value for the next message: the given one, or the crossing's while that lasts."""
        crossing = self._crossing
        if crossing is None or crossing.threshold.metric != metric or self._first_contact is None:
            return value
        if now - self._first_contact < crossing.after:
            return value
        if self._crossed_at is None:
            self._crossed_at = now
            self._note_crossing(crossing, "started", crossing.threshold.value, now)
        if now - self._crossed_at < crossing.seconds or self._messages < crossing.messages:
            self._messages += 1
            return crossing.threshold.value
        self._note_crossing(crossing, "recovered", value, now)
        self._crossing = None
        return value

    def note(self, kind: str, now: float, **detail: object) -> None:
        """Note in the truth file that a planted fault has happened now."""
        self._record(
            {
                "kind": kind,
                "vendor": self.vendor,
                "device_id": self.device_id,
                "at": rfc3339(now),
                "detail": detail,
            }
        )

    def note_malformed(self, fault: Fault, payload: bytes, now: float, **detail: object) -> None:
        """Note a malformed message as it was sent."""
        self.note(
            "malformed",
            now,
            fault=fault.malformation,
            expect="kept" if fault.malformation == "unknown_field" else "dead_letter",
            bytes=len(payload),
            sha256=digest(payload),
            **detail,
        )

    def _note_crossing(self, crossing: Crossing, phase: str, value: float, now: float) -> None:
        threshold = crossing.threshold
        self.note(
            "crossing",
            now,
            phase=phase,
            metric=threshold.metric,
            operator=threshold.operator,
            threshold=threshold.threshold,
            value=round(value, 3),
            messages=self._messages,
        )


def spoil(
    malformation: Malformation | None,
    good: dict[str, Any],
    wrong_type: dict[str, Any],
    missing_field: dict[str, Any],
) -> bytes:
    """A malformed message made from a good one. The messages with wrong types and fields depend on the vendor."""
    payload = encode(good)
    match malformation:
        case "wrong_type":
            return encode(wrong_type)
        case "missing_field":
            return encode(missing_field)
        case "unknown_field":
            return encode(good | {"vendorExtension": {"revision": 7}})
        case "invalid_utf8":
            return payload[:-1] + b',"note":"\xff\xfe"}'
        case "oversize":
            return (payload[:-1] + b',"padding":"').ljust(OVERSIZE_BYTES, b"x")
        case _:
            return payload[: len(payload) // 2]
