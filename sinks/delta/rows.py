"""From records of a topic to rows of a table, column by column. Pure.

A whole batch is decoded and turned into Arrow columns at once. Only if that fails is the batch halved, to locate the
records at fault. Times stay text until Arrow parses a whole column of them, which is what makes this quick.
"""

from __future__ import annotations

import functools
import hashlib
import json
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from schemas import envelope, wire
from schemas.consumed import Record
from schemas.timestamps import from_millis, parse_iso, to_micros
from schemas.topics import vendor_of_raw_topic
from sinks.delta.tables import DEAD_LETTERS_TABLE, TIMESTAMP, Column, Table

PAYLOAD_CHARACTERS = 4096
"""How much of an unreadable record its dead letter shows."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a batch of records, and the records that could not be read, each with the reason."""

    table: pa.Table
    unreadable: list[tuple[Record, str]]


def to_rows(table: Table, records: Sequence[Record]) -> Rows:
    """Return the rows of these records in the table's order. No content of a record raises an error."""
    rows = _attempt(table, records)
    return Rows(sorted_rows(rows.table, table.sort_by), rows.unreadable)


def dead_letter_rows(unreadable: Sequence[tuple[Record, str]]) -> pa.Table:
    """Return rows of `dead_letters` for records that could not be read; their ids derive from the records' offsets."""
    decode = _decoder(wire.DeadLetter)
    letters = [decode(wire.encode(_dead_letter(record, why))) for record, why in unreadable]
    return _columns(DEAD_LETTERS_TABLE, [record for record, _ in unreadable], letters)


def _halve(table: Table, records: Sequence[Record], error: Exception) -> Rows:
    """Locate the records at fault by halving: one among many costs little more than converting the batch twice."""
    if len(records) == 1:
        return Rows(table.schema.empty_table(), [(records[0], str(error))])
    middle = len(records) // 2
    first, second = _attempt(table, records[:middle]), _attempt(table, records[middle:])
    return Rows(pa.concat_tables([first.table, second.table]), first.unreadable + second.unreadable)


def _attempt(table: Table, records: Sequence[Record]) -> Rows:
    try:
        return Rows(_convert(table, records), [])
    except (msgspec.MsgspecError, pa.ArrowException, ValueError, OverflowError) as error:
        return _halve(table, records, error)


def _convert(table: Table, records: Sequence[Record]) -> pa.Table:
    if table.record is None:
        return _columns(table, records, list(records))
    decode = _decoder(table.record)
    return _columns(table, records, [_decode(table, decode, record) for record in records])


def _columns(table: Table, records: Sequence[Record], whole: list[Any]) -> pa.Table:
    items: list[Any] = whole
    owners: pa.Array | None = None
    if table.items:
        lists = [getattr(one, table.items) for one in whole]
        items = [item for entries in lists for item in entries]
        owners = pa.array([i for i, entries in enumerate(lists) for _ in entries], pa.int32())
    arrays = [_column(column, records, whole, items, owners) for column in table.columns]
    arrays.append(pc.cast(arrays[table.schema.get_field_index("received_at")], pa.date32(), safe=False))
    return pa.Table.from_arrays(arrays, schema=table.schema)


def _decode(table: Table, decode: Callable[[bytes], Any], record: Record) -> Any:
    if record.value is not None:
        return decode(record.value)
    device = (record.key or b"").decode()
    vendor, colon, _ = device.partition(":")
    if table.record is not wire.Device or not colon:
        raise ValueError("the record has no value")
    now = from_millis(_written_at(record))
    return decode(wire.encode(wire.Device(device_id=device, vendor=vendor, updated_at=now, registered=False)))


def _column(
    column: Column, records: Sequence[Record], whole: list[Any], items: list[Any], owners: pa.Array | None
) -> pa.Array:
    if column.source.startswith("item."):
        return _array(list(map(attrgetter(column.source.removeprefix("item.")), items)), column.type)
    values = (
        _kafka_values(column.source, records) if column.source[0] == "@" else list(map(_getter(column.source), whole))
    )
    array = _array(values, column.type)
    return array if owners is None else array.take(owners)


def _kafka_values(source: str, records: Sequence[Record]) -> list[Any]:
    match source:
        case "@time":
            return [_written_at(record) * 1000 for record in records]
        case "@deleted":
            return [record.value is None for record in records]
        case "@key":
            return [(record.key or b"").decode() for record in records]
        case "@vendor":
            return [vendor_of_raw_topic(record.topic) for record in records]
        case "@headers":
            return [_headers(record) for record in records]
        case _:
            return list(map(attrgetter(source[1:]), records))


def _written_at(record: Record) -> int:
    """When the record was written to its topic, in milliseconds.

    Where Kafka refused that time (the writer's clock was fast), the time of receipt in the headers of a raw record.
    """
    if record.timestamp >= 0:
        return record.timestamp
    received = dict(record.headers).get("ce_receivedat")
    return to_micros(parse_iso(received.decode())) // 1000 if received else 0


def _headers(record: Record) -> str:
    return json.dumps([[name, None if value is None else value.decode()] for name, value in record.headers])


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if kind == TIMESTAMP:
        first = next((value for value in values if value is not None), None)
        if isinstance(first, int):
            return pa.array(values, TIMESTAMP)
        return pa.array(values, pa.string()).cast(pa.timestamp("us", "UTC")).cast(TIMESTAMP)
    if kind == pa.string() and values and isinstance(values[0], msgspec.Raw):  # then all are: absent is empty
        return pa.array([bytes(value).decode() or None for value in values], kind)
    return pa.array(values, kind)


def _getter(path: str) -> Callable[[Any], Any]:
    """Return a getter like attrgetter's that gives None if the parent is absent (a dead letter without origin)."""
    parent, _, child = path.partition(".")
    if not child:
        return attrgetter(path)

    def get(one: Any) -> Any:
        owner = getattr(one, parent)
        return None if owner is None else getattr(owner, child)

    return get


def sorted_rows(rows: pa.Table, order: Sequence[str]) -> pa.Table:
    """Return the rows in the order of these columns, nulls last.

    Each distinct text is ranked once and rows are compared by rank, which is ten times as quick if few texts differ.
    """
    if rows.num_rows < 2 or not order:
        return rows
    keys = pa.table({name: _ranked(rows[name]) for name in order})
    return rows.take(pc.sort_indices(keys, [(name, "ascending") for name in order]))


def _ranked(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if column.type != pa.string():
        return column
    encoded = column.combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return pc.rank(encoded.dictionary, "ascending", tiebreaker="dense").take(encoded.indices)


def _dead_letter(record: Record, why: str) -> wire.DeadLetter:
    value = record.value or b""
    return wire.DeadLetter(
        id=envelope.message_id([record.topic, str(record.partition), str(record.offset)]),
        stage="sink",
        received_at=from_millis(_written_at(record)),
        problems=[wire.Problem(path="", reason="not_readable", detail=why[:500])],
        payload=value[:PAYLOAD_CHARACTERS].decode(errors="replace"),
        payload_bytes=len(value),
        payload_sha256=hashlib.sha256(value).hexdigest(),
        device_id=(record.key or b"").decode(errors="replace") or None,
        origin=wire.Origin(record.topic, record.partition, record.offset),
    )


@functools.cache
def _decoder(record: type[msgspec.Struct]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(_with_text_times(record)).decode


@functools.cache
def _with_text_times(record: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the record type with times as text and free-form parts as raw JSON.

    It is derived from the contract's type, so that the two cannot drift apart.
    """
    fields = [
        (field.name, _text_time(field.type), _default(field))
        if not field.required
        else (field.name, _text_time(field.type))
        for field in msgspec.structs.fields(record)
    ]
    return msgspec.defstruct(record.__name__, fields, gc=False)


def _text_time(kind: Any) -> Any:
    if kind is datetime:
        return str
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _with_text_times(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if _is_json(kind):
        return msgspec.Raw
    if origin is list:
        return list[_text_time(arguments[0])]  # type: ignore[misc]
    if origin in (types.UnionType, typing.Union):
        return functools.reduce(lambda a, b: a | b, [_text_time(argument) for argument in arguments])
    return kind


def _is_json(kind: Any) -> bool:
    """Return whether a table holds the field as JSON text: free-form objects, and the problems of a dead letter."""
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        return any(_is_json(argument) for argument in typing.get_args(kind))
    return typing.get_origin(kind) is dict or kind == list[wire.Problem]


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if _is_json(field.type):
        return msgspec.Raw(b"")
    return (
        field.default
        if field.default is not msgspec.NODEFAULT
        else msgspec.field(default_factory=field.default_factory)
    )
