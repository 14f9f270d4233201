"""What one vendor message yields: readings, events, and the problems of its bad parts (pure).

A `Message` collects them while a vendor's module walks the payload. A bad field costs that field only: it becomes a
problem of the one dead letter, and the rest of the message is used (docs/contract.md, «Values»).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from schemas import wire
from schemas.derived_ids import derived_id
from schemas.envelope import Envelope
from schemas.metrics import UNKNOWN_UNIT, Kind, catalogue, vendor_metric
from schemas.redact import excerpt
from schemas.timestamps import format_iso
from streams.normalise.values import FieldError, boolean, dump_json, finite, json_text, load_json, moment, number, text


class Datapoint(NamedTuple):
    """How a datapoint whose meaning the user defines is read: to which metric, from which unit, as which type."""

    metric: str
    unit: str | None = None
    data_type: Kind | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """What normalising needs to know beside the message; `streams.settings.StreamSettings.options` makes it.

    `cv50_millimetres` is for Kärcher's machines and `datapoints` for WAYSCloud's sensors only.
    """

    cv50_millimetres: int = 1
    """Millimetres in one unit of CV50's coordinates (assumed to be 1)."""
    datapoints: Mapping[str, Datapoint] = field(default_factory=dict)
    future_after: timedelta = timedelta(hours=24)
    ancient_after: timedelta = timedelta(days=3650)
    max_readings: int = 10_000
    max_payload_chars: int = 65_536
    max_unparsed_chars: int = 1_024


@dataclass(slots=True)
class Normalised:
    """The result of one envelope: at most one record for each output topic."""

    observation: wire.Observation | None = None
    events: wire.EventSet | None = None
    dead_letter: wire.DeadLetter | None = None
    is_polled_state: bool = False
    """Whether the readings are polled states, which are emitted only when they are new."""


class Stamp(msgspec.Struct, frozen=True, order=True, gc=False):
    """When something was observed, who said so, and whether that can be."""

    at: datetime
    source: str = "vendor"
    quality: str = "ok"


class VendorEvent(NamedTuple):
    """One fact that a vendor reports."""

    kind: str
    vendor_id: str | None
    """The vendor's own id of it, by which it is recognised; None: it is as unique as its message."""
    stamp: Stamp
    data: Any
    """What the vendor sent, as JSON."""
    severity: str | None = None
    title: str | None = None


class Field(NamedTuple):
    """Where a vendor's field goes: the metric, how its value is read, which of the four value fields takes it."""

    metric: str
    parse: Callable[[Any], Any]
    kind: Kind
    unit: str | None


_PARSERS: Mapping[Kind, Callable[[Any], Any]] = {"number": number, "boolean": boolean, "text": text, "json": json_text}


def into(metric: str, parse: Callable[[Any], Any] | None = None) -> Field:
    """A field that is read into a metric of the catalogue, by the parser of the metric's kind unless one is given."""
    known = catalogue()[metric]
    return Field(metric, parse or _PARSERS[known.kind], known.kind, known.unit)


_Reading = wire.Reading
_LONGEST_NAME = 200
_PARSE_REASONS = {"not_json", "not_utf8"}


class Message:
    """Collects what one envelope yields."""

    __slots__ = (
        *("_heard_at", "_is_polled", "envelope", "events", "is_polled_state"),
        *("options", "problems", "readings", "vendor"),
    )

    def __init__(self, envelope: Envelope, vendor: str, options: Options) -> None:
        self.envelope = envelope
        self.vendor = vendor
        self.options = options
        self.readings: list[wire.Reading] = []
        self.events: list[wire.Event] = []
        self.problems: list[wire.Problem] = []
        self._is_polled = False
        self._heard_at: datetime | None = None
        self.is_polled_state = False
        """Set by the handler of a polled state: each poll says the same again until something changes."""

    def payload(self) -> Any:
        """The JSON value that the vendor sent. FieldError where it is none."""
        return load_json(self.envelope.data)

    # -- when the device spoke

    def polled(self, *contacts: Stamp) -> None:
        """Note that we asked for this message, and when by its word the device spoke.

        Contacts without a vendor's sound time say nothing (docs/contract.md, «What counts as heard»).
        """
        self._is_polled = True
        received = self.envelope.received_at
        times = [min(stamp.at, received) for stamp in contacts if stamp.source == "vendor" and stamp.quality == "ok"]
        if self._heard_at is not None:
            times.append(self._heard_at)
        self._heard_at = max(times, default=None)

    # -- times

    @property
    def received(self) -> Stamp:
        """The time of receipt, for what carries no time of its own."""
        return Stamp(self.envelope.received_at, "received")

    def stamp(self, value: Any, path: str, read: Callable[[Any], datetime | None] = moment) -> Stamp:
        """The time a vendor wrote; the time of receipt where there is none or (with a problem) a bad one."""
        if value is None:
            return self.received
        try:
            at = read(value)
        except FieldError as error:
            self.problem(path, error)
            return self.received
        return self.received if at is None else self.vendor_time(at)

    def written_time(self, value: Any) -> Stamp:
        """The time a vendor wrote; FieldError where it is none."""
        return self.vendor_time(moment(value))

    def latest(self, stamps: Sequence[Stamp]) -> Stamp:
        """The latest of some times, of the sound ones if there are any; the time of receipt where there is none."""
        sound = [stamp for stamp in stamps if stamp.quality == "ok"]
        return max(sound or stamps, default=self.received)

    def vendor_time(self, at: datetime) -> Stamp:
        """A vendor's time, flagged if it is far off the time of receipt."""
        received = self.envelope.received_at
        if at > received:
            quality = "future" if at - received > self.options.future_after else "ok"
        else:
            quality = "ancient" if received - at > self.options.ancient_after else "ok"
        return Stamp(at, "vendor", quality)

    # -- readings

    def read(self, into: Field, value: Any, path: str, stamp: Stamp) -> None:
        """Add one reading. null is no reading; a bad value is a problem."""
        if value is None:
            return
        try:
            parsed = into.parse(value)
        except FieldError as error:
            self.problem(path, error)
        else:
            if parsed is not None:
                self.add(into.metric, into.kind, parsed, into.unit, stamp)

    def add(self, metric: str, kind: Kind, value: Any, unit: str | None, stamp: Stamp) -> None:
        """Add one reading whose value has been read."""
        if len(self.readings) >= self.options.max_readings:
            if not any(problem.reason == "too_many" for problem in self.problems):
                self.problem("", FieldError("too_many", f"more than {self.options.max_readings} readings"))
            return
        at, source, quality = stamp.at, stamp.source, stamp.quality
        if kind == "number":
            self.readings.append(_Reading(metric, at, value, None, None, None, unit, source, quality))
        elif kind == "text":
            self.readings.append(_Reading(metric, at, None, value, None, None, None, source, quality))
        elif kind == "boolean":
            self.readings.append(_Reading(metric, at, None, None, value, None, None, source, quality))
        else:
            self.readings.append(_Reading(metric, at, None, None, None, value, None, source, quality))

    def read_object(
        self, table: Mapping[str, Field], members: Mapping[str, Any], path: str, stamp: Stamp, name: str = ""
    ) -> None:
        """Add a reading for each member: by the table, or under the vendor's own name `<vendor>.<name>.<member>`."""
        for key, value in members.items():
            field = table.get(key)
            if field is None:
                self.keep(f"{name}.{key}" if name else key, value, f"{path}.{key}" if path else key, stamp)
            elif value is not None:
                metric, parse, kind, unit = field
                try:
                    parsed = parse(value)
                except FieldError as error:
                    self.problem(f"{path}.{key}" if path else key, error)
                    continue
                if parsed is not None:
                    self.add(metric, kind, parsed, unit, stamp)

    def keep(self, name: str, value: Any, path: str, stamp: Stamp) -> None:
        """Add a reading of a field the catalogue does not know, under the vendor's own name and as it came."""
        if value is None:
            return
        metric = vendor_metric(self.vendor, name)
        if len(name) > _LONGEST_NAME:
            self.problem(path[:_LONGEST_NAME], FieldError("too_large", f"a name of {len(name)} characters"))
        elif isinstance(value, bool):
            self.add(metric, "boolean", value, None, stamp)
        elif isinstance(value, int | float):
            try:
                self.add(metric, "number", finite(value), UNKNOWN_UNIT, stamp)
            except FieldError as error:
                self.problem(path, error)
        elif isinstance(value, str):
            self.add(metric, "text", value, None, stamp)
        else:
            self.add(metric, "json", dump_json(value), None, stamp)

    def keep_others(self, members: Mapping[str, Any], known: Container[str], stamp: Stamp) -> None:
        """Add a reading of each member that a message of this type is not documented to have."""
        for name, value in members.items():
            if name not in known:
                self.keep(name, value, name, stamp)

    def contact(self, metric: str, value: Any, path: str) -> Stamp | None:
        """Add a time that is a fact by itself: its reading says it in UTC, and was observed then. Its stamp, if any."""
        if value is None:
            return None
        try:
            stamp = self.vendor_time(moment(value))
        except FieldError as error:
            self.problem(path, error)
            return None
        self.add(metric, "text", format_iso(stamp.at), None, stamp)
        return stamp

    # -- events

    def event(self, event: VendorEvent) -> None:
        """Add one event. Its id derives from the vendor's own id for it, else from the envelope's."""
        kind, vendor_id, stamp, data, severity, title = event
        event_id = derived_id(self.envelope.device_id, kind, vendor_id or self.envelope.id)
        self.events.append(wire.Event(event_id, kind, stamp.at, dump_json(data), stamp.source, severity, title))

    # -- problems and the result

    def problem(self, path: str, error: FieldError) -> None:
        """Note what was wrong with a field, or with the whole where `path` is empty."""
        if len(self.problems) < self.options.max_readings:
            self.problems.append(wire.Problem(path, error.reason, error.detail))

    def result(self, origin: wire.Origin) -> Normalised:
        """The records of this message."""
        e = self.envelope
        result = Normalised(is_polled_state=self.is_polled_state)
        if self.readings:
            readings = _without_duplicates(self.readings)
            result.observation = wire.Observation(
                e.id, e.device_id, self.vendor, e.received_at, origin, readings, self._is_polled, self._heard_at
            )
        if self.events:
            result.events = wire.EventSet(e.id, e.device_id, self.vendor, e.received_at, origin, self.events)
        if self.problems:
            result.dead_letter = dead_letter(e, self.vendor, origin, self.problems, self.options)
        return result


def _without_duplicates(readings: list[wire.Reading]) -> list[wire.Reading]:
    """The readings without duplicates: Kärcher sends the operating time in two fields."""
    if len({reading.metric for reading in readings}) == len(readings):
        return readings
    kept: list[wire.Reading] = []
    by_metric: dict[str, list[wire.Reading]] = {}
    for reading in readings:
        same = by_metric.setdefault(reading.metric, [])
        if reading not in same:
            same.append(reading)
            kept.append(reading)
    return kept


def dead_letter(
    envelope: Envelope, vendor: str | None, origin: wire.Origin, problems: list[wire.Problem], options: Options
) -> wire.DeadLetter:
    """The dead letter of an envelope. What could not be parsed could not be redacted: a masked prefix stands for it."""
    unparsed = any(p.reason in _PARSE_REASONS and not p.path for p in problems)
    payload, size, digest = payload_extract(envelope.data, unparsed, options)
    return wire.DeadLetter(
        id=envelope.id,
        stage="normalise",
        received_at=envelope.received_at,
        problems=problems,
        payload=payload,
        payload_bytes=size,
        payload_sha256=digest,
        device_id=envelope.device_id,
        vendor=vendor,
        message_type=envelope.type,
        origin=origin,
    )


def payload_extract(data: bytes, unparsed: bool, options: Options) -> tuple[str, int, str]:
    """Payload as text (cut; masked by pattern where nothing could redact it by field), its length and SHA-256."""
    limit = options.max_payload_chars
    shown = (
        excerpt(data, options.max_unparsed_chars) if unparsed else data[: 4 * limit].decode(errors="replace")[:limit]
    )
    return shown, len(data), hashlib.sha256(data).hexdigest()
