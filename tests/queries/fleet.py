"""A small fleet over three days, the same each time: what docs/queries.md and docs/notebook.md ask about.

Observations, events, alarms, registry entries and dead letters go through the Delta sink's writer to a lake, and from
there through the DuckDB sink to `fleet.duckdb`; only Kafka is left out.
"""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas import wire
from schemas.topics import ALARMS, DEAD_LETTER, DEVICES, EVENTS, READINGS
from sinks.duckdb.published import PublishedDatabase
from sinks.settings import DuckdbSettings
from tests.support.lake import Writing

START = datetime(2026, 11, 16, tzinfo=UTC)
DAYS = 3
END = START + timedelta(days=DAYS)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

ROBOTS = {
    "karcher:1.454-500.0/002005": ("Lobby", "KIRA B 50", "1.3.23"),
    "karcher:1.454-500.0/002006": ("Hall 2", "KIRA B 50", "1.3.23"),
    "karcher:1.533-001.0/000017": ("Canteen", "KIRA CV 50", "2.0.4"),
}
ROOMS = {
    "climasense:cs-000001": ("Office 1.01", "climasense", 21.0),
    "climasense:cs-000002": ("Office 1.02", "climasense", 23.5),
    "climasense:cs-000003": ("Server room", "climasense", 25.5),
    "wayscloud:sensor-00007": ("Cold store", "wayscloud", 6.0),
}
OGMEN = "ogmen:ba8555ae-edd6-4b1c-aece-0242ac120002"
LOST_FROM, LOST_TO = START + 2 * DAY + 9 * HOUR, START + 2 * DAY + 11 * HOUR


def build(data: Path) -> Path:
    """Make the data folder: lake and `fleet.duckdb`."""
    (data / "work").mkdir(parents=True)
    writing = Writing(data)
    with closing(PublishedDatabase(data, DuckdbSettings())) as sink:
        writing.write(DEVICES, *_registry(START, "2.1.0"))
        for day in range(DAYS):
            start = START + day * DAY
            writing.write(READINGS, *sorted(_observations(start), key=lambda one: one.received_at))
            writing.write(EVENTS, *_events(start))
            sink.publish()
        writing.write(DEVICES, *_registry(START + DAY + 6 * HOUR, "2.2.0", "climasense:"))
        writing.write(ALARMS, *_alarms())
        writing.write(DEAD_LETTER, *_dead_letters())
        sink.publish()
    return data


# Readings


def _observations(start: datetime) -> Iterator[wire.Observation]:
    for number, device in enumerate(ROBOTS):
        for step in range(48):
            at = start + step * 30 * MINUTE + number * MINUTE
            if not (number == 1 and LOST_FROM <= at < LOST_TO):
                yield _message(device, at, _robot(number, at), delay=2)
    for number, (device, (_, _, mean)) in enumerate(ROOMS.items()):
        for step in range(24 * 4):
            at = start + step * 15 * MINUTE + number * 7 * timedelta(seconds=1)
            late = 3600 if number == 2 and at.hour in (3, 4) else 1  # received an hour later, when the hub came back
            if number != 1 or at < END - 4 * HOUR:
                yield _message(device, at, _room(mean, number, at), delay=late)
    for step in range(24):
        at = start + step * HOUR + 13 * MINUTE
        room = "Kitchen" if 7 <= at.hour < 19 else "Living Room"
        yield _message(
            OGMEN, at, [*_numbers({"battery.level": 90 - 2 * (at.hour % 12)}, at), _text("location.room", room, at)], 0
        )


def _robot(number: int, at: datetime) -> list[wire.Reading]:
    """Cleans from 6 to 8 and from 18 to 20, charges afterwards."""
    minute = (at.hour * 60 + at.minute - 360) % 720
    cleans = minute < 120
    level = 95 - 55 * minute / 120 if cleans else min(95.0, 40 + (minute - 120) * 0.25)
    level -= 24 * (number == 2 and cleans and minute > 60)  # an old battery
    state = "Autonomous" if cleans else "Charging" if level < 95 else "Idle"
    numbers = {"battery.level": round(level, 1), "water.fresh": round(60 - (minute * 0.4 if cleans else 0), 1)}
    return [*_numbers(numbers, at), _text("robot.status", state, at)]


def _room(mean: float, number: int, at: datetime) -> list[wire.Reading]:
    hour = at.hour + at.minute / 60
    swing = math.sin(2 * math.pi * (hour / 24 - 0.35))
    temperature = round(mean + (2.5 if number < 3 else 0.8) * swing, 1)
    age = (at - START) / DAY
    numbers = {"environment.temperature": temperature, "environment.humidity": round(48 - 6 * swing, 1)}
    return _numbers(numbers | {"battery.level": round(88 - 21 * number - 1.5 * age, 1)}, at)


def _message(device: str, at: datetime, readings: list[wire.Reading], delay: float) -> wire.Observation:
    name = f"{device}/{at.isoformat()}"
    return wire.Observation(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)),
        device_id=device,
        vendor=_vendor(device),
        received_at=at + timedelta(seconds=delay),
        origin=_origin(device, int((at - START) / MINUTE)),
        readings=readings,
    )


def _numbers(values: dict[str, float], at: datetime) -> list[wire.Reading]:
    units = {"environment.temperature": "Cel", "water.fresh": "L"}
    return [
        wire.Reading(metric=metric, observed_at=at, value_number=float(value), unit=units.get(metric, "%"))
        for metric, value in values.items()
    ]


def _text(metric: str, value: str, at: datetime) -> wire.Reading:
    return wire.Reading(metric=metric, observed_at=at, value_text=value)


# Events


def _events(start: datetime) -> Iterator[wire.EventSet]:
    for number, device in enumerate(ROBOTS):
        for hour in (6, 18):
            begun = start + hour * HOUR
            yield _event(device, begun + 2 * HOUR, "cleaning_report", _report(device, number, begun))
    if start + DAY == END:
        gap = {"from": LOST_FROM.isoformat(), "to": LOST_TO.isoformat(), "reason": "the socket was closed: 1006"}
        yield _event("karcher:1.454-500.0/002006", LOST_FROM, "connection_gap", gap, title="Connection gap")
        yield _event(
            OGMEN, start + 10 * HOUR, "alert", {"header": "Stuck"}, severity="major", title="Stuck under the sofa"
        )


def _report(device: str, number: int, begun: datetime) -> dict[str, Any]:
    minutes = 118 - 9 * number - begun.day % 3
    return {
        "reportId": f"{device.partition(':')[2]}-rep{int(begun.timestamp()) // 3600}",
        "actualOperatingTimeInSeconds": minutes * 60,
        "battery": 0.55,
        "cleanedSquareMeter": minutes * (14 - 3 * number),
        "detergents": 0.02,
        "water": 0.4,
        "distance": minutes * 21.5,
        "startedAt": begun.isoformat(),
        "finishedAt": (begun + minutes * MINUTE).isoformat(),
        "executionMode": "ROUTINE",
        "suctionMode": "Eco",
    }


def _event(device: str, at: datetime, kind: str, data: dict[str, Any], **more: Any) -> wire.EventSet:
    name = f"{device}/{kind}/{at.isoformat()}"
    event = wire.Event(
        event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, name)), type=kind, occurred_at=at, data=json.dumps(data), **more
    )
    return wire.EventSet(
        id=event.event_id,
        device_id=device,
        vendor=_vendor(device),
        received_at=at + timedelta(seconds=3),
        origin=_origin(device, int((at - START) / MINUTE)),
        events=[event],
    )


# Alarms


def _alarms() -> list[wire.AlarmEvent]:
    old, hall, server = "karcher:1.533-001.0/000017", "karcher:1.454-500.0/002006", "climasense:cs-000003"
    battery, silent, warm = (
        ("low-battery", "Low battery", "major"),
        ("silent", "Silent", "critical"),
        ("warm", "Too warm", "minor"),
    )
    lives = [
        (
            old,
            battery,
            "battery.level",
            day * DAY + hour * HOUR + 92 * MINUTE,
            [("acknowledged", 9), ("resolved", 70 + 10 * day)],
        )
        for day in range(DAYS)
        for hour in (6, 18)
    ]
    lives += [
        (hall, silent, None, 2 * DAY + 9 * HOUR + 15 * MINUTE, [("acknowledged", 4), ("resolved", 105)]),
        (server, warm, "environment.temperature", 11 * HOUR, [("resolved", 300), ("reopened", 1400)]),
        (server, warm, "environment.temperature", 2 * DAY + 12 * HOUR, [("repeated", 15), ("repeated", 30)]),
    ]
    return sorted((event for life in lives for event in _life(*life)), key=lambda event: event.created_at)


def _life(
    device: str, rule: tuple[str, str, str], metric: str | None, after: timedelta, then: list[tuple[str, int]]
) -> Iterator[wire.AlarmEvent]:
    """An alarm from its trigger on; `then`: what happened to it, and how many minutes after the trigger."""
    triggered = START + after
    alarm_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{device}/{rule[0]}/{triggered.isoformat()}"))
    status, count, acknowledged, resolved = "active", 1, None, None
    for sequence, (what, minutes) in enumerate([("triggered", 0), *then], start=1):
        at = triggered + minutes * MINUTE
        count += what == "repeated"
        status = {"acknowledged": "acknowledged", "resolved": "resolved", "reopened": "active"}.get(what, status)
        acknowledged = at if what == "acknowledged" else acknowledged
        resolved = at if what == "resolved" else None
        yield wire.AlarmEvent(
            event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{alarm_id}/{sequence}")),
            sequence=sequence,
            event_type=what,
            actor="anna@plant" if what == "acknowledged" else "rule_engine",
            created_at=at,
            note="on my way" if what == "acknowledged" else None,
            origin=_origin(device, int((at - START) / MINUTE)),
            alarm=wire.Alarm(
                alarm_id=alarm_id,
                device_id=device,
                vendor=_vendor(device),
                rule_id=rule[0],
                rule_name=rule[1],
                severity=rule[2],
                title=rule[1],
                message=rule[1],
                status=status,
                metric=metric,
                triggered_at=triggered,
                last_triggered_at=at if what == "repeated" else triggered,
                acknowledged_at=acknowledged,
                resolved_at=resolved,
                occurrence_count=count,
            ),
        )


# Registry and dead letters


def _registry(at: datetime, firmware: str, only: str = "") -> Iterator[wire.Device]:
    devices = {device: (name, model, version) for device, (name, model, version) in ROBOTS.items()}
    devices |= {device: (name, f"{vendor} room", firmware) for device, (name, vendor, _) in ROOMS.items()}
    devices["karcher:1.454-500.0/002099"] = ("Spare", "KIRA B 50", "1.3.20")  # never switched on
    for device, (name, model, version) in devices.items():
        if device.startswith(only):
            yield wire.Device(
                device_id=device,
                vendor=_vendor(device),
                updated_at=at,
                name=name,
                model=model,
                firmware_version=version,
                attributes={"site": "Winnenden"},
            )


def _dead_letters() -> Iterator[wire.DeadLetter]:
    wrong = [
        ("climasense:cs-000002", "not_finite", "humidity"),
        ("climasense:cs-000002", "not_finite", "humidity"),
        ("karcher:1.454-500.0/002005", "wrong_type", "data.location"),
        (OGMEN, "not_json", ""),
    ]
    for number, (device, reason, path) in enumerate(wrong):
        yield wire.DeadLetter(
            id=f"dead-{number}",
            stage="normalise",
            received_at=START + number * 7 * HOUR,
            problems=[wire.Problem(path, reason, "")],
            payload="{…",
            payload_bytes=812,
            payload_sha256="0" * 64,
            device_id=device,
            vendor=_vendor(device),
            origin=_origin(device, number),
        )


def _origin(device: str, offset: int) -> wire.Origin:
    return wire.Origin(f"telemetry.raw.{_vendor(device)}.v1", sum(device.encode()) % 4, offset)


def _vendor(device: str) -> str:
    return device.partition(":")[0]
