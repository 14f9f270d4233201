"""`fleetlake capture` on a real Kafka: what it writes is a recording as the tests read them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from connectors.common.publisher import Publisher
from fleetlake.config import load_settings
from fleetlake.errors import UserError
from fleetlake.ops.capture import capture, shape_of
from fleetlake.stages import resolve_kafka
from runtime.kafka import KafkaSettings, declare_topics
from schemas.envelope import Envelope
from schemas.topics import topic_specs
from tests.support.recordings import envelope_of, payload_of, run
from tests.support.waiting import passing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def envelope(number: int, kind: str, data: bytes) -> Envelope:
    return Envelope(f"id-{number}", f"karcher.{kind}", "karcher/rest", "karcher:1.533-002.0/1", NOW, data)


def datapoint(number: int, name: str, value: object) -> Envelope:
    body = {"type": "datapoints", "data": {name: value}, "timestamp": 1773645666755 + number}
    return envelope(number, "datapoints", json.dumps(body).encode())


async def test_a_file_for_each_shape_and_all_of_them_are_recordings(kafka: str, tmp_path: Path) -> None:
    settings = load_settings(None, kafka={"bootstrap_servers": kafka})
    await declare_topics(KafkaSettings(bootstrap_servers=kafka), topic_specs())
    async with Publisher(settings.kafka) as publisher:
        await publisher.publish(datapoint(0, "before", 1))
        recording = asyncio.create_task(capture(settings.kafka, "karcher", 4, tmp_path))
        await passing(1.5, "until it is at the end of the topic, which nothing outside of it shows")
        for number in range(1, 30):
            await publisher.publish(datapoint(number, "robotStatus", "Idle"))
            await publisher.publish(datapoint(number + 100, "pose", {"x": number, "y": 1, "yaw": 2}))
        await publisher.publish(envelope(200, "notification", b'{"recordedAt": "2026-03-01T11:00:00Z", "code": "1"}'))
        await publisher.publish(envelope(201, "datapoints", b"{broken"))
        await publisher.publish(envelope(202, "datapoints", b"\xff\xfe"))
        written = await recording
    assert {path.relative_to(tmp_path).as_posix() for path in written} == {
        *(f"karcher/datapoints_{n}.json" for n in (1, 2, 3)),
        "karcher/notification_1.json",
    }
    recordings = {path.name: json.loads(path.read_text()) for path in written}
    assert not any("before" in str(each) for each in recordings.values())
    assert [payload_of(recordings[f"datapoints_{n}.json"])[:7] for n in (1, 2, 3)] == [
        b'{"type"',
        b'{"type"',
        b"{broken",
    ]
    for path in written:
        assert envelope_of(json.loads(path.read_text())).received_at == NOW
        result = run(path)
        assert (result.dead_letter is not None) is (path.name == "datapoints_3.json")
    second = asyncio.create_task(capture(settings.kafka, "karcher", 2, tmp_path))
    await passing(1, "until it is at the end of the topic")
    async with Publisher(settings.kafka) as publisher:
        await publisher.publish(datapoint(300, "pose", {"x": 1, "y": 1, "yaw": 2}))
    assert [path.name for path in await second] == ["datapoints_4.json"], "what is there is kept"


def test_a_shape_is_names_and_types() -> None:
    same = [b'{"a": [1, 2], "b": "x"}', b'{"b": "y", "a": [3]}']
    others = [b'{"a": [1], "b": 2}', b'{"a": [1]}', b'{"a": ["1"], "b": "x"}', b"[]", b"1", b"{"]
    assert shape_of(same[0]) == shape_of(same[1])
    assert len({shape_of(payload) for payload in [same[0], *others]}) == 1 + len(others)
    assert shape_of(b'{"name": "docked", "value": "true"}') != shape_of(b'{"name": "charging", "value": "true"}')


async def test_what_cannot_be_recorded_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown vendor"):
        await capture(KafkaSettings(), "nobody", 1, tmp_path)
    with pytest.raises(UserError, match="no Kafka"):
        await capture(resolve_kafka(load_settings(None, pipeline={"data": tmp_path})), "karcher", 1, tmp_path)
