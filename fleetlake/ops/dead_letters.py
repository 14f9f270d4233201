"""`fleetlake dead-letters`: what could not be used, and putting it back on its raw topic once it can be.

A message goes back as it was (the raw record, by its origin), marked with `ce_replay`, so that the normaliser does not
take it for a repeat. Only messages of which nothing was used go back: of one with a single bad field, the others would
be told twice.

What a connector refused never was a raw record. It is given to the connector's own reading again, with what the
registry knows now, if the letter holds all of it; it gets the id it would have had, so that it is one message with
what the vendor may tell again, and is marked with `ce_deadletter`, the letter's id.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from deltalake.exceptions import TableNotFoundError

from connectors.common.reprocessing import RefusedMessage, Reprocessing
from runtime.aiokafka_internals.consumers import load_metadata
from runtime.kafka import KafkaSettings, client_options
from schemas.envelope import Envelope
from schemas.topics import MAX_MESSAGE_BYTES, raw_topic
from sinks.delta.location import LakeLocation

REPLAY = "ce_replay"
LETTER = "ce_deadletter"
FETCH_MS = 5000

# Why a letter does not go back.
USED = "the rest of the message was used; going back, it would be told twice"
DONE = "it has gone back already"
SAME = "another letter holds the same message"
PREFIX = "the connector refused it, and only its beginning was kept, or it is masked"
FACTS = "the connector refused it, and the letter alone does not say enough to read it again"
UNKNOWN_MACHINE = "no registry knows its machine yet"
REFUSED = "the connector would refuse it again"
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
    envelopes: tuple[Envelope, ...] = field(default=(), repr=False)
    """What a connector makes of it now, where it was one that refused it."""

    @property
    def origin(self) -> tuple[str, int, int] | None:
        """Where its raw record stands."""
        if self.origin_topic is None or self.origin_partition is None or self.origin_offset is None:
            return None
        return self.origin_topic, self.origin_partition, self.origin_offset


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters."""

    vendor: str | None = None
    stage: str | None = None
    reason: str | None = None
    since: datetime | None = None
    message_ids: tuple[str, ...] = ()


def read_letters(location: LakeLocation, chosen: LetterFilter) -> list[Letter]:
    """The dead letters of the lake, oldest first. TableNotFoundError where there is no lake yet."""
    with duckdb.connect() as sql:
        sql.register("dead_letters", location.open("dead_letters").to_pyarrow_dataset())
        sql.execute("CREATE TABLE letters AS FROM dead_letters")
        refused = _refused(sql, Reprocessing(_registry(location)))
        ids = sorted({envelope.id for letter in refused.values() for envelope in letter.envelopes})
        for name in ("readings", "events"):
            sql.register(f"{name}_lake", _of_letters(sql, location, name, ids))
        found = [_judged(letter, refused) for letter in _rows(sql, _LETTERS)]
        told = {row[0] for row in sql.execute(_TOLD).fetchall()}
    return [letter for letter in _once(found, told) if _is_wanted(letter, chosen)]


_BY_CONNECTOR = "(l.stage = 'connector' OR l.origin_topic IS NULL)"
_TOLD = """
SELECT message_id FROM readings_lake UNION SELECT message_id FROM events_lake
UNION SELECT message_id FROM letters WHERE origin_topic IS NOT NULL"""
_LETTERS = f"""
WITH told AS (
  SELECT message_id, origin_topic, origin_partition, origin_offset FROM readings_lake
  UNION ALL SELECT message_id, origin_topic, origin_partition, origin_offset FROM events_lake
)
SELECT l.* EXCLUDE (received_date), CASE
  WHEN {_BY_CONNECTOR} THEN NULL
  WHEN NOT starts_with(l.origin_topic, 'telemetry.raw.') THEN '{BEHIND}'
  WHEN EXISTS (FROM told t WHERE t.origin_topic = l.origin_topic AND t.origin_partition = l.origin_partition
    AND t.origin_offset = l.origin_offset) THEN '{USED}'
  WHEN EXISTS (FROM told t WHERE t.message_id = l.message_id AND t.origin_topic = l.origin_topic
    AND t.origin_offset > l.origin_offset) THEN '{DONE}'
  WHEN EXISTS (FROM letters m WHERE m.message_id = l.message_id AND m.origin_topic = l.origin_topic
    AND m.origin_offset > l.origin_offset) THEN '{DONE}'
END AS kept_back FROM letters l ORDER BY received_at, message_id, origin_offset"""


def _rows(sql: duckdb.DuckDBPyConnection, query: str) -> list[Letter]:
    rows = sql.execute(query)
    names = [column[0] for column in rows.description or ()]
    return [_letter(dict(zip(names, row, strict=True))) for row in rows.fetchall()]


def _refused(sql: duckdb.DuckDBPyConnection, reprocessing: Reprocessing) -> dict[str, Letter]:
    """The letters of connectors by id, each with what would become of it now."""
    query = f"SELECT l.* EXCLUDE (received_date), NULL AS kept_back FROM letters l WHERE {_BY_CONNECTOR}"
    return {letter.message_id: _read_again(letter, reprocessing) for letter in _rows(sql, query)}


def _read_again(letter: Letter, reprocessing: Reprocessing) -> Letter:
    data = letter.payload.encode()
    if hashlib.sha256(data).hexdigest() != letter.payload_sha256:
        return replace(letter, kept_back=PREFIX)
    taken = reprocessing(RefusedMessage(letter.message_type or "", data, letter.device_id, letter.received_at))
    if taken is None:
        return replace(letter, kept_back=FACTS)
    if taken.envelopes:
        return replace(letter, envelopes=tuple(taken.envelopes))
    reasons = [problem.reason for refusal in taken.dead_letters for problem in refusal.problems]
    unknown = reasons == ["unknown_machine"]
    return replace(letter, kept_back=UNKNOWN_MACHINE if unknown else f"{REFUSED}: {', '.join(reasons)}")


def _registry(location: LakeLocation) -> dict[str, dict[str, Mapping[str, Any]]]:
    """By vendor, the attributes of each registered device, as its latest entry has them."""
    try:
        table = location.open("devices").to_pyarrow_dataset()
    except TableNotFoundError:
        return {}
    registry: dict[str, dict[str, Mapping[str, Any]]] = {}
    with duckdb.connect() as sql:
        sql.register("devices", table)
        for vendor, device, attributes in sql.execute(_REGISTERED).fetchall():
            registry.setdefault(vendor, {})[device] = json.loads(attributes or "{}")
    return registry


_REGISTERED = """
SELECT vendor, device_id, attributes FROM (
  SELECT unnest(max_by({attributes: attributes, deleted: deleted, registered: registered, received_at: received_at,
    origin_offset: origin_offset}, (received_at, origin_offset))), vendor, device_id
  FROM devices GROUP BY vendor, device_id
) WHERE registered AND NOT deleted ORDER BY received_at, origin_offset"""


def _judged(letter: Letter, refused: Mapping[str, Letter]) -> Letter:
    return refused.get(letter.message_id, letter) if letter.origin is None else letter


def _once(found: Iterable[Letter], told: Collection[str]) -> Iterator[Letter]:
    """Of what connectors refused: what the tables have been told since, and what another letter holds, stays."""
    first: set[str] = set()
    for letter in found:
        ids = {envelope.id for envelope in letter.envelopes}
        if ids and ids <= set(told):
            yield replace(letter, kept_back=DONE)
        elif ids and ids <= first:
            yield replace(letter, kept_back=SAME)
        else:
            yield letter
        first |= ids


def _of_letters(sql: duckdb.DuckDBPyConnection, location: LakeLocation, name: str, more: Sequence[str]) -> pa.Table:
    """What the lake has of the messages that letters speak of, and of `more`."""
    columns = ["message_id", "origin_topic", "origin_partition", "origin_offset"]
    ids = [row[0] for row in sql.execute("SELECT DISTINCT message_id FROM letters").fetchall()] + list(more)
    try:
        table = location.open(name).to_pyarrow_dataset()
    except TableNotFoundError:
        return pa.table({column: pa.array([], pa.string()) for column in columns})
    return table.to_table(columns=columns, filter=ds.field("message_id").isin(ids))


def _letter(row: dict[str, Any]) -> Letter:
    known = {name: row[name] for name in Letter.__dataclass_fields__ if name in row}
    known["problems"] = json.loads(row["problems"] or "[]")
    known["received_at"] = row["received_at"].replace(tzinfo=UTC)
    return Letter(**known)


def _is_wanted(letter: Letter, chosen: LetterFilter) -> bool:
    return (
        chosen.vendor in (None, letter.vendor)
        and chosen.stage in (None, letter.stage)
        and (chosen.reason is None or any(problem.get("reason") == chosen.reason for problem in letter.problems))
        and (chosen.since is None or letter.received_at >= chosen.since)
        and (not chosen.message_ids or letter.message_id in chosen.message_ids)
    )


async def put_back(
    kafka: KafkaSettings, location: LakeLocation, chosen: Sequence[Letter], attempt: str
) -> list[tuple[Letter, str | None]]:
    """Put the messages of these letters back on their raw topics; each with None, or why it was kept back.

    At least once; the same message with the same `attempt` is a repeat to the normaliser, within its window, and what a
    connector refused is one whatever the attempt. A raw record that Kafka has let go is taken from the table `raw`, or
    from the letter if that holds all of it.
    """
    told: list[tuple[Letter, str | None]] = [(letter, letter.kept_back) for letter in chosen if letter.kept_back]
    open_letters = [letter for letter in chosen if not letter.kept_back]
    found = await _raw_records(kafka, [letter.origin for letter in open_letters if letter.origin])
    async with AIOKafkaProducer(
        **client_options(kafka), enable_idempotence=True, max_request_size=MAX_MESSAGE_BYTES
    ) as producer:
        for letter in open_letters:
            for envelope in letter.envelopes:
                headers = [*envelope.headers(), (LETTER, letter.message_id.encode())]
                topic = raw_topic(letter.vendor or "")
                await producer.send_and_wait(topic, envelope.data, envelope.key, headers=headers)
            if letter.envelopes:
                told.append((letter, None))
                continue
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
    places = sorted(set(origins))
    if not places:
        return found
    consumer = AIOKafkaConsumer(
        **client_options(kafka), enable_auto_commit=False, max_partition_fetch_bytes=MAX_MESSAGE_BYTES
    )
    await consumer.start()
    try:
        for topic, number, offset in places:
            await load_metadata(consumer, topic)
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
