"""Raw records of a vendor of the test's own, and their replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiokafka import AIOKafkaProducer

from fleetlake.ops.replay.rebuild import Replay
from runtime.kafka import KafkaSettings
from schemas.envelope import Envelope, message_id
from schemas.topics import raw_topic
from sinks.delta.location import LakeLocation
from streams.settings import StreamSettings

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
DEVICE = "karcher:1.454-500.0/002005"


def located(minutes: float, x: int) -> Envelope:
    at = START + timedelta(minutes=minutes)
    body = {"type": "datapoints", "data": {"location": {"coordinateX": x}}, "timestamp": int(at.timestamp() * 1000)}
    data = json.dumps(body).encode()
    return Envelope(message_id([data]), "karcher.datapoints", "karcher/websocket", DEVICE, at, data)


async def produced(kafka: str, vendor: str, envelopes: list[tuple[float, Envelope]]) -> None:
    """Raw records at these minutes (Kafka's time) after START, in two partitions."""
    async with AIOKafkaProducer(bootstrap_servers=kafka) as producer:
        for number, (minutes, envelope) in enumerate(envelopes):
            stamp = int((START + timedelta(minutes=minutes)).timestamp() * 1000)
            await producer.send_and_wait(
                raw_topic(vendor),
                envelope.data,
                envelope.key,
                number % 2 if number < 10 else 0,
                timestamp_ms=stamp,
                headers=envelope.headers(),
            )


def replay(kafka: str, into: Path, live: Path, minutes: float, **stream: object) -> Replay:
    settings = StreamSettings.model_validate(stream)
    options = KafkaSettings(bootstrap_servers=kafka)
    return Replay(options, settings, LakeLocation(str(live / "lake")), into, START + timedelta(minutes=minutes))
