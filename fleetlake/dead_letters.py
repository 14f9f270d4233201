"""`fleetlake dead-letters`: what could not be used, and putting it back on its raw topic once it can be.

A message goes back as it was (the raw record, by its origin), marked with `ce_replay`, so that the normaliser does not
take it for a repeat. Only messages of which nothing was used go back: of one with a single bad field, the others would
be told twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from deltalake.exceptions import TableNotFoundError

from runtime.kafka import KafkaSettings, client_options
from schemas.envelope import Envelope
from schemas.topics import MAX_MESSAGE_BYTES
from sinks.location import LakeLocation

REPLAY = "ce_replay"
FETCH_MS = 5000

# Why a letter does not go back.
USED = "the rest of the message was used; going back, it would be told twice"
DONE = "it has gone back already"
CONNECTOR = "the connector refused it before it was a raw record"
BEHIND = "it is a record made of a raw one: `fleetlake replay` makes the tables anew"
GONE = "its raw record is gone from Kafka, and only a part of it is in the dead letter"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of the lake; `kept_back` says why it cannot be replayed, if so."""

    message_id: str
    device_id: str | None
    vendor: str | None
    stage: str
    message_type: str | None
    received_at: datetime
    problems: list[dict[str, str]]
    payload: str
    payload_bytes: int
    payload_sha256: str
    origin_topic: str | None
    origin_partition: int | None
    origin_offset: int | None
    kept_back: str | None

    @property
    def origin(self) -> tuple[str, int, int] | None:
        """Where its raw record stands."""
        if self.origin_topic is None or self.origin_partition is None or self.origin_offset is None:
            return None
        return self.origin_topic, self.origin_partition, self.origin_offset


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters."""

    vendor: str | None = None
    stage: str | None = None
    reason: str | None = None
    since: datetime | None = None
    message_ids: tuple[str, ...] = ()


def letters(location: LakeLocation, wanted: Wanted) -> list[Letter]:
    """The dead letters of the lake, oldest first. TableNotFoundError where there is no lake yet."""
    with duckdb.connect() as sql:
        sql.register("dead_letters", location.open("dead_letters").to_pyarrow_dataset())
        sql.execute("CREATE TABLE letters AS FROM dead_letters")
        for name in ("readings", "events"):
            sql.register(f"{name}_lake", _of_letters(sql, location, name))
        rows = sql.execute(_LETTERS)
        names = [column[0] for column in rows.description or ()]
        found = [_letter(dict(zip(names, row, strict=True))) for row in rows.fetchall()]
    return [letter for letter in found if _is_wanted(letter, wanted)]


_LETTERS = f"""
WITH told AS (
  SELECT message_id, origin_topic, origin_partition, origin_offset FROM readings_lake
  UNION ALL SELECT message_id, origin_topic, origin_partition, origin_offset FROM events_lake
)
SELECT l.* EXCLUDE (received_date), CASE
  WHEN l.stage IN ('connector', 'connect') OR l.origin_topic IS NULL THEN '{CONNECTOR}'
  WHEN NOT starts_with(l.origin_topic, 'telemetry.raw.') THEN '{BEHIND}'
  WHEN EXISTS (FROM told t WHERE t.origin_topic = l.origin_topic AND t.origin_partition = l.origin_partition
    AND t.origin_offset = l.origin_offset) THEN '{USED}'
  WHEN EXISTS (FROM told t WHERE t.message_id = l.message_id AND t.origin_topic = l.origin_topic
    AND t.origin_offset > l.origin_offset) THEN '{DONE}'
  WHEN EXISTS (FROM letters m WHERE m.message_id = l.message_id AND m.origin_topic = l.origin_topic
    AND m.origin_offset > l.origin_offset) THEN '{DONE}'
END AS kept_back FROM letters l ORDER BY received_at, message_id, origin_offset"""


def _of_letters(sql: duckdb.DuckDBPyConnection, location: LakeLocation, name: str) -> pa.Table:
    """What the lake has of the messages that letters speak of."""
    columns = ["message_id", "origin_topic", "origin_partition", "origin_offset"]
    ids = [row[0] for row in sql.execute("SELECT DISTINCT message_id FROM letters").fetchall()]
    try:
        table = location.open(name).to_pyarrow_dataset()
    except TableNotFoundError:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    return table.to_table(columns=columns, filter=ds.field("message_id").isin(ids))


def _letter(row: dict[str, Any]) -> Letter:
    known = {name: row[name] for name in Letter.__dataclass_fields__}
    known["problems"] = json.loads(row["problems"] or "[]")
    known["received_at"] = row["received_at"].replace(tzinfo=UTC)
    return Letter(**known)


def _is_wanted(letter: Letter, wanted: Wanted) -> bool:
    return (
        wanted.vendor in (None, letter.vendor)
        and wanted.stage in (None, letter.stage)
        and (wanted.reason is None or any(problem.get("reason") == wanted.reason for problem in letter.problems))
        and (wanted.since is None or letter.received_at >= wanted.since)
        and (not wanted.message_ids or letter.message_id in wanted.message_ids)
    )


async def put_back(
    kafka: KafkaSettings, location: LakeLocation, chosen: Sequence[Letter], attempt: str
) -> list[tuple[Letter, str | None]]:
    """Put the messages of these letters back on their raw topics; each with None, or why it was kept back.

    At least once; the same message with the same `attempt` is a repeat to the normaliser, within its window. A raw
    record that Kafka has let go is taken from the table `raw`, or from the letter if that holds all of it.
    """
    told: list[tuple[Letter, str | None]] = [(letter, letter.kept_back) for letter in chosen if letter.kept_back]
    open_letters = [letter for letter in chosen if not letter.kept_back]
    found = await _raw_records(kafka, [letter.origin for letter in open_letters if letter.origin])
    async with AIOKafkaProducer(
        **client_options(kafka), enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    ) as producer:
        for letter in open_letters:
            origin = letter.origin
            assert origin is not None
            record = found.get(origin) or _from_table(location, origin) or _from_letter(letter)
            if record is None:
                told.append((letter, GONE))
                continue
            key, value, headers = record
            marked = [(name, text) for name, text in headers if name.lower() != REPLAY]
            await producer.send_and_wait(
                origin[0], value, key, origin[1], headers=[*marked, (REPLAY, attempt.encode())]
            )
            told.append((letter, None))
    return told


_Raw = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


async def _raw_records(
    kafka: KafkaSettings, origins: Iterable[tuple[str, int, int]]
) -> dict[tuple[str, int, int], _Raw]:
    """The raw records at these places, of those that Kafka still has."""
    found: dict[tuple[str, int, int], _Raw] = {}
    consumer = AIOKafkaConsumer(
        **client_options(kafka), enable_auto_commit=False, max_partition_fetch_bytes=MAX_MESSAGE_BYTES
    )
    await consumer.start()
    try:
        for topic, number, offset in sorted(set(origins)):
            await consumer._client._wait_on_metadata(topic)
            partition = TopicPartition(topic, number)
            consumer.assign([partition])
            begin = (await consumer.beginning_offsets([partition]))[partition]
            end = (await consumer.end_offsets([partition]))[partition]
            if not begin <= offset < end:
                continue
            consumer.seek(partition, offset)
            for record in (await consumer.getmany(partition, timeout_ms=FETCH_MS, max_records=1)).get(partition, []):
                if record.offset == offset:
                    found[topic, number, offset] = (record.key, record.value, list(record.headers))
    finally:
        await consumer.stop()
    return found


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
    """The letter's own payload, if it is all of it; masked or cut, its digest does not fit."""
    data = letter.payload.encode()
    if hashlib.sha256(data).hexdigest() != letter.payload_sha256 or not (letter.device_id and letter.message_type):
        return None
    envelope = Envelope(
        letter.message_id, letter.message_type, "fleetlake/dead-letter", letter.device_id, letter.received_at, data
    )
    return envelope.key, data, envelope.headers()


def summary(found: Iterable[Letter]) -> Iterator[dict[str, Any]]:
    """Letters counted by vendor, stage, message type and the first problem's reason."""
    counts: dict[tuple[str, ...], list[int]] = {}
    for letter in found:
        reason = letter.problems[0].get("reason", "") if letter.problems else ""
        key: tuple[str, ...] = (letter.vendor or "", letter.stage, letter.message_type or "", reason)
        count = counts.setdefault(key, [0, 0])
        count[0] += 1
        count[1] += letter.kept_back is None
    for key, (letters_found, replayable) in sorted(counts.items(), key=lambda item: -item[1][0]):
        names = ("vendor", "stage", "message type", "reason")
        yield {**dict(zip(names, key, strict=True)), "letters": letters_found, "can go back": replayable}
