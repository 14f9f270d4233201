"""The values of a statement's parameters as SQL, and the types of those that a client leaves open. Pure.

Values become literals in the text: DuckDB adapts an untyped literal to what stands beside it, as PostgreSQL does.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

from sql_server import types
from sql_server.errors import BAD_VALUE, NOT_SUPPORTED, PROTOCOL, SqlError
from sql_server.lexer import Kind, Token, literal
from sql_server.numeric import decimal_text
from sql_server.protocol import BINARY

UNKNOWN = (0, 705)
_JSONB = 3802
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_EPOCH = datetime(2000, 1, 1)

_SQL_TYPES = {
    types.BOOL.oid: "BOOLEAN",
    types.INT2.oid: "SMALLINT",
    types.INT4.oid: "INTEGER",
    types.INT8.oid: "BIGINT",
    types.OID.oid: "BIGINT",
    types.FLOAT4.oid: "FLOAT",
    types.FLOAT8.oid: "DOUBLE",
    types.DATE.oid: "DATE",
    types.TIME.oid: "TIME",
    types.TIMESTAMP.oid: "TIMESTAMP",
    types.TIMESTAMPTZ.oid: "TIMESTAMP",  # in UTC, as all times of the tables: only so are files skipped by their times
    types.INTERVAL.oid: "INTERVAL",
    types.UUID_TYPE.oid: "UUID",
    types.JSON.oid: "JSON",
    _JSONB: "JSON",
    types.BYTEA.oid: "BLOB",
    types.NUMERIC.oid: "DECIMAL(38, 9)",
}


def null_of(oid: int) -> str:
    """NULL of a type."""
    if oid in types.ELEMENT_OF:
        return f"CAST(NULL AS {_sql_type(types.ELEMENT_OF[oid].oid)}[])"
    return f"CAST(NULL AS {_SQL_TYPES[oid]})" if oid in _SQL_TYPES else "NULL"


def value_as_sql(oid: int, form: int, raw: bytes | None) -> str:
    """A parameter's value as SQL. SqlError where the bytes are no value of the type."""
    if raw is None:
        return null_of(oid)
    try:
        if oid in types.ELEMENT_OF:
            element = types.ELEMENT_OF[oid]
            values = _binary_array(raw) if form == BINARY else _text_array(raw.decode())
            inner = ", ".join("NULL" if v is None else _literal(element.oid, v) for v in values)
            return f"CAST([{inner}] AS {_sql_type(element.oid)}[])"
        return _literal(oid, _binary_text(oid, raw) if form == BINARY else raw.decode())
    except (ValueError, struct.error, OverflowError) as error:
        raise SqlError(BAD_VALUE, f"a parameter's value is not of type {_name(oid)}") from error


def _sql_type(oid: int) -> str:
    return _SQL_TYPES.get(oid, "VARCHAR")


def _name(oid: int) -> str:
    return types.BY_OID[oid].name if oid in types.BY_OID else str(oid)


def _literal(oid: int, value: str) -> str:
    if oid == types.NUMERIC.oid:
        if not _NUMBER.fullmatch(value):
            raise ValueError(value)
        return f"({value})"
    if oid == types.BYTEA.oid:
        raw = bytes.fromhex(value.removeprefix("\\x"))
        return f"CAST('{''.join(f'{chr(92)}x{byte:02X}' for byte in raw)}' AS BLOB)"
    return f"CAST({literal(value)} AS {_SQL_TYPES[oid]})" if oid in _SQL_TYPES else literal(value)


def _micros(raw: bytes) -> str:
    (micros,) = struct.unpack("!q", raw)
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(" ")


def _interval(raw: bytes) -> str:
    micros, days, months = struct.unpack("!qii", raw)
    return f"{months} months {days} days {micros} microseconds"


def _number(code: str) -> Callable[[bytes], str]:
    return lambda raw: str(struct.unpack("!" + code, raw)[0])


_BINARY: Mapping[int, Callable[[bytes], str]] = {
    types.BOOL.oid: _number("?"),
    types.INT2.oid: _number("h"),
    types.INT4.oid: _number("i"),
    types.INT8.oid: _number("q"),
    types.OID.oid: _number("I"),
    types.FLOAT4.oid: _number("f"),
    types.FLOAT8.oid: _number("d"),
    types.DATE.oid: lambda raw: str(date(2000, 1, 1) + timedelta(days=struct.unpack("!i", raw)[0])),
    types.TIME.oid: lambda raw: str((datetime.min + timedelta(microseconds=struct.unpack("!q", raw)[0])).time()),
    types.TIMESTAMP.oid: _micros,
    types.TIMESTAMPTZ.oid: lambda raw: _micros(raw) + "+00",
    types.INTERVAL.oid: _interval,
    types.NUMERIC.oid: decimal_text,
    types.UUID_TYPE.oid: lambda raw: str(UUID(bytes=raw)),
    types.BYTEA.oid: lambda raw: raw.hex(),
    _JSONB: lambda raw: raw[1:].decode(),  # after a version
}


def _binary_text(oid: int, raw: bytes) -> str:
    """The text of a value that came as bytes; those of text types are the text."""
    return _BINARY[oid](raw) if oid in _BINARY else raw.decode()


def _binary_array(raw: bytes) -> list[str | None]:
    dimensions, _, element = struct.unpack_from("!iiI", raw)
    if dimensions > 1:
        raise SqlError(NOT_SUPPORTED, "arrays of arrays are not taken as parameters")
    values: list[str | None] = []
    place, count = 20, struct.unpack_from("!i", raw, 12)[0] if dimensions else 0
    for _ in range(count):
        (length,) = struct.unpack_from("!i", raw, place)
        place += 4
        values.append(None if length < 0 else _binary_text(element, raw[place : place + length]))
        place += max(length, 0)
        if place > len(raw):
            raise SqlError(PROTOCOL, "an array is shorter than it says")
    return values


_ELEMENT = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,{}"\\\s][^,{}"\\]*))\s*(,|\})', re.DOTALL)


def _text_array(text: str) -> list[str | None]:
    """The elements of an array such as `{a,"b c",NULL}`."""
    inner = text.strip()
    if inner == "{}":
        return []
    if not inner.startswith("{"):
        raise ValueError(text)
    values: list[str | None] = []
    place = 1
    while place < len(inner):
        match = _ELEMENT.match(inner, place)
        if match is None:
            raise ValueError(text)
        quoted, plain, after = match.groups()
        if quoted is not None:
            values.append(re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL))
        else:
            values.append(None if plain.strip().upper() == "NULL" else plain.strip())
        place = match.end()
        if after == "}" and place == len(inner):
            return values
    raise ValueError(text)


# Types that a client leaves open


_CASTS = {
    "bigint": types.INT8,
    "int8": types.INT8,
    "int": types.INT4,
    "int4": types.INT4,
    "integer": types.INT4,
    "smallint": types.INT2,
    "double": types.FLOAT8,
    "float8": types.FLOAT8,
    "real": types.FLOAT4,
    "boolean": types.BOOL,
    "bool": types.BOOL,
    "date": types.DATE,
    "timestamp": types.TIMESTAMP,
    "timestamptz": types.TIMESTAMPTZ,
    "interval": types.INTERVAL,
    "numeric": types.NUMERIC,
    "uuid": types.UUID_TYPE,
    "text": types.TEXT,
    "varchar": types.VARCHAR,
}
_COMPARISONS = ("=", "<", ">", "!", "between", "and")


def resolved_types(
    tokens: Sequence[Token], given: Sequence[int], columns: Callable[[], Mapping[str, int]]
) -> tuple[int, ...]:
    """A type for each parameter: the client's, else by a cast, a LIMIT or the column it is compared with, else text.

    `columns` gives the types of columns whose name has one type in all tables.
    """
    plain = [token for token in tokens if token.kind is not Kind.SPACE]
    oids = dict(enumerate((oid for oid in given), start=1))
    for at, token in enumerate(plain):
        if token.kind is Kind.PARAMETER:
            number = int(token.text[1:])
            if oids.get(number, 0) in UNKNOWN:
                oids[number] = _guessed(plain, at, columns)
    most = max(oids, default=0)
    return tuple(oids.get(number, 0) or types.TEXT.oid for number in range(1, most + 1))


def _guessed(plain: Sequence[Token], at: int, columns: Callable[[], Mapping[str, int]]) -> int:
    def name(offset: int) -> str:
        place = at + offset
        return (plain[place].name or plain[place].text) if 0 <= place < len(plain) else ""

    if name(1) == "::" and name(2) in _CASTS:
        return _CASTS[name(2)].array if name(3) == "[" else _CASTS[name(2)].oid
    if name(-1) in ("limit", "offset"):
        return types.INT8.oid
    if name(-1) == "(" and name(-2) == "any" and name(1) == ")":
        of = _compared(lambda offset: name(offset - 2))
        return types.BY_OID[columns()[of]].array if of and columns().get(of) in types.BY_OID else 0
    column = _compared(name)
    return columns().get(column, 0) if column else 0


def _compared(name: Callable[[int], str]) -> str:
    """The column that a parameter is compared with: before it, as in `a.b >= $1` or `b BETWEEN $1 AND $2`."""
    back = -1
    if name(back) not in _COMPARISONS:
        return ""
    while name(back) in _COMPARISONS or name(back).startswith("$"):
        back -= 1
    return name(back)
