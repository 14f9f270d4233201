"""Tries rules on recorded readings with the alarm engine itself, without writing anything (`fleetlake rules test`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fleetlake.errors import UserError
from schemas import wire
from schemas.coverage import NOT_LISTENING, coverage_key, vendor_subject
from schemas.records import AlarmRule
from schemas.timestamps import NEVER, parse_iso, to_micros
from schemas.topics import READINGS
from streams.detect.rule_compiler import compile_rule
from streams.detect.rule_operator import RuleOperator
from streams.settings import StreamSettings

if TYPE_CHECKING:
    import polars

_VALUES = ("value_number", "value_text", "value_boolean", "value_json")


@dataclass(frozen=True)
class Known:
    """What is known beside the observations."""

    devices: Sequence[wire.Device] = ()
    coverage: Sequence[wire.Coverage] = ()
    """When somebody listened to a vendor or a device; to those that are not named here, always."""


@dataclass
class Trial:
    """The result of a trial."""

    alarms: list[wire.Alarm] = field(default_factory=list)
    """Each alarm as it was last, in the order of triggering."""
    readings: int = 0
    devices: int = 0
    first: datetime | None = None
    last: datetime | None = None


def try_rules(
    rules: Sequence[AlarmRule],
    settings: StreamSettings,
    observations: Iterable[wire.Observation],
    known: Known,
    until: datetime | None,
) -> Trial:
    """Run the rules over observations, each device's in order, and then on until the end of the range.

    Without an end, time stops with the last observation. Groups, profiles, maintenance and the allowance for late
    readings are those of the settings.
    """
    options = replace(settings.detect_options(), most_deferred=NEVER)  # inhibitors are known when all has been read
    operator = RuleOperator(0, options, [compile_rule(rule, options.normalise.datapoints) for rule in rules])
    for device in known.devices:
        operator.know(device.device_id, device)
    for report in known.coverage:
        operator.know_coverage(coverage_key(vendor_subject(report.vendor), report.channel, "lake"), report)
    trial, seen = Trial(), set()
    latest: dict[str, wire.Alarm] = {}
    events: list[wire.AlarmEvent] = []
    for number, observation in enumerate(observations):
        seen.add(observation.device_id)
        trial.readings += len(observation.readings)
        trial.first = min(trial.first or observation.received_at, observation.received_at)
        trial.last = max(trial.last or observation.received_at, observation.received_at)
        events += operator.apply_observation(observation, wire.Origin(READINGS, 0, number))
    if trial.last is not None:
        events += operator.advance_all(to_micros(until or trial.last))
    for event in events:
        latest[event.alarm.alarm_id] = event.alarm
    trial.alarms = sorted(latest.values(), key=lambda alarm: (alarm.triggered_at, alarm.device_id, alarm.rule_id))
    trial.devices = len(seen)
    return trial


def from_recording(path: Path, since: datetime | None, until: datetime | None) -> Iterator[wire.Observation]:
    """The observations of a file of JSON lines; UserError where a line is none."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    observation = wire.decode_observation(line)
                except msgspec.MsgspecError as error:
                    raise UserError(f"{path}, line {number}: {error}") from error
                if (since is None or observation.received_at >= since) and (
                    until is None or observation.received_at < until
                ):
                    yield observation
    except OSError as error:
        raise UserError(str(error)) from error


def from_lake(data: Path, since: datetime | None, until: datetime | None) -> tuple[Iterator[wire.Observation], Known]:
    """The observations of the lake received in a range, day by day, and what else it knows; UserError without one."""
    import polars as pl

    from fleetlake.api import scan

    try:
        frame = scan("readings", data)
    except FileNotFoundError as error:
        raise UserError(str(error)) from error
    if since is not None:
        frame = frame.filter(pl.col("received_at") >= since.astimezone(UTC).replace(tzinfo=None))
        frame = frame.filter(pl.col("received_date") >= since.astimezone(UTC).date())
    if until is not None:
        frame = frame.filter(pl.col("received_at") < until.astimezone(UTC).replace(tzinfo=None))
        frame = frame.filter(pl.col("received_date") <= until.astimezone(UTC).date())
    return _observations(frame), Known(_devices(data), _coverage(data))


def _observations(frame: polars.LazyFrame) -> Iterator[wire.Observation]:
    import polars as pl

    days = frame.select(pl.col("received_date").unique().sort()).collect()["received_date"]
    order = ["origin_topic", "origin_partition", "origin_offset", "observed_at"]
    for day in days:
        rows = frame.filter(pl.col("received_date") == day).sort(order, maintain_order=True).collect()
        for _, group in groupby(rows.iter_rows(named=True), key=lambda row: tuple(row[name] for name in order[:3])):
            yield _observation(list(group))


def _observation(rows: Sequence[dict[str, Any]]) -> wire.Observation:
    first = rows[0]
    heard_at = first.get("heard_at")  # a lake of an older version has neither
    return wire.Observation(
        first["message_id"],
        first["device_id"],
        first["vendor"],
        first["received_at"].replace(tzinfo=UTC),
        wire.Origin(first["origin_topic"], first["origin_partition"], first["origin_offset"]),
        [
            wire.Reading(
                row["metric"],
                row["observed_at"].replace(tzinfo=UTC),
                **{name: row[name] for name in _VALUES},
                unit=row["unit"],
                time_source=row["time_source"],
                time_quality=row["time_quality"],
            )
            for row in rows
        ],
        polled=bool(first.get("polled")),
        heard_at=None if heard_at is None else heard_at.replace(tzinfo=UTC),
    )


def _coverage(data: Path) -> list[wire.Coverage]:
    """When somebody listened, by our own alarms about the outages of ours."""
    import polars as pl

    from fleetlake.api import scan

    try:
        frame = scan("alarm_events", data)
    except FileNotFoundError:
        return []
    own = frame.filter(pl.col("rule_id") == NOT_LISTENING).sort("alarm_id", "sequence")
    gaps: dict[tuple[str, str], dict[int, int]] = {}
    for row in own.collect().iter_rows(named=True):
        if (began := json.loads(row["metadata"] or "{}").get("last_listened_at")) is not None:
            ended = to_micros(row["created_at"].replace(tzinfo=UTC)) if row["event_type"] == "resolved" else NEVER
            begun = to_micros(parse_iso(began))
            known = gaps.setdefault((row["vendor"], row["device_id"]), {})
            known[begun] = min(ended, known.get(begun, NEVER))
    return [_covered(vendor, subject, found) for (vendor, subject), found in gaps.items()]


def _covered(vendor: str, subject: str, gaps: Mapping[int, int]) -> wire.Coverage:
    """A report of a listener that has these gaps, by their beginnings."""
    spans: list[tuple[int, int | None]] = []
    since = 0
    for begin, end in sorted(gaps.items()):
        spans.append((since, begin))
        since = end
    if since < NEVER:
        spans.append((since, None))
    device = "" if subject == vendor_subject(vendor) else subject
    return wire.Coverage(vendor, "lake", spans, NEVER, device)


def _devices(data: Path) -> list[wire.Device]:
    """The registry as the lake knows it now."""
    import polars as pl

    from fleetlake.api import scan

    try:
        frame = scan("devices", data)
    except FileNotFoundError:
        return []
    rows = frame.sort("received_at", "origin_offset").group_by("device_id", maintain_order=True).last()
    return [
        wire.Device(
            row["device_id"],
            row["vendor"],
            row["updated_at"].replace(tzinfo=UTC),
            row["registered"],
            row["name"],
            row["model"],
            row["serial_number"],
            row["firmware_version"],
            json.loads(row["attributes"] or "{}"),
        )
        for row in rows.filter(~pl.col("deleted")).collect().iter_rows(named=True)
    ]
