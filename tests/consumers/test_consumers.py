"""Consumers that were written from the contract alone read the same: Go's franz-go, aiokafka and confluent-kafka."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest
from aiokafka import AIOKafkaProducer

from runtime.kafka import KafkaSettings, declare_topics
from schemas import wire
from schemas.topics import ALARMS, DEVICES, READINGS, topic_specs
from schemas.words import AlarmStatus, Severity
from tests.support.paths import ROOT
from tests.support.recordings import RECORDINGS, run

pytestmark = pytest.mark.consumers

GO = ROOT / "docs" / "examples" / "consumer-go"
SCRIPT = Path(__file__).parent / "reading.py"
NOW = datetime(2026, 11, 28, 9, tzinfo=UTC)
JSON = ("content-type", b"application/json")


def observations() -> Iterator[wire.Observation]:
    for path in RECORDINGS:
        if (made := run(path).observation) is not None:
            yield made


def device(name: str) -> wire.Device:
    return wire.Device(device_id=f"karcher:{name}", vendor="karcher", name=name, updated_at=NOW)


def alarm_event(sequence: int) -> wire.AlarmEvent:
    alarm = wire.Alarm(
        alarm_id=str(uuid5(NAMESPACE_URL, "alarm")),
        device_id="karcher:a",
        vendor="karcher",
        rule_id="low",
        rule_name="Low",
        severity=Severity.MAJOR,
        title="Low",
        message="Low.",
        status=AlarmStatus.ACTIVE,
        triggered_at=NOW,
        last_triggered_at=NOW,
        occurrence_count=1,
    )
    return wire.AlarmEvent(
        event_id=str(uuid5(NAMESPACE_URL, f"event-{sequence}")),
        sequence=sequence,
        event_type="triggered",
        actor="rule_engine",
        created_at=NOW,
        alarm=alarm,
        origin=wire.Origin(READINGS, 0, sequence),
    )


async def write(bootstrap: str) -> int:
    """Write what stream workers write: transactions, one of which is aborted. Returns the number of readings."""
    readings = 0
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="consumers", acks="all")
    async with producer:
        async with producer.transaction():
            for made in observations():
                key, headers = made.device_id.encode(), [JSON, ("ce_id", made.id.encode())]
                await producer.send(READINGS, wire.encode(made), key=key, headers=headers)
                readings += len(made.readings)
            for sequence in (1, 2):
                event = alarm_event(sequence)
                headers = [JSON, ("ce_id", event.event_id.encode())]
                await producer.send(ALARMS, wire.encode(event), key=b"karcher:a", headers=headers)
            for name in ("a", "b"):
                await producer.send(DEVICES, wire.encode(device(name)), key=f"karcher:{name}".encode())
            await producer.send(DEVICES, None, key=b"karcher:b")
        await producer.begin_transaction()
        aborted = alarm_event(3)
        await producer.send_and_wait(ALARMS, wire.encode(aborted), key=b"karcher:a", headers=[JSON, ("ce_id", b"x")])
        await producer.abort_transaction()
    return readings


def output(command: list[str], folder: Path) -> list[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


async def test_three_clients_read_the_same(kafka: str, tmp_path: Path) -> None:
    await declare_topics(KafkaSettings(bootstrap_servers=kafka), topic_specs())
    readings = await write(kafka)
    by_go = output(["go", "run", ".", kafka], GO)
    by_aiokafka = output([sys.executable, str(SCRIPT), "aiokafka", kafka], tmp_path)
    by_confluent = output([os.environ["FLEETLAKE_CONFLUENT"], str(SCRIPT), "confluent", kafka], tmp_path)
    assert sorted(by_go) == sorted(by_aiokafka) == sorted(by_confluent)
    assert sum(line.startswith("reading ") for line in by_go) == readings > 100
    assert [line.split()[3:] for line in by_go if line.startswith("alarm ")] == [
        ["1", "triggered", "active"],
        ["2", "triggered", "active"],
    ]
    assert [line for line in by_go if line.startswith("device ")] == ["device karcher:a a"]
