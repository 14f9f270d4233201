"""Sample records of every kind that the contract knows."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from schemas import wire
from tests.support.records import DEVICE

NOON = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def origin(offset: int = 0, partition: int = 0) -> wire.Origin:
    return wire.Origin("telemetry.raw.karcher.v1", partition, offset)


def observation(
    number: int,
    partition: int = 0,
    device: str = DEVICE,
    at: datetime = NOON,
    received: datetime | None = None,
    readings: list[wire.Reading] | None = None,
) -> wire.Observation:
    """Two readings, numbered."""
    return wire.Observation(
        id=f"m{partition}-{number}",
        device_id=device,
        vendor=device.partition(":")[0],
        received_at=received or at,
        origin=origin(number, partition),
        readings=readings
        or [
            wire.Reading(metric="battery.level", observed_at=at, value_number=float(number % 100), unit="%"),
            wire.Reading(metric="device.state", observed_at=at, value_text="idle"),
        ],
    )


def event_set(number: int) -> wire.EventSet:
    return wire.EventSet(
        id=f"e{number}",
        device_id=DEVICE,
        vendor="karcher",
        received_at=NOON,
        origin=origin(number),
        events=[
            wire.Event(
                event_id=str(uuid.UUID(int=number)), type="cleaning_report", occurred_at=NOON, data='{"area": 12}'
            )
        ],
    )


def alarm_event(sequence: int, status: str, event_type: str, alarm: int = 1) -> wire.AlarmEvent:
    moment = NOON + timedelta(minutes=sequence)
    return wire.AlarmEvent(
        event_id=str(uuid.UUID(int=alarm * 1000 + sequence)),
        sequence=sequence,
        event_type=event_type,
        actor="rule_engine",
        created_at=moment,
        metadata={"value": 12.5},
        origin=origin(sequence),
        alarm=wire.Alarm(
            alarm_id=str(uuid.UUID(int=alarm)),
            device_id=DEVICE,
            vendor="karcher",
            rule_id="low-battery",
            rule_name="Low battery",
            severity="major",
            title="Low battery",
            message="battery.level below 15 %",
            status=status,
            metric="battery.level",
            triggered_at=NOON,
            last_triggered_at=moment,
            resolved_at=moment if status == "resolved" else None,
            occurrence_count=sequence,
        ),
    )


def device(name: str, registered: bool = True) -> wire.Device:
    return wire.Device(
        device_id=DEVICE,
        vendor="karcher",
        updated_at=NOON,
        registered=registered,
        name=name,
        attributes={"site": "Winnenden"},
    )


def dead_letter(number: int, with_origin: bool = True) -> wire.DeadLetter:
    return wire.DeadLetter(
        id=f"d{number}",
        stage="normalise",
        received_at=NOON,
        problems=[wire.Problem("data.location", "wrong_type", "expected object")],
        payload='{"data": 1}',
        payload_bytes=11,
        payload_sha256="0" * 64,
        vendor="karcher",
        origin=origin(number) if with_origin else None,
    )
