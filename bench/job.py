"""The job that fleetlake and its peers do: its messages, the expected outputs, and their comparison (pure).

Kärcher's «Datapoints response» of a CV50, as its document shows it, from `machines` machines in turn. The same numbers
give the same messages, so that what is expected need not be kept.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

from schemas import wire
from schemas.envelope import Envelope, message_id
from schemas.topics import raw_topic

VENDOR = "karcher"
MESSAGE_TYPE = "karcher.datapoints"
READINGS_A_MESSAGE = 3
COORDINATE_Y = 6355
_STEP_MS = 100  # between two messages of one machine
_ON_THE_WAY = timedelta(milliseconds=40)
_MAPS = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"map/{number}")) for number in range(16)]
_TOLERANCE = 1e-9  # relative; some systems can only multiply by 0.001


@dataclass(frozen=True)
class Job:
    """A number of messages of a number of machines; the first is at `start_ms` (epoch milliseconds)."""

    messages: int
    machines: int
    start_ms: int


class Position(NamedTuple):
    """What one output record says: metres, and the map they are on."""

    x: float
    y: float
    map_id: str


class Output(NamedTuple):
    """One record as a system wrote it, read by the system's decoder."""

    key: bytes | None
    device_id: str
    time_ms: int
    position: Position
    units: tuple[str, ...]


class _Location(msgspec.Struct):
    coordinateX: int
    coordinateY: int
    mapId: str


class _Data(msgspec.Struct):
    location: _Location


class _Datapoints(msgspec.Struct):
    type: str
    data: _Data
    timestamp: int


_encode = msgspec.json.Encoder().encode


def device_of(job: Job, number: int) -> str:
    """The device id of message `number`."""
    return f"{VENDOR}:1.454-500.0/{number % job.machines:06d}"


def time_of(job: Job, number: int) -> int:
    """The time in message `number`, epoch milliseconds; no two messages of a machine have the same."""
    return job.start_ms + number // job.machines * _STEP_MS


def location_of(job: Job, number: int) -> tuple[int, int, str]:
    """Coordinates in millimetres and map of message `number`."""
    return 1000 + number * 37 % 40_000, COORDINATE_Y, _MAPS[number % job.machines % len(_MAPS)]


def payload(job: Job, number: int) -> bytes:
    """Message `number` as the vendor sends it."""
    return _encode(_Datapoints("datapoints", _Data(_Location(*location_of(job, number))), time_of(job, number)))


def envelopes(job: Job) -> Iterator[Envelope]:
    """All messages as the connector writes them to the raw topic."""
    for number in range(job.messages):
        sent = datetime.fromtimestamp(time_of(job, number) / 1000, UTC)
        yield _envelope(device_of(job, number), payload(job, number), sent, sent + _ON_THE_WAY)


def live_envelope(job: Job, number: int, now_us: int) -> Envelope:
    """Message `number` as if it had been sent and received now (epoch microseconds)."""
    location = _Location(*location_of(job, number))
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    data = _encode(_Datapoints("datapoints", _Data(location), now_us // 1000))
    return _envelope(device_of(job, number), data, now, now)


def observation(job: Job, number: int, partition: int) -> wire.Observation:
    """What fleetlake makes of message `number`."""
    x, y, map_id = location_of(job, number)
    at = datetime.fromtimestamp(time_of(job, number) / 1000, UTC)
    readings = [
        wire.Reading("position.x", at, x / 1000, unit="m"),
        wire.Reading("position.y", at, y / 1000, unit="m"),
        wire.Reading("map.id", at, value_text=map_id),
    ]
    device = device_of(job, number)
    identity = message_id([MESSAGE_TYPE, device, str(number)])
    origin = wire.Origin(raw_topic(VENDOR), partition, number)
    return wire.Observation(identity, device, VENDOR, at + _ON_THE_WAY, origin, readings)


def _envelope(device: str, data: bytes, sent: datetime, received: datetime) -> Envelope:
    identity = message_id([MESSAGE_TYPE, device, data])
    return Envelope(identity, MESSAGE_TYPE, "karcher/websocket", device, received, data, sent)


@dataclass(frozen=True)
class Verdict:
    """How the outputs differ from the expected ones; all zero if they do not."""

    missing: int
    doubled: int
    wrong: int
    """Records of no message of the job, under another key, or with other contents."""

    def __bool__(self) -> bool:
        return not (self.missing or self.doubled or self.wrong)


def verify(job: Job, outputs: Iterable[Output]) -> Verdict:
    """Compare the outputs with the expected ones: each message once, keyed by its device, with its contents."""
    seen: Counter[tuple[str, int]] = Counter()
    wrong = 0
    devices = {device_of(job, number): number for number in range(min(job.machines, job.messages))}
    for output in outputs:
        if _is_right(job, devices, output):
            seen[output.device_id, output.time_ms] += 1
        else:
            wrong += 1
    return Verdict(job.messages - len(seen), sum(seen.values()) - len(seen), wrong)


def _is_right(job: Job, devices: dict[str, int], output: Output) -> bool:
    first, (step, rest) = devices.get(output.device_id), divmod(output.time_ms - job.start_ms, _STEP_MS)
    if first is None or rest or output.key != output.device_id.encode():
        return False
    number = step * job.machines + first
    if not 0 <= number < job.messages or output.units != ("m", "m"):
        return False
    x, y, map_id = location_of(job, number)
    position = output.position
    return _near(position.x, x / 1000) and _near(position.y, y / 1000) and position.map_id == map_id


def _near(value: float, expected: float) -> bool:
    return abs(value - expected) <= _TOLERANCE * expected
