"""PostgreSQL's wire protocol, version 3: messages to bytes and back. Pure.

https://www.postgresql.org/docs/15/protocol-message-formats.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sql_server.errors import PROTOCOL, SqlError

VERSION_3 = 196_608
SSL_REQUEST = 80_877_103
GSS_REQUEST = 80_877_104
CANCEL_REQUEST = 80_877_102

AUTHENTICATION_OK = b"R\0\0\0\x08\0\0\0\0"
ASK_PASSWORD = b"R\0\0\0\x08\0\0\0\x03"
PARSE_COMPLETE = b"1\0\0\0\x04"
BIND_COMPLETE = b"2\0\0\0\x04"
CLOSE_COMPLETE = b"3\0\0\0\x04"
NO_DATA = b"n\0\0\0\x04"
EMPTY_QUERY = b"I\0\0\0\x04"
PORTAL_SUSPENDED = b"s\0\0\0\x04"

TEXT, BINARY = 0, 1


@dataclass(frozen=True)
class Column:
    """A column of a result, as RowDescription has it."""

    name: str
    oid: int
    size: int


@dataclass(frozen=True)
class Parse:
    """Prepare a statement."""

    name: str
    query: str
    oids: tuple[int, ...]


@dataclass(frozen=True)
class Bind:
    """Make a portal of a statement and values."""

    portal: str
    statement: str
    formats: tuple[int, ...]
    values: tuple[bytes | None, ...]
    result_formats: tuple[int, ...]


def message(kind: bytes, content: bytes = b"") -> bytes:
    """A message with its type and length."""
    return kind + struct.pack("!i", len(content) + 4) + content


def text(value: str) -> bytes:
    """A string as messages hold it; a NUL cannot stand in it."""
    return value.replace("\0", "").encode("utf-8", "replace") + b"\0"


def parameter_status(name: str, value: str) -> bytes:
    """The value of a setting that clients follow."""
    return message(b"S", text(name) + text(value))


def backend_key(process: int, secret: int) -> bytes:
    """By which a client can cancel."""
    return message(b"K", struct.pack("!iI", process, secret))


def ready(status: str) -> bytes:
    """Ready for the next query; `status` is I (idle), T (in a transaction) or E (in a failed one)."""
    return message(b"Z", status.encode())


def command_complete(tag: str) -> bytes:
    """A statement has been carried out."""
    return message(b"C", text(tag))


def row_description(columns: Sequence[Column], formats: Sequence[int] = ()) -> bytes:
    """The columns of the rows that follow."""
    parts = [struct.pack("!h", len(columns))]
    for index, column in enumerate(columns):
        form = format_of(formats, index)
        parts.append(text(column.name) + struct.pack("!ihihih", 0, 0, column.oid, column.size, -1, form))
    return message(b"T", b"".join(parts))


def parameter_description(oids: Sequence[int]) -> bytes:
    """The types of a statement's parameters."""
    return message(b"t", struct.pack(f"!h{len(oids)}I", len(oids), *oids))


def data_row(cells: Iterable[bytes | None]) -> bytes:
    """A row. None is NULL."""
    parts = [b"\xff\xff\xff\xff" if cell is None else struct.pack("!i", len(cell)) + cell for cell in cells]
    return message(b"D", struct.pack("!h", len(parts)) + b"".join(parts))


def error_response(error: SqlError, severity: str = "ERROR") -> bytes:
    """An error; FATAL ends the connection."""
    fields = {"S": severity, "V": severity, "C": error.state, "M": error.message, "H": error.hint}
    if error.position:
        fields["P"] = str(error.position)
    return message(b"E", _fields(fields))


def notice(words: str) -> bytes:
    """A remark on a statement that was carried out."""
    return message(b"N", _fields({"S": "NOTICE", "V": "NOTICE", "C": "00000", "M": words}))


def _fields(fields: Mapping[str, str]) -> bytes:
    return b"".join(key.encode() + text(value) for key, value in fields.items() if value) + b"\0"


def format_of(formats: Sequence[int], index: int) -> int:
    """The format of a value: none given is text, one given is for all."""
    if not formats:
        return TEXT
    return formats[0] if len(formats) == 1 else formats[index]


class Reader:
    """Reads a message's content in order. SqlError where it is shorter than it says."""

    def __init__(self, content: bytes) -> None:
        self._content, self._place = content, 0

    def string(self) -> str:
        """A string that ends with NUL."""
        end = self._content.find(b"\0", self._place)
        if end < 0:
            raise SqlError(PROTOCOL, "a string in the message has no end")
        raw = self._content[self._place : end]
        self._place = end + 1
        return raw.decode("utf-8", "replace")

    def numbers(self, code: str) -> tuple[int, ...]:
        """Numbers by their `struct` code."""
        return struct.unpack("!" + code, self.take(struct.calcsize("!" + code)))

    def take(self, length: int) -> bytes:
        """So many bytes."""
        if length < 0 or self._place + length > len(self._content):
            raise SqlError(PROTOCOL, "the message is shorter than it says")
        self._place += length
        return self._content[self._place - length : self._place]

    def list_of(self, code: str) -> tuple[int, ...]:
        """A count, and as many numbers."""
        (count,) = self.numbers("h")
        return self.numbers(code * max(count, 0))

    @property
    def more(self) -> bool:
        """Whether content is left."""
        return self._place < len(self._content)


def read_startup(content: bytes) -> dict[str, str]:
    """The parameters of a startup message, after its version."""
    reader, parameters = Reader(content), {}
    while reader.more and (name := reader.string()):
        parameters[name] = reader.string()
    return parameters


def read_parse(content: bytes) -> Parse:
    """A Parse message."""
    reader = Reader(content)
    return Parse(reader.string(), reader.string(), reader.list_of("I"))


def read_bind(content: bytes) -> Bind:
    """A Bind message. SqlError where formats and values do not match."""
    reader = Reader(content)
    portal, statement, formats = reader.string(), reader.string(), reader.list_of("h")
    (count,) = reader.numbers("h")
    values = []
    for _ in range(count):
        (length,) = reader.numbers("i")
        values.append(None if length < 0 else reader.take(length))
    if len(formats) > 1 and len(formats) != len(values):
        raise SqlError(PROTOCOL, f"bind message has {len(formats)} parameter formats but {len(values)} parameters")
    return Bind(portal, statement, formats, tuple(values), reader.list_of("h"))


def read_target(content: bytes) -> tuple[str, str]:
    """Kind (S or P) and name in a Describe or Close message."""
    reader = Reader(content)
    return reader.take(1).decode("latin-1"), reader.string()


def read_execute(content: bytes) -> tuple[str, int]:
    """Portal and greatest number of rows (0: all) of an Execute message."""
    reader = Reader(content)
    name = reader.string()
    (most,) = reader.numbers("i")
    return name, max(most, 0)
