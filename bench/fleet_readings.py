"""Readings of a mixed fleet as the normaliser emits them, by column, for measuring the layout of the lake.

Messages, cadences, resolutions and readings per message follow the simulated vendors, which follow the vendors'
documents: robots report position and state every few seconds and everything once per minute, and sensors post once per
minute. Structured readings (maps, transforms) are left out: they cost what their JSON costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa

from sinks.delta.tables import READINGS_TABLE

Random = np.random.Generator
Values = Callable[[Random, int], np.ndarray]


def walk(step: float, start: float, decimals: int) -> Values:
    """A quantity that drifts, at the resolution the vendor sends."""
    return lambda rng, count: np.round(start + np.cumsum(rng.normal(0, step, count)), decimals)


def counter(per_message: float) -> Values:
    """A meter that only rises."""
    return lambda rng, count: 1e6 + np.floor(np.cumsum(rng.exponential(per_message, count)))


def constant(value: float) -> Values:
    """A setting."""
    return lambda rng, count: np.full(count, value)


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of message: its interval in seconds, and its readings (metric, unit, numbers or texts)."""

    vendor: str
    every: float
    numbers: tuple[tuple[str, str, Values], ...]
    texts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    resolution_us: int = 1000
    delay_seconds: float = 0.5


SHAPES = (
    Shape(
        "karcher",
        5,
        (
            ("position.x", "m", walk(0.4, 8, 3)),
            ("position.y", "m", walk(0.4, 20, 3)),
            ("job.progress", "%", walk(0.1, 40, 4)),
        ),
        (
            ("map.id", ("1b6eb83e-7479-435b-a2a8-5f566e1fa034",)),
            ("robot.status", ("Autonomous", "Docked")),
            ("job.route_name", ("RouteA", "RouteB")),
        ),
    ),
    Shape(
        "karcher",
        60,
        (
            *((f"service.{part}", "s", counter(60)) for part in ("operation_time", "suction_time", "brush_time")),
            *((f"service.{part}_counter", "1", counter(10)) for part in ("filter", "lip", "sensor", "broom", "brush")),
            ("battery.level", "%", walk(0.3, 60, 2)),
            ("water.fresh", "L", walk(0.2, 38, 0)),
            ("storage.usage", "%", constant(56)),
            ("location.latitude", "deg", walk(1e-5, 51.8, 7)),
            ("location.longitude", "deg", walk(1e-5, 7.7, 7)),
        ),
        (("device.name", ("Talvikangas 2",)), ("settings.language", ("fi",)), ("software.version", ("1.3.23-1.1.42",))),
        delay_seconds=5,
    ),
    Shape(
        "ogmen",
        2,
        (
            ("position.odom_x", "m", walk(0.2, 0, 12)),
            ("position.odom_y", "m", walk(0.2, 0, 12)),
            ("position.odom_z", "m", constant(0)),
            ("orientation.odom_yaw", "deg", walk(3, 31, 12)),
            ("velocity.linear_x", "m/s", walk(0.02, 0, 12)),
            ("velocity.linear_y", "m/s", constant(0)),
            ("velocity.angular_z", "deg/s", walk(0.1, 0, 12)),
        ),
        resolution_us=1,
        delay_seconds=0.02,
    ),
    Shape(
        "ogmen",
        10,
        (
            ("cpu.usage", "%", walk(1, 52, 1)),
            ("gpu.usage", "%", walk(1, 31, 1)),
            ("memory.used", "MBy", walk(8, 1423, 0)),
            ("cpu.temperature", "Cel", walk(0.2, 53, 0)),
            ("network.signal_strength", "dB[mW]", walk(1, -51, 0)),
        ),
        (
            ("power.state", ("Active Mode", "Sleep Mode")),
            ("network.type", ("WIFI",)),
            ("location.room", ("Living Room", "Kitchen")),
        ),
    ),
    Shape(
        "wayscloud",
        60,
        (
            ("environment.temperature", "Cel", walk(0.05, 20, 2)),
            ("environment.humidity", "%", walk(0.1, 51, 2)),
            ("environment.pressure", "hPa", walk(0.05, 995, 2)),
            ("battery.level", "%", walk(0.02, 42, 2)),
            ("network.signal_strength", "dB[mW]", walk(1, -54, 0)),
        ),
        (("device.mode", ("comfort", "eco")),),
        delay_seconds=1,
    ),
    Shape(
        "climasense",
        60,
        (
            ("environment.temperature", "Cel", walk(0.05, 23, 2)),
            ("environment.humidity", "%", walk(0.2, 51, 1)),
            ("environment.pressure", "hPa", walk(0.1, 1013, 1)),
            ("environment.air_quality_index", "1", walk(1, 67, 0)),
            ("network.signal_strength", "dB[mW]", walk(1, -56, 0)),
            ("battery.level", "%", walk(0.02, 76, 1)),
        ),
        delay_seconds=2,
    ),
)

DEVICES_OF = {"karcher": 1, "ogmen": 0.4, "wayscloud": 12, "climasense": 12}
"""Devices per robot of Kärcher: rooms have many sensors."""


def device_ids(vendor: str, robots: int) -> list[str]:
    """Names as long as the vendors give them."""
    names = {
        "karcher": "karcher:1.454-500.0/{:06d}",
        "ogmen": "ogmen:ba8555ae-edd6-4b1c-aece-{:012x}",
        "wayscloud": "wayscloud:sensor-{:05d}",
        "climasense": "climasense:cs-{:06d}",
    }
    return [names[vendor].format(number) for number in range(max(1, round(robots * DEVICES_OF[vendor])))]


def readings(start: datetime, hours: float, robots: int, seed: int = 1) -> Iterator[pa.Table]:
    """The readings of each kind of message over the time, columns of the lake's table; not in order of receipt."""
    generator = _Generator(np.random.default_rng(seed), start, hours)
    for shape in SHAPES:
        for device in device_ids(shape.vendor, robots):
            yield generator.readings_of(shape, device)


@dataclass(frozen=True, slots=True)
class _Messages:
    """The messages of one shape that one device sent; each array has one element per message."""

    vendor: str
    device: str
    observed: np.ndarray
    received: np.ndarray
    ids: pa.Array
    origins: np.ndarray
    partition: int


@dataclass(frozen=True, slots=True)
class _Metric:
    """The values of one metric, one per message: either numbers or texts."""

    name: str
    unit: str | None = None
    numbers: np.ndarray | None = None
    texts: list[str] | None = None


class _Generator:
    """Generates readings; remembers the offset of each device's last message."""

    def __init__(self, rng: Random, start: datetime, hours: float) -> None:
        self._rng = rng
        self._begin_us = int(start.replace(tzinfo=UTC).timestamp() * 1e6)
        self._seconds = hours * 3600
        self._offsets: dict[str, int] = {}

    def readings_of(self, shape: Shape, device: str) -> pa.Table:
        """All readings that a device sends in messages of this shape."""
        messages = self._messages(shape, device)
        count = len(messages.observed)
        metrics = [_Metric(name, unit, numbers=values(self._rng, count)) for name, unit, values in shape.numbers]
        metrics += [_Metric(name, texts=_mostly(self._rng, words, count)) for name, words in shape.texts]
        return pa.concat_tables([_rows(messages, metric) for metric in metrics])

    def _messages(self, shape: Shape, device: str) -> _Messages:
        rng, count, step = self._rng, int(self._seconds / shape.every), int(shape.every * 1e6)
        jitter = rng.integers(step), rng.normal(0, step / 50, count).astype(np.int64)
        observed = self._begin_us + int(jitter[0]) + np.arange(count) * step + jitter[1]
        observed -= observed % shape.resolution_us
        received = observed + (rng.exponential(shape.delay_seconds, count) * 1e6).astype(np.int64) + 1000
        first = self._offsets.setdefault(device, int(rng.integers(1_000_000)))
        origins = first + np.cumsum(rng.integers(1, 60, count))  # other devices' records lie between
        self._offsets[device] = int(origins[-1]) if count else first
        ids = pa.array([bytes(one).hex() for one in rng.integers(0, 256, (count, 16), dtype=np.uint8)])
        return _Messages(shape.vendor, device, observed, received, ids, origins, int(rng.integers(4)))


def _mostly(rng: Random, words: tuple[str, ...], count: int) -> list[str]:
    """A state that changes now and then."""
    return [words[i % len(words)] for i in np.cumsum(rng.random(count) < 0.02)]


def _rows(messages: _Messages, metric: _Metric) -> pa.Table:
    count = len(messages.observed)

    def same(value: str | int | bool | None, kind: pa.DataType) -> pa.Array:
        return pa.repeat(pa.scalar(value, kind), count)

    text = pa.string()
    received_at = pa.array(messages.received).cast(pa.timestamp("us"))
    columns = {
        "device_id": same(messages.device, text),
        "vendor": same(messages.vendor, text),
        "metric": same(metric.name, text),
        "value_number": pa.array(metric.numbers) if metric.numbers is not None else same(None, pa.float64()),
        "value_text": pa.array(metric.texts, text) if metric.texts is not None else same(None, text),
        "value_boolean": same(None, pa.bool_()),
        "value_json": same(None, text),
        "unit": same(metric.unit, text),
        "observed_at": pa.array(messages.observed).cast(pa.timestamp("us")),
        "received_at": received_at,
        "time_source": same("vendor", text),
        "time_quality": same("ok", text),
        "polled": same(False, pa.bool_()),
        "heard_at": same(None, pa.timestamp("us")),
        "message_id": messages.ids,
        "origin_topic": same(f"telemetry.raw.{messages.vendor}.v1", text),
        "origin_partition": same(messages.partition, pa.int32()),
        "origin_offset": pa.array(messages.origins, pa.int64()),
    }
    date = received_at.cast(pa.date32(), safe=False)
    return pa.Table.from_arrays(
        [*(columns[c.name] for c in READINGS_TABLE.columns), date], schema=READINGS_TABLE.schema
    )
