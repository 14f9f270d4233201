"""The dead letters of the lake: messages that could not be used, and whether each can be put back now.

A message is put back as it was (the raw record, by its origin). Only messages of which nothing was used are put back:
of a message with a single bad field, the other fields would be stored twice.

A message that a connector refused never was a raw record. The connector's own code reads it once more, with what the
registry knows now, if the letter holds all of it. It gets the id that it would have had, so that a later copy from the
vendor is a duplicate of it.
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
from deltalake.exceptions import TableNotFoundError

from connectors.common.reprocessing import RefusedMessage, Reprocessing
from schemas.envelope import Envelope
from sinks.delta.location import LakeLocation

# Why a letter cannot be put back.
USED = "the rest of the message was used and would be stored twice"
DONE = "it was put back already"
SAME = "another letter holds the same message"
PREFIX = "the connector refused it, and only its beginning was kept, or it is masked"
FACTS = "the connector refused it, and the letter alone does not hold enough to read it once more"
UNKNOWN_MACHINE = "no registry knows its machine yet"
REFUSED = "the connector would still refuse it"
BEHIND = "it is a record made of a raw record: `fleetlake replay` makes the tables anew"
GONE = "its raw record is gone from Kafka, and the dead letter holds only a part of it"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter of the lake; `kept_back` is the reason why it cannot be put back, if so."""

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
    """What the connector makes of it now, if a connector refused it."""

    @property
    def origin(self) -> tuple[str, int, int] | None:
        """Topic, partition and offset of its raw record."""
        if self.origin_topic is None or self.origin_partition is None or self.origin_offset is None:
            return None
        return self.origin_topic, self.origin_partition, self.origin_offset


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters; None, or an empty tuple, matches any."""

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
        letters = [_reread(letter, refused) for letter in _rows(sql, _LETTERS)]
        stored = {row[0] for row in sql.execute(_STORED).fetchall()}
    return [letter for letter in _once(letters, stored) if _matches(letter, chosen)]


_BY_CONNECTOR = "(l.stage = 'connector' OR l.origin_topic IS NULL)"
_STORED = """
SELECT message_id FROM readings_lake UNION SELECT message_id FROM events_lake
UNION SELECT message_id FROM letters WHERE origin_topic IS NOT NULL"""
_LETTERS = f"""
WITH stored AS (
  SELECT message_id, origin_topic, origin_partition, origin_offset FROM readings_lake
  UNION ALL SELECT message_id, origin_topic, origin_partition, origin_offset FROM events_lake
)
SELECT l.* EXCLUDE (received_date), CASE
  WHEN {_BY_CONNECTOR} THEN NULL
  WHEN NOT starts_with(l.origin_topic, 'telemetry.raw.') THEN '{BEHIND}'
  WHEN EXISTS (FROM stored t WHERE t.origin_topic = l.origin_topic AND t.origin_partition = l.origin_partition
    AND t.origin_offset = l.origin_offset) THEN '{USED}'
  WHEN EXISTS (FROM stored t WHERE t.message_id = l.message_id AND t.origin_topic = l.origin_topic
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
    return {letter.message_id: _reprocess(letter, reprocessing) for letter in _rows(sql, query)}


def _reprocess(letter: Letter, reprocessing: Reprocessing) -> Letter:
    data = letter.payload.encode()
    if hashlib.sha256(data).hexdigest() != letter.payload_sha256:
        return replace(letter, kept_back=PREFIX)
    outcome = reprocessing(RefusedMessage(letter.message_type or "", data, letter.device_id, letter.received_at))
    if outcome is None:
        return replace(letter, kept_back=FACTS)
    if outcome.envelopes:
        return replace(letter, envelopes=tuple(outcome.envelopes))
    reasons = [problem.reason for refusal in outcome.dead_letters for problem in refusal.problems]
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


def _reread(letter: Letter, refused: Mapping[str, Letter]) -> Letter:
    return refused.get(letter.message_id, letter) if letter.origin is None else letter


def _once(letters: Iterable[Letter], stored: Collection[str]) -> Iterator[Letter]:
    """Keep back letters of connectors whose messages have been stored since, or that another letter holds, too."""
    first: set[str] = set()
    for letter in letters:
        ids = {envelope.id for envelope in letter.envelopes}
        if ids and ids <= set(stored):
            yield replace(letter, kept_back=DONE)
        elif ids and ids <= first:
            yield replace(letter, kept_back=SAME)
        else:
            yield letter
        first |= ids


def _of_letters(sql: duckdb.DuckDBPyConnection, location: LakeLocation, name: str, more: Sequence[str]) -> pa.Table:
    """The rows of the messages that the letters name, and of `more`, in a table of the lake."""
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


def _matches(letter: Letter, chosen: LetterFilter) -> bool:
    return (
        chosen.vendor in (None, letter.vendor)
        and chosen.stage in (None, letter.stage)
        and (chosen.reason is None or any(problem.get("reason") == chosen.reason for problem in letter.problems))
        and (chosen.since is None or letter.received_at >= chosen.since)
        and (not chosen.message_ids or letter.message_id in chosen.message_ids)
    )


def summary(letters: Iterable[Letter]) -> Iterator[dict[str, Any]]:
    """Letters counted by vendor, stage, message type and the first problem's reason."""
    counts: dict[tuple[str, ...], list[int]] = {}
    for letter in letters:
        reason = letter.problems[0].get("reason", "") if letter.problems else ""
        key: tuple[str, ...] = (letter.vendor or "", letter.stage, letter.message_type or "", reason)
        count = counts.setdefault(key, [0, 0])
        count[0] += 1
        count[1] += letter.kept_back is None
    for key, (total, replayable) in sorted(counts.items(), key=lambda item: -item[1][0]):
        names = ("vendor", "stage", "message type", "reason")
        yield {**dict(zip(names, key, strict=True)), "letters": total, "can go back": replayable}
