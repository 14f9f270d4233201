"""The consumer in docs/consuming.md runs as printed and reads what the pipeline writes."""

from __future__ import annotations

import asyncio
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaProducer

from runtime.kafka import KafkaSettings, declare_topics
from schemas import wire
from schemas.topics import READINGS, topic_specs

DOCUMENT = Path(__file__).parents[2] / "docs" / "consuming.md"


async def test_the_documented_consumer_runs(kafka: str, tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)[0]
    script = tmp_path / "consumer.py"
    script.write_text(code, encoding="utf-8")
    await declare_topics(KafkaSettings(bootstrap_servers=kafka), topic_specs())
    moment = datetime(2026, 3, 1, 12, tzinfo=UTC)
    observation = wire.Observation(
        id="documented",
        device_id="karcher:consuming/1",
        vendor="karcher",
        received_at=moment,
        origin=wire.Origin("telemetry.raw.karcher.v1", 0, 1),
        readings=[wire.Reading("battery.level", moment, value_number=55.0, unit="%")],
    )
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait(READINGS, wire.encode(observation), key=observation.device_id.encode())
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), kafka, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        expected = "karcher:consuming/1 battery.level 55.0 % 2026-03-01T12:00:00Z"
        async with asyncio.timeout(60):
            while (line := (await process.stdout.readline()).decode().strip()) != expected:
                assert process.returncode is None and line, "the consumer ended"
    finally:
        process.kill()
        await process.wait()
