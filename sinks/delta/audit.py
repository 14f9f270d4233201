"""Auditing the lake: how a record is identified in its table, and how differences become problems. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from schemas import wire
from schemas.consumed import Record
from sinks.delta.tables import Table


class _Origin(msgspec.Struct, gc=False):
    topic: str
    partition: int
    offset: int


class _Exploded(msgspec.Struct, gc=False):
    origin: _Origin
    readings: list[msgspec.Raw] = []
    events: list[msgspec.Raw] = []


class _AlarmEvent(msgspec.Struct, gc=False):
    event_id: str


class _Letter(msgspec.Struct, gc=False):
    id: str
    stage: str
    origin: _Origin | None = None


_exploded = msgspec.json.Decoder(_Exploded).decode
_alarm_event = msgspec.json.Decoder(_AlarmEvent).decode
_letter = msgspec.json.Decoder(_Letter).decode


@dataclass(frozen=True, slots=True)
class Identity:
    """How a record is identified in its table: the same text from the record and from the rows.

    `of_record` returns the identity and the number of rows. It raises msgspec's errors or UnicodeDecodeError for a
    record that cannot be read. `sql` computes the identity from the `columns` of a row.
    """

    columns: tuple[str, ...]
    sql: str
    of_record: Callable[[Record], tuple[str, int]]


def _of_exploded(record: Record) -> tuple[str, int]:
    exploded = _exploded(record.value or b"")
    return _origin(exploded.origin), len(exploded.readings) + len(exploded.events)


def _of_alarm_event(record: Record) -> tuple[str, int]:
    return _alarm_event(record.value or b"").event_id, 1


def _of_letter(record: Record) -> tuple[str, int]:
    letter = _letter(record.value or b"")
    return "|".join([letter.id, letter.stage] + ([_origin(letter.origin)] if letter.origin else [])), 1


def _of_offset(record: Record) -> tuple[str, int]:
    return f"{record.topic}/{record.partition}/{record.offset}", 1


def _origin(origin: _Origin) -> str:
    return f"{origin.topic}/{origin.partition}/{origin.offset}"


_ORIGIN_COLUMNS = ("origin_topic", "origin_partition", "origin_offset")
_ORIGIN = "concat_ws('/', origin_topic, origin_partition, origin_offset)"
_EXPLODED = Identity(_ORIGIN_COLUMNS, _ORIGIN, _of_exploded)
_WHOLE = Identity(_ORIGIN_COLUMNS, _ORIGIN, _of_offset)
_IDENTITIES: dict[type[msgspec.Struct] | None, Identity] = {
    wire.Observation: _EXPLODED,
    wire.EventSet: _EXPLODED,
    wire.AlarmEvent: Identity(("event_id",), "event_id", _of_alarm_event),
    wire.DeadLetter: Identity(
        ("message_id", "stage", *_ORIGIN_COLUMNS),
        f"concat_ws('|', message_id, stage, nullif({_ORIGIN}, ''))",
        _of_letter,
    ),
}


def identity_of(table: Table) -> Identity:
    """Return how records are identified in a table; by the record's own offset unless its kind says otherwise."""
    return _IDENTITIES.get(table.record, _WHOLE)


class ExpectedRows(NamedTuple):
    """What a table should hold of a record: `rows` rows with `identity`, which is None if the record is unreadable."""

    partition: int
    offset: int
    identity: str | None
    rows: int


def expected_rows(table: Table, record: Record) -> ExpectedRows:
    """Return what the table should hold of a record of its topic."""
    try:
        identity, rows = identity_of(table).of_record(record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ExpectedRows(record.partition, record.offset, None, 0)
    return ExpectedRows(record.partition, record.offset, identity, rows)


@dataclass(slots=True)
class Problem:
    """Something that is wrong in a table.

    `kind` is `hole` (records without their rows), `double` (rows more than once), `extra` (rows of no record),
    `expired` (records that Kafka deleted before they were written), `file` (a file that is missing or truncated),
    `offset` (a stored offset past the log's end) or `log` (the table's log is damaged). Offsets are those of `topic`,
    for kinds that have any.
    """

    kind: str
    table: str
    detail: str
    topic: str = ""
    partition: int | None = None
    first_offset: int | None = None
    last_offset: int | None = None
    count: int = 1


@dataclass(slots=True)
class PartitionAudit:
    """One partition of a table's topic: Kafka holds `begin` to before `end`, the lake stores up to before `stored`."""

    table: str
    topic: str
    partition: int
    begin: int
    end: int
    stored: int | None
    records: int = 0
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)


class OffsetRun(NamedTuple):
    """Neighbouring offsets of one partition, how many records they are, and by how many rows these are off."""

    partition: int
    first: int
    last: int
    records: int = 1
    rows: int = 1


def offset_runs(offsets: Sequence[tuple[int, int, int]]) -> Iterator[OffsetRun]:
    """Join sorted (partition, offset, rows off) to runs.

    Offsets are neighbours if at most one offset lies between them: a transaction's marker takes one.
    """
    run: OffsetRun | None = None
    for partition, offset, rows in offsets:
        if run is None or partition != run.partition or offset - run.last > 2:
            if run is not None:
                yield run
            run = OffsetRun(partition, offset, offset, 1, rows)
        else:
            run = OffsetRun(partition, run.first, offset, run.records + 1, run.rows + rows)
    if run is not None:
        yield run


def offset_problems(audit: PartitionAudit) -> list[Problem]:
    """Return what is wrong with a partition's stored offset."""
    if audit.stored is None:
        return []
    if audit.stored > audit.end:
        why = f"offset {audit.stored} is stored as the next, and the log ends at {audit.end}"
        return [_of_partition(audit, "offset", why, audit.end, audit.stored)]
    if audit.stored < audit.begin:
        why = "Kafka deleted records before they were written"
        return [_of_partition(audit, "expired", why, audit.stored, audit.begin)]
    return []


def _of_partition(audit: PartitionAudit, kind: str, why: str, first: int, end: int) -> Problem:
    return Problem(kind, audit.table, why, audit.topic, audit.partition, first, end - 1, end - first)
