"""Recounting the lake: by what a record is known in its table again, and how findings are put together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

_ORIGIN = "concat_ws('/', origin_topic, origin_partition, origin_offset)"


class Expected(NamedTuple):
    """A record as its table should have it: `rows` rows known by `identity`. None: it cannot be read."""

    partition: int
    offset: int
    identity: str | None
    rows: int


def expected(table: Table, record: Record) -> Expected:
    """What a record of the table's topic should be in the table."""
    try:
        identity, rows = _identity(table, record)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Expected(record.partition, record.offset, None, 0)
    return Expected(record.partition, record.offset, identity, rows)


def identity_sql(table: Table) -> str:
    """The same identity as SQL over the table's columns."""
    if table.record is wire.AlarmEvent:
        return "event_id"
    if table.record is wire.DeadLetter:
        return f"concat_ws('|', message_id, stage, nullif({_ORIGIN}, ''))"
    return _ORIGIN


def identity_columns(table: Table) -> list[str]:
    """The columns that identity takes."""
    origin = ["origin_topic", "origin_partition", "origin_offset"]
    if table.record is wire.AlarmEvent:
        return ["event_id"]
    return ["message_id", "stage", *origin] if table.record is wire.DeadLetter else origin


def _identity(table: Table, record: Record) -> tuple[str, int]:
    value = record.value or b""
    if table.record in (wire.Observation, wire.EventSet):
        found = _exploded(value)
        return _origin(found.origin), len(found.readings) + len(found.events)
    if table.record is wire.AlarmEvent:
        return _alarm_event(value).event_id, 1
    if table.record is wire.DeadLetter:
        letter = _letter(value)
        return "|".join([letter.id, letter.stage] + ([_origin(letter.origin)] if letter.origin else [])), 1
    return f"{record.topic}/{record.partition}/{record.offset}", 1


def _origin(origin: _Origin) -> str:
    return f"{origin.topic}/{origin.partition}/{origin.offset}"


@dataclass(slots=True)
class Problem:
    """Something that is not as it should be.

    `kind`: `hole` (records without their rows), `double` (rows more than once), `extra` (rows of no record), `expired`
    (records that Kafka let go before they were written), `file` (a file that is gone or cut), `offset` (a stored offset
    past the log's end), `log` (the table's log is torn). Offsets are those of `topic`, where the kind has any.
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
class Recount:
    """One partition of a table's topic: what Kafka holds from `begin` to `end`, what of it the lake has stored."""

    table: str
    topic: str
    partition: int
    begin: int
    end: int
    stored: int | None
    records: int = 0
    rows: int = 0
    problems: list[Problem] = field(default_factory=list)


def runs(offsets: Sequence[tuple[int, int, int]]) -> Iterator[tuple[int, int, int, int, int]]:
    """Sorted (partition, offset, rows off) as runs without another offset of the list's topic between them:
    (partition, first, last, records, rows). Offsets next to each other, bar one of a transaction marker, are one run.
    """
    run: list[tuple[int, int, int]] = []
    for one in offsets:
        if run and (one[0] != run[-1][0] or one[1] - run[-1][1] > 2):
            yield _run(run)
            run = []
        run.append(one)
    if run:
        yield _run(run)


def _run(run: Iterable[tuple[int, int, int]]) -> tuple[int, int, int, int, int]:
    found = list(run)
    return found[0][0], found[0][1], found[-1][1], len(found), sum(one[2] for one in found)
