"""DuckDB's types as PostgreSQL's: their numbers, and values as text and as bytes. Pure."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sql_server.numeric import binary_numeric

Encode = Callable[[Any], bytes]

_EPOCH = datetime(2000, 1, 1)
_EPOCH_DATE = _EPOCH.date()
_MICROSECOND = timedelta(microseconds=1)
_SECONDS_PER_DAY = 86_400


def _text(value: Any) -> bytes:
    # A NUL cannot stand in PostgreSQL's texts, and half of a surrogate pair in no UTF-8.
    return str(value).replace("\0", "").encode("utf-8", "replace")


def _bool(value: bool) -> bytes:
    return b"t" if value else b"f"


def _float(value: float) -> bytes:
    if not math.isfinite(value):
        return b"NaN" if math.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    return repr(value).removesuffix(".0").encode()


def _real(value: float) -> bytes:
    """The shortest text that gives the same four-byte number."""
    for digits in range(6, 9):
        short = float(f"{value:.{digits}g}")
        if math.isfinite(value) and struct.pack("!f", short) == struct.pack("!f", value):
            return _float(short)
    return _float(value)


def _naive(value: datetime) -> datetime:
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _timestamp(value: datetime | str) -> bytes:
    return (_naive(value).isoformat(" ") if isinstance(value, datetime) else value).encode()


def _timestamptz(value: datetime | str) -> bytes:
    return _timestamp(value) + b"+00" if isinstance(value, datetime) else value.encode()


def _binary_timestamp(value: datetime) -> bytes:
    return struct.pack("!q", (_naive(value) - _EPOCH) // _MICROSECOND)


def _date(value: date | str) -> bytes:
    return str(value).encode()


def _binary_date(value: date) -> bytes:
    return struct.pack("!i", (value - _EPOCH_DATE).days)


def _binary_time(value: time) -> bytes:
    seconds = value.hour * 3600 + value.minute * 60 + value.second
    return struct.pack("!q", seconds * 1_000_000 + value.microsecond)


def _interval(value: timedelta) -> bytes:
    seconds, microseconds = divmod(abs(value - timedelta(days=value.days)) // _MICROSECOND, 1_000_000)
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    clock += f".{microseconds:06}" if microseconds else ""
    return (f"{value.days} days {clock}" if value.days else clock).encode()


def _binary_interval(value: timedelta) -> bytes:
    return struct.pack("!qii", (value - timedelta(days=value.days)) // _MICROSECOND, value.days, 0)


def _bytea(value: bytes) -> bytes:
    return b"\\x" + bytes(value).hex().encode()


def _json(value: Any) -> bytes:
    return _text(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def _numeric(value: Any) -> bytes:
    return (format(value, "f") if isinstance(value, Decimal) else str(value)).encode()


@dataclass(frozen=True)
class PgType:
    """A type of PostgreSQL. `array` is the number of its array type, `size` its length in bytes (-1: it varies)."""

    oid: int
    name: str
    standard: str
    """Its name in information_schema."""
    size: int
    array: int
    category: str
    text: Encode
    binary: Encode


def _number(code: str) -> Encode:
    return struct.Struct("!" + code).pack


BOOL = PgType(16, "bool", "boolean", 1, 1000, "B", _bool, _number("?"))
BYTEA = PgType(17, "bytea", "bytea", -1, 1001, "U", _bytea, bytes)
INT8 = PgType(20, "int8", "bigint", 8, 1016, "N", _text, _number("q"))
INT2 = PgType(21, "int2", "smallint", 2, 1005, "N", _text, _number("h"))
INT4 = PgType(23, "int4", "integer", 4, 1007, "N", _text, _number("i"))
TEXT = PgType(25, "text", "text", -1, 1009, "S", _text, _text)
OID = PgType(26, "oid", "oid", 4, 1028, "N", _text, _number("I"))
JSON = PgType(114, "json", "json", -1, 199, "U", _json, _json)
FLOAT4 = PgType(700, "float4", "real", 4, 1021, "N", _real, _number("f"))
FLOAT8 = PgType(701, "float8", "double precision", 8, 1022, "N", _float, _number("d"))
VARCHAR = PgType(1043, "varchar", "character varying", -1, 1015, "S", _text, _text)
DATE = PgType(1082, "date", "date", 4, 1182, "D", _date, _binary_date)
TIME = PgType(1083, "time", "time without time zone", 8, 1183, "D", _date, _binary_time)
TIMESTAMP = PgType(1114, "timestamp", "timestamp without time zone", 8, 1115, "D", _timestamp, _binary_timestamp)
TIMESTAMPTZ = PgType(1184, "timestamptz", "timestamp with time zone", 8, 1185, "D", _timestamptz, _binary_timestamp)
INTERVAL = PgType(1186, "interval", "interval", 16, 1187, "T", _interval, _binary_interval)
NUMERIC = PgType(1700, "numeric", "numeric", -1, 1231, "N", _numeric, binary_numeric)
UUID_TYPE = PgType(2950, "uuid", "uuid", 16, 2951, "U", _text, lambda value: UUID(str(value)).bytes)

TYPES = (
    *(BOOL, BYTEA, INT8, INT2, INT4, TEXT, OID, JSON, FLOAT4, FLOAT8, VARCHAR),
    *(DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, NUMERIC, UUID_TYPE),
)
BY_OID = {one.oid: one for one in TYPES}
ELEMENT_OF = {one.array: one for one in TYPES}

OF_DUCKDB: Mapping[str, PgType] = {
    "VARCHAR": TEXT,
    "BOOLEAN": BOOL,
    "BLOB": BYTEA,
    "TINYINT": INT2,
    "SMALLINT": INT2,
    "INTEGER": INT4,
    "BIGINT": INT8,
    "UTINYINT": INT2,
    "USMALLINT": INT4,
    "UINTEGER": INT8,
    "UBIGINT": NUMERIC,
    "HUGEINT": NUMERIC,
    "UHUGEINT": NUMERIC,
    "BIGNUM": NUMERIC,
    "DECIMAL": NUMERIC,
    "FLOAT": FLOAT4,
    "DOUBLE": FLOAT8,
    "DATE": DATE,
    "TIME": TIME,
    "TIMESTAMP": TIMESTAMP,
    "TIMESTAMP_S": TIMESTAMP,
    "TIMESTAMP_MS": TIMESTAMP,
    "TIMESTAMP_NS": TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": TIMESTAMPTZ,
    "INTERVAL": INTERVAL,
    "UUID": UUID_TYPE,
    "JSON": JSON,
    "OID": OID,
}
_AS_JSON = ("STRUCT(", "MAP(", "UNION(")


@dataclass(frozen=True)
class ResultType:
    """The type of a result's column and how its values are encoded."""

    oid: int
    size: int
    text: Encode
    binary: Encode


def result_type(duckdb_type: str) -> ResultType:
    """PostgreSQL's type for one of DuckDB's, by its name. Structures and nested lists are JSON, unknown types text."""
    if duckdb_type.endswith("]"):
        element = duckdb_type[: duckdb_type.rindex("[")]
        if element.endswith("]") or element.startswith(_AS_JSON):
            return _plain(JSON)
        return _array(scalar_type(element))
    return _plain(scalar_type(duckdb_type))


def scalar_type(duckdb_type: str) -> PgType:
    """PostgreSQL's type for a type of DuckDB that is no list."""
    if duckdb_type.startswith(_AS_JSON):
        return JSON
    return OF_DUCKDB.get(duckdb_type.partition("(")[0], TEXT)


def _plain(of: PgType) -> ResultType:
    return ResultType(of.oid, of.size, of.text, of.binary)


def _array(of: PgType) -> ResultType:
    def text(values: list[Any]) -> bytes:
        return b"{" + b",".join(b"NULL" if v is None else _element(of.text(v)) for v in values) + b"}"

    def binary(values: list[Any]) -> bytes:
        if not values:
            return struct.pack("!iiI", 0, 0, of.oid)
        head = struct.pack("!iiIii", 1, any(v is None for v in values), of.oid, len(values), 1)
        cells = [None if v is None else of.binary(v) for v in values]
        return head + b"".join(
            b"\xff\xff\xff\xff" if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells
        )

    return ResultType(of.array, -1, text, binary)


def _element(raw: bytes) -> bytes:
    """A value within an array's text, quoted where it has to be."""
    plain = raw and not any(mark in raw for mark in b'{}",\\ \t\n\r\v\f') and raw.upper() != b"NULL"
    return raw if plain else b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
