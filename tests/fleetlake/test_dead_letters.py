"""Dead letters are listed with why they do not go back, and go back once."""

from __future__ import annotations

from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from msgspec.structs import replace

from connectors.common.dead_letters import MessageSource, dead_letter
from connectors.karcher import protocol as karcher
from fleetlake.ops.dead_letters import (
    BEHIND,
    DONE,
    FACTS,
    GONE,
    PREFIX,
    REFUSED,
    SAME,
    UNKNOWN_MACHINE,
    USED,
    LetterFilter,
    read_letters,
    summary,
)
from fleetlake.ops.put_back import put_back
from runtime.kafka import KafkaSettings
from schemas import wire
from schemas.envelope import Envelope
from schemas.topics import DEAD_LETTER, DEVICES, READINGS, raw_topic
from sinks.delta.lake_writer import LakeWriter
from sinks.delta.location import LakeLocation
from sinks.delta.tables import TABLES
from sinks.settings import DeltaSettings
from sinks.writer import Slice
from streams.normalise import operator as steps
from tests.fleetlake.raw_records import DEVICE, START, located, produced, replay
from tests.support.lake import rows
from tests.support.records import record_of

HALF_BAD = b'{"type": "datapoints", "data": {"location": {"coordinateX": 5}, "batteryChargeLevel": []}, "timestamp": 1}'


def a_bug(envelope: Envelope, *more: Any) -> Any:
    if b'"coordinateX": 6000' in envelope.data:
        raise RuntimeError("a bug that will be mended")
    return normalise(envelope, *more)


normalise = steps.normalise


async def test_a_message_goes_back_once_and_is_normalised_again(
    kafka: str,
    vendor: str,
    tmp_path: Path,
) -> None:
    options = KafkaSettings(bootstrap_servers=kafka)
    half = Envelope("half", "karcher.datapoints", "t", DEVICE, START, HALF_BAD)
    await produced(kafka, vendor, [(70, half)])
    with mock.patch.object(steps, "normalise", a_bug):
        await replay(kafka, tmp_path / "before", tmp_path, 0).run([vendor], print)
    before = LakeLocation(str(tmp_path / "before" / "lake"))
    letters = read_letters(before, LetterFilter())
    assert {(one.message_id, one.kept_back) for one in letters} == {
        (located(61, 6000).id, None),
        ("broken", None),
        ("half", USED),
    }
    assert {(row["reason"], row["letters"], row["can go back"]) for row in summary(letters)} >= {
        ("internal_error", 1, 1)
    }
    chosen = read_letters(before, LetterFilter(reason="internal_error"))
    assert [(letter.message_id, why) for letter, why in await put_back(options, before, chosen, "1")] == [
        (located(61, 6000).id, None)
    ]
    await put_back(options, before, chosen, "1")  # the same attempt makes a duplicate
    await put_back(options, before, read_letters(before, LetterFilter(message_ids=("half", "broken"))), "1")

    with mock.patch.object(steps, "normalise", _until_put_back):
        await replay(kafka, tmp_path / "after", tmp_path, 0).run([vendor], print)
    after = LakeLocation(str(tmp_path / "after" / "lake"))
    numbers = [row["value_number"] for row in rows(tmp_path / "after", "readings") if row["metric"] == "position.x"]
    assert sorted(numbers) == [0.0, 0.005, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    states = [(one.message_id, one.kept_back) for one in read_letters(after, LetterFilter())]
    assert sorted(states, key=str) == sorted(
        [(located(61, 6000).id, DONE), ("half", USED), ("broken", DONE), ("broken", None)], key=str
    )


def _until_put_back(envelope: Envelope, *more: Any) -> Any:
    return normalise(envelope, *more) if envelope.attributes.get("replay") else a_bug(envelope, *more)


async def test_what_does_not_go_back_says_why(kafka: str, vendor: str, tmp_path: Path) -> None:
    lake = LakeWriter(tmp_path, DeltaSettings(), {table.topic: "1" for table in TABLES})
    lake.open()
    topic = raw_topic(vendor)

    def letter(name: str, stage: str, origin: wire.Origin | None) -> bytes:
        return wire.encode(
            wire.DeadLetter(
                name, stage, START, [wire.Problem("", "x")], "{}", 2, "0" * 64, DEVICE, "karcher", "karcher.x", origin
            )
        )

    values = [
        letter("refused", "connector", None),
        letter("behind", "sink", wire.Origin(READINGS, 0, 5)),
        letter("gone", "normalise", wire.Origin(topic, 1, 1)),
    ]
    records = [record_of(value, topic=DEAD_LETTER, offset=n) for n, value in enumerate(values)]
    lake.write(DEAD_LETTER, [Slice(0, None, 3, list(records))])
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(3)})
    await admin.close()
    location = LakeLocation(str(tmp_path / "lake"))
    outcomes = await put_back(
        KafkaSettings(bootstrap_servers=kafka), location, read_letters(location, LetterFilter()), "1"
    )
    assert {one.message_id: why for one, why in outcomes} == {"refused": PREFIX, "behind": BEHIND, "gone": GONE}


STATUS = (
    b'{"machineId": "m1", "states": [{"name": "batteryChargeLevel", "value": "0.55"}], "lastContact": "2026-11-20"}'
)
BODY = b'{"readings": [{"sensor_type": "temperature", "value": 21.5}]}'


def refused(kind: str, payload: bytes, vendor: str, minute: int, device: str | None = None) -> wire.DeadLetter:
    return dead_letter(
        payload,
        MessageSource(vendor, kind, START + timedelta(minutes=minute), device),
        wire.Problem(path="", reason="x"),
        redacted=True,
    )


async def test_what_a_connector_refused_goes_back_once_it_would_be_taken(
    kafka: str,
    vendor: str,
    tmp_path: Path,
) -> None:
    [status] = karcher.status(STATUS, {}, START).dead_letters
    sample = [
        replace(status, vendor=vendor),
        refused(karcher.STATUS, STATUS, vendor, 1),
        refused(karcher.STATUS, STATUS.replace(b"m1", b"m2"), vendor, 2),
        refused("climasense.telemetry", BODY, vendor, 3, "climasense:cs-1"),
        refused("climasense.telemetry", b'{"readings": []}', vendor, 4, "climasense:cs-1"),
        refused("wayscloud.publish", b"21", vendor, 5, "wayscloud:1"),
        dead_letter(
            b'{"a": "' + b"b" * 600,
            MessageSource(vendor, "karcher.status", START),
            wire.Problem(path="", reason=""),
        ),
    ]
    written(tmp_path, "1", DEAD_LETTER, *sample)
    location, options = LakeLocation(str(tmp_path / "lake")), KafkaSettings(bootstrap_servers=kafka)
    assert whys(location, sample) == [UNKNOWN_MACHINE] * 3 + [None, f"{REFUSED}: out_of_range", FACTS, PREFIX]

    machine = wire.Device(device_id=DEVICE, vendor="karcher", updated_at=START, attributes={"machineId": "m1"})
    written(tmp_path, "1", DEVICES, machine)
    assert whys(location, sample)[:3] == [None, SAME, UNKNOWN_MACHINE]
    for attempt in ("1", "2"):
        outcomes = await put_back(options, location, read_letters(location, LetterFilter()), attempt)
        assert sum(why is None for _, why in outcomes) == 2

    after = tmp_path / "after"
    await replay(kafka, after, tmp_path, 0).run([vendor], print)
    told_since = [
        row for row in rows(after, "readings") if row["metric"] in ("battery.level", "environment.temperature")
    ]
    assert sorted((row["device_id"], row["value_number"]) for row in told_since) == [
        ("climasense:cs-1", 21.5),
        (DEVICE, 55.0),
    ]
    assert {row["received_at"].replace(tzinfo=UTC) for row in told_since} == {START, START + timedelta(minutes=3)}
    written(after, "replay", DEVICES, machine)
    written(after, "replay", DEAD_LETTER, *sample)
    assert whys(LakeLocation(str(after / "lake")), sample)[:4] == [DONE, DONE, UNKNOWN_MACHINE, DONE]


def whys(location: LakeLocation, sample: list[wire.DeadLetter]) -> list[str | None]:
    outcomes = {letter.message_id: letter.kept_back for letter in read_letters(location, LetterFilter())}
    return [outcomes[letter.id] for letter in sample]


def written(data: Path, topic_id: str, topic: str, *values: wire.DeadLetter | wire.Device) -> None:
    lake = LakeWriter(data, DeltaSettings(), {table.topic: topic_id for table in TABLES})
    lake.open()
    first = lake.stored(topic, [0])[0]
    records = [record_of(wire.encode(v), topic=topic, offset=(first or 0) + n) for n, v in enumerate(values)]
    lake.write(topic, [Slice(0, first, (first or 0) + len(values), list(records))])
