"""Reading what the systems write: each has a shape of its own, all say the same (pure)."""

from __future__ import annotations

from typing import Any

import msgspec

from bench.job import Output, Position
from schemas import wire


class _PeerReading(msgspec.Struct):
    metric: str
    value: float | str
    unit: str | None


class _PeerObservation(msgspec.Struct):
    device_id: str
    time: int
    readings: list[_PeerReading]


_decode_peer = msgspec.json.Decoder(_PeerObservation).decode


def fleetlake(key: bytes | None, value: bytes) -> Output:
    """An observation as the contract has it; readings of one message have one time."""
    observation = wire.decode_observation(value)
    readings = {reading.metric: reading for reading in observation.readings}
    x, y, map_id = readings["position.x"], readings["position.y"], readings["map.id"]
    (observed,) = {reading.observed_at for reading in observation.readings}
    return Output(
        key,
        observation.device_id,
        round(observed.timestamp() * 1000),
        Position(x.value_number or 0.0, y.value_number or 0.0, map_id.value_text or ""),
        (x.unit or "", y.unit or ""),
    )


def peer(key: bytes | None, value: bytes) -> Output:
    """What `bench/peers/transform.py` makes."""
    record = _decode_peer(value)
    readings = {reading.metric: reading for reading in record.readings}
    x, y, map_id = (readings[name] for name in ("position.x", "position.y", "map.id"))
    position = Position(float(x.value), float(y.value), str(map_id.value))
    return Output(key, record.device_id, record.time, position, (x.unit or "", y.unit or ""))


def telegraf(key: bytes | None, value: bytes) -> Output:
    """Telegraf's JSON of one metric: its unit is a tag, since its fields have none."""
    point: dict[str, Any] = msgspec.json.decode(value)
    fields, tags = point["fields"], point["tags"]
    position = Position(fields["position.x"], fields["position.y"], fields["map.id"])
    return Output(key, tags["device_id"], point["timestamp"], position, (tags["unit"], tags["unit"]))
