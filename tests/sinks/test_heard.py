"""When devices were heard, in `fleet.duckdb`: what they sent, what we asked for, and what we could not hear."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from deltalake import DeltaTable, write_deltalake

from schemas import wire
from schemas.coverage import NOT_LISTENING
from schemas.topics import ALARMS, READINGS
from sinks.delta.rows import to_rows
from sinks.delta.table_setup import TableSetup
from sinks.delta.tables import READINGS_TABLE
from sinks.duckdb.published import PublishedDatabase
from tests.support.lake import Writing, ask
from tests.support.records import record_of
from tests.support.samples import NOON, alarm_event, observation

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
ROBOT, SENSOR = "karcher:r", "karcher:s"


def told(number: int, device: str, received: datetime, observed: datetime | None = None) -> wire.Observation:
    """A message that the device sent."""
    return observation(number, device=device, at=observed or received, received=received)


def asked(number: int, device: str, received: datetime, heard_at: datetime | None = None) -> wire.Observation:
    """An answer of the vendor, and when the device spoke by that."""
    return msgspec.structs.replace(told(number, device, received), polled=True, heard_at=heard_at)


def every(minutes: int, device: str, since: datetime, until: datetime) -> list[wire.Observation]:
    moments = range(0, round((until - since) / MINUTE), minutes)
    return [told(n, device, since + n * MINUTE) for n in moments]


def not_listening(device: str, begin: datetime, end: datetime | None) -> list[wire.AlarmEvent]:
    """The entries of our own alarm about an outage of ours."""
    noticed = begin + MINUTE
    facts = {"source": "pipeline", "last_listened_at": begin.isoformat()}
    template = alarm_event(1, "active", "triggered").alarm
    name = f"{device} {begin}"
    alarm = msgspec.structs.replace(
        template, alarm_id=name, device_id=device, vendor="karcher", rule_id=NOT_LISTENING, triggered_at=noticed
    )
    moments = [("triggered", noticed), *([("resolved", end)] if end else [])]
    return [
        msgspec.structs.replace(
            alarm_event(number, "active", kind), event_id=f"{name} {kind}", created_at=at, alarm=alarm, metadata=facts
        )
        for number, (kind, at) in enumerate(moments, start=1)
    ]


def uptime(data: Path, hours: int = 12) -> dict[str, tuple[Any, ...]]:
    """Percentage, minutes down, gaps, and minutes of which nobody knows, by device; until NOON."""
    since, until = (NOON - hours * HOUR).replace(tzinfo=None), NOON.replace(tzinfo=None)
    rows = ask(
        data,
        "SELECT device_id, round(uptime, 1), round(down_minutes), gaps, round(unknown_minutes) "
        f"FROM device_uptime('{since}', '{until}')",
    )
    return {device: tuple(values) for device, *values in rows}


def test_one_old_message_does_not_make_a_new_device_down(data: Path, sink: PublishedDatabase) -> None:
    begun = NOON - 3 * HOUR
    old = told(999, ROBOT, begun, observed=NOON - 200 * HOUR)
    Writing(data).write(READINGS, old, *every(5, ROBOT, begun, NOON))
    sink.publish()
    assert uptime(data) == {ROBOT: (100, 0, 0, 0)}
    assert uptime(data, hours=240) == {ROBOT: (100, 0, 0, 0)}


def test_what_we_asked_for_is_no_sign_of_the_device(data: Path, sink: PublishedDatabase) -> None:
    begun, contact = NOON - 4 * HOUR, NOON - 3 * HOUR
    polls = [asked(n, ROBOT, begun + n * MINUTE, min(contact, begun + n * MINUTE)) for n in range(0, 240, 5)]
    timeless = [asked(n, SENSOR, begun + n * MINUTE) for n in range(0, 240, 5)]
    Writing(data).write(READINGS, *polls, *timeless)
    sink.publish()
    assert uptime(data) == {ROBOT: (25, 180, 1, 0), SENSOR: (0, 240, 1, 0)}
    assert ask(data, "SELECT device_id, heard, last_seen FROM devices ORDER BY 1") == [
        (ROBOT, contact.replace(tzinfo=None), (NOON - 5 * MINUTE).replace(tzinfo=None)),
        (SENSOR, None, (NOON - 5 * MINUTE).replace(tzinfo=None)),
    ]
    assert ask(data, "SELECT device_id, health, silent_for FROM fleet_health ORDER BY 1") == [
        (ROBOT, "silent", 175 * MINUTE),
        (SENSOR, "silent", None),
    ]


def test_our_own_outage_is_no_downtime_of_a_device(data: Path, sink: PublishedDatabase) -> None:
    away, back = NOON - 6 * HOUR, NOON - 4 * HOUR
    writing = Writing(data)
    spoken = [*every(5, ROBOT, NOON - 12 * HOUR, away), *every(5, ROBOT, back, NOON)]
    writing.write(READINGS, *spoken, told(1, SENSOR, NOON - 12 * HOUR))
    sink.publish()
    assert uptime(data)[ROBOT] == (82.6, 125, 1, 0), "nobody knows yet that it was our outage"
    writing.write(ALARMS, *not_listening("karcher:fleetlake", away, back))
    writing.write(ALARMS, *not_listening(ROBOT, away + HOUR, back + 30 * MINUTE))
    writing.write(ALARMS, *not_listening("ogmen:fleetlake", NOON - 11 * HOUR, NOON))
    writing.write(ALARMS, *not_listening(SENSOR, NOON - HOUR, None))
    sink.publish()
    assert uptime(data) == {ROBOT: (100, 0, 0, 150), SENSOR: (0, 540, 1, 180)}


def test_a_lake_of_before_goes_on(data: Path, sink: PublishedDatabase) -> None:
    older = READINGS_TABLE.schema
    for name in ("polled", "heard_at"):
        older = older.remove(older.get_field_index(name))
    before = to_rows(READINGS_TABLE, [record_of(wire.encode(told(1, ROBOT, NOON - HOUR)), topic=READINGS)]).table
    path = data / "lake" / "readings"
    write_deltalake(path, before.select(older.names), partition_by=["received_date", "vendor"])
    sink.publish()
    heard = "SELECT heard FROM devices"
    assert ask(data, heard) == [((NOON - HOUR).replace(tzinfo=None),)]
    assert uptime(data) == {ROBOT: (0, 60, 1, 0)}
    TableSetup._add_columns(READINGS_TABLE, DeltaTable(path))
    now = record_of(wire.encode(asked(2, ROBOT, NOON, NOON - MINUTE)), 1, READINGS)
    write_deltalake(path, to_rows(READINGS_TABLE, [now]).table, mode="append")
    sink.publish()
    assert ask(data, heard) == [((NOON - MINUTE).replace(tzinfo=None),)]
    assert ask(data, "SELECT DISTINCT polled, heard_at FROM readings ORDER BY ALL") == [
        (True, (NOON - MINUTE).replace(tzinfo=None)),
        (None, None),
    ]
