"""`fleetlake capture`: payloads of a running pipeline as recordings, in the form of `tests/recordings`.

They are read from the vendor's raw topic, so they are redacted already: what a connector hides never gets here.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiokafka.errors import KafkaError

from fleetlake.config import require_vendors
from fleetlake.errors import UserError
from runtime.kafka import KafkaSettings, client_options
from runtime.kafka_problem import connection_problem
from runtime.topic_reader import topic_consumer
from schemas.envelope import Envelope, EnvelopeError, read_envelope
from schemas.timestamps import format_iso
from schemas.topics import raw_topic

MOST_OF_A_TYPE = 12
"""Recordings of one message type, each of another shape."""


async def capture(kafka: KafkaSettings, vendor: str, seconds: float, out: Path) -> list[Path]:
    """Record what the vendor sends within `seconds` from now, one file per shape of payload; returns the files.

    UserError where the vendor is not known or Kafka does not answer. Existing files are not overwritten.
    """
    require_vendors([vendor])
    recorder = Recorder(vendor)
    try:
        async with asyncio.timeout(seconds + 20):
            async for envelope in _from_now_on(kafka, raw_topic(vendor), seconds):
                recorder.take(envelope)
    except (KafkaError, OSError, TimeoutError) as error:
        why = await connection_problem(client_options(kafka)) or str(error) or type(error).__name__
        raise UserError(f"Kafka at {kafka.bootstrap_servers}: {why}") from error
    return recorder.write(out / vendor)


async def _from_now_on(kafka: KafkaSettings, topic: str, seconds: float) -> AsyncIterator[Envelope]:
    """The envelopes that arrive on the topic within the time; other records are left out."""
    async with topic_consumer(client_options(kafka), topic) as (consumer, partitions):
        for partition, end in (await consumer.end_offsets(partitions)).items():
            consumer.seek(partition, end)
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            for records in (await consumer.getmany(timeout_ms=int(min(left, 0.5) * 1000) + 1)).values():
                for record in records:
                    try:
                        yield read_envelope(record.value, record.headers)
                    except EnvelopeError:
                        continue


@dataclass
class Recorder:
    """Keeps the first payload of each shape."""

    vendor: str
    _shapes: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)

    def take(self, envelope: Envelope) -> None:
        """Keep the payload if its shape is new among its type, up to a number of shapes."""
        shapes = self._shapes.setdefault(envelope.type, {})
        shape = shape_of(envelope.data)
        if shape not in shapes and len(shapes) < MOST_OF_A_TYPE:
            shapes[shape] = recording(envelope)

    def write(self, folder: Path) -> list[Path]:
        """Write one file per recording: `<what>_<number>.json`, `fleetlake.gap` as `gap_1.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for message_type, shapes in sorted(self._shapes.items()):
            name = re.sub(r"\W+", "_", message_type.partition(".")[2])
            number = 0
            for content in shapes.values():
                number += 1
                while (path := folder / f"{name}_{number}.json").exists():
                    number += 1
                path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
                written.append(path)
        return written


def recording(envelope: Envelope) -> dict[str, Any]:
    """The envelope as a recording: JSON as such where that keeps every byte's meaning, else text, else hexadecimal."""
    content: dict[str, Any] = {
        "source": f"captured, {envelope.source}",
        "documented": False,
        "type": envelope.type,
        "device_id": envelope.device_id,
        "received_at": format_iso(envelope.received_at),
    }
    if envelope.attributes:
        content["attributes"] = dict(envelope.attributes)
    try:
        text = envelope.data.decode()
    except UnicodeDecodeError:
        return content | {"payload_hex": envelope.data.hex()}
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return content | {"payload_text": text}
    return content | ({"payload": payload} if isinstance(payload, dict | list) else {"payload_text": text})


def shape_of(payload: bytes) -> str:
    """What distinguishes one kind of payload from another: names and JSON types, not values.

    Elements of an array count by their shapes, not their number. Where an object names its kind by `name`, `topic` or
    `status`, that word belongs to the shape.
    """
    try:
        return json.dumps(_shape(msgspec.json.decode(payload)), sort_keys=True)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return "not JSON"


_KINDS = ("topic", "status", "type")


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        named = isinstance(value.get("name"), str) and "value" in value  # a state: its name gives its value's meaning
        kinds = (*_KINDS, "name") if named else _KINDS
        return {
            name: value[name] if name in kinds and isinstance(item, str) else _shape(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return sorted({json.dumps(_shape(item), sort_keys=True) for item in value})
    return type(value).__name__
