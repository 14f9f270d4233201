"""Puts the messages of dead letters back on their raw topics.

A raw record is marked with `ce_replay`, so that the normaliser does not take it for a duplicate. A message that a
connector refused is marked with `ce_deadletter`, the letter's id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

import pyarrow.dataset as ds
from aiokafka import AIOKafkaProducer, TopicPartition
from deltalake.exceptions import TableNotFoundError

from fleetlake.ops.dead_letters import GONE, Letter
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import ReadLimits, Span, committed_consumer, read_spans, spans_of
from schemas.envelope import Envelope
from schemas.topics import MAX_MESSAGE_BYTES, raw_topic
from sinks.delta.location import LakeLocation

REPLAY = "ce_replay"
LETTER = "ce_deadletter"
_ONE_RECORD = ReadLimits(batch_records=1)

_Raw = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes | None]]]
"""Key, value and headers of a raw record."""


async def put_back(
    kafka: KafkaSettings, location: LakeLocation, chosen: Sequence[Letter], attempt: str
) -> list[tuple[Letter, str | None]]:
    """Put the messages of these letters back on their raw topics; returns each with None, or why it was kept back.

    Delivery: at least once. The normaliser drops the same message with the same `attempt` as a duplicate, within its
    window, and a message that a connector refused whatever the attempt. A raw record that Kafka has expired is taken
    from the table `raw`, or from the letter if that holds all of it.
    """
    outcomes: list[tuple[Letter, str | None]] = [(letter, letter.kept_back) for letter in chosen if letter.kept_back]
    open_letters = [letter for letter in chosen if not letter.kept_back]
    in_kafka = await _raw_records(kafka, [letter.origin for letter in open_letters if letter.origin])
    async with AIOKafkaProducer(
        **client_options(kafka), enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    ) as producer:
        for letter in open_letters:
            if letter.envelopes:
                await _send_envelopes(producer, letter)
                outcomes.append((letter, None))
                continue
            origin = letter.origin
            assert origin is not None
            raw = in_kafka.get(origin) or _from_table(location, origin) or _from_letter(letter)
            if raw is not None:
                await _send_raw(producer, origin, raw, attempt)
            outcomes.append((letter, GONE if raw is None else None))
    return outcomes


async def _send_envelopes(producer: AIOKafkaProducer, letter: Letter) -> None:
    for envelope in letter.envelopes:
        headers = [*envelope.headers(), (LETTER, letter.message_id.encode())]
        await producer.send_and_wait(raw_topic(letter.vendor or ""), envelope.data, envelope.key, headers=headers)


async def _send_raw(producer: AIOKafkaProducer, origin: tuple[str, int, int], raw: _Raw, attempt: str) -> None:
    key, value, headers = raw
    marked = [(name, text) for name, text in headers if name.lower() != REPLAY]
    await producer.send_and_wait(origin[0], value, key, origin[1], headers=[*marked, (REPLAY, attempt.encode())])


async def _raw_records(
    kafka: KafkaSettings, origins: Iterable[tuple[str, int, int]]
) -> dict[tuple[str, int, int], _Raw]:
    """The raw records at these origins that Kafka still has."""
    raw: dict[tuple[str, int, int], _Raw] = {}
    offsets: dict[TopicPartition, list[int]] = {}
    for topic, number, offset in sorted(set(origins)):
        offsets.setdefault(TopicPartition(topic, number), []).append(offset)
    if not offsets:
        return raw
    async with committed_consumer(client_options(kafka)) as consumer:
        for partition, wanted in offsets.items():
            await load_metadata(consumer, partition.topic)
            consumer.assign([partition])
            span = (await spans_of(consumer, [partition]))[partition]
            for offset in wanted:
                if span.start <= offset < span.end:
                    async for batch in read_spans(consumer, {partition: Span(offset, offset + 1)}, _ONE_RECORD):
                        for record in batch.records:
                            raw[(*partition, offset)] = (record.key, record.value, record.headers)
    return raw


def _from_table(location: LakeLocation, origin: tuple[str, int, int]) -> _Raw | None:
    try:
        table = location.open("raw").to_pyarrow_dataset()
    except TableNotFoundError:
        return None
    here = (
        (ds.field("origin_topic") == origin[0])
        & (ds.field("origin_partition") == origin[1])
        & (ds.field("origin_offset") == origin[2])
    )
    for row in table.to_table(columns=["device_id", "value", "headers"], filter=here).to_pylist():
        headers = [(name, (value or "").encode()) for name, value in json.loads(row["headers"])]
        return row["device_id"].encode(), row["value"], headers
    return None


def _from_letter(letter: Letter) -> _Raw | None:
    """The letter's own payload if it is complete; a masked or cut one does not match its digest."""
    data = letter.payload.encode()
    if hashlib.sha256(data).hexdigest() != letter.payload_sha256 or not (letter.device_id and letter.message_type):
        return None
    envelope = Envelope(
        letter.message_id, letter.message_type, "fleetlake/dead-letter", letter.device_id, letter.received_at, data
    )
    return envelope.key, data, envelope.headers()
