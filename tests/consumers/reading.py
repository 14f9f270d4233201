"""Consumers in Python, by the two clients that there are, to be compared with the one in Go.

`python reading.py aiokafka|confluent BOOTSTRAP` prints what `docs/examples/consumer-go` prints. It runs in an
environment of its own and imports nothing of the project.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

TOPICS = ("telemetry.readings.v1", "telemetry.alarms.v1", "telemetry.devices.v1")
VALUES = ("value_number", "value_text", "value_boolean", "value_json")


def lines(
    topic: str, key: bytes, value: bytes | None, headers: dict[str, bytes], known: dict[str, str]
) -> Iterator[str]:
    if value is None:
        known.pop(key.decode(), None)
        return
    record = json.loads(value)
    if topic == TOPICS[0]:
        assert (record["device_id"], record["id"]) == (key.decode(), headers["ce_id"].decode())
        for reading in record["readings"]:
            [found] = [reading[name] for name in VALUES if reading.get(name) is not None]
            at = datetime.fromisoformat(reading["observed_at"]).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            yield f"reading {key.decode()} {reading['metric']} {shown(found)} {reading.get('unit') or ''} {at}"
    elif topic == TOPICS[1]:
        alarm = record["alarm"]
        change = f"{record['sequence']} {record['event_type']} {alarm['status']}"
        yield f"alarm {alarm['alarm_id']} {alarm['device_id']} {change}"
    else:
        known[record["device_id"]] = f"device {record['device_id']} {record.get('name') or ''}"


def shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, int | float) else str(value)


async def by_aiokafka(bootstrap: str, known: dict[str, str]) -> list[str]:
    from aiokafka import AIOKafkaConsumer

    found: list[str] = []
    consumer = AIOKafkaConsumer(
        *TOPICS, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    async with consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for r in records:
                    found += lines(r.topic, r.key, r.value, dict(r.headers), known)
    return found


def by_confluent(bootstrap: str, known: dict[str, str]) -> list[str]:
    from confluent_kafka import Consumer, KafkaError, TopicPartition

    found: list[str] = []
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "compared",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    topics = consumer.list_topics(timeout=30).topics
    partitions = [TopicPartition(topic, number, 0) for topic in TOPICS for number in topics[topic].partitions]
    consumer.assign(partitions)
    waiting = len(partitions)
    while waiting:
        message = consumer.poll(30)
        if message is None:
            raise TimeoutError
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            waiting -= 1
            continue
        headers = dict(message.headers() or [])
        found += lines(message.topic(), message.key(), message.value(), headers, known)
    consumer.close()
    return found


if __name__ == "__main__":
    devices: dict[str, str] = {}
    if sys.argv[1] == "aiokafka":
        read = asyncio.run(by_aiokafka(sys.argv[2], devices))
    else:
        read = by_confluent(sys.argv[2], devices)
    sys.stdout.write("".join(f"{line}\n" for line in sorted([*read, *devices.values()])))
