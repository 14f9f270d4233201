"""What the server asks of a query process, and what comes back. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sql_server.errors import SqlError
from sql_server.protocol import Column


@dataclass(frozen=True)
class Describe:
    """The types of a statement's parameters and result. `oids` are those that the client has given."""

    query: str
    oids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """Run a statement and give its first rows."""

    query: str
    oids: tuple[int, ...] = ()
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fetch:
    """Give further rows, at most so many (0: as many as fit)."""

    most: int


@dataclass(frozen=True)
class Described:
    """What a statement takes and gives."""

    oids: tuple[int, ...]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Started:
    """A statement runs: its columns. Rows follow by `Fetch`."""

    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Rows:
    """Rows as DataRow messages, and whether the result has ended."""

    data: bytes
    count: int
    done: bool


Call = Describe | Run | Fetch
Answer = Described | Started | Rows | SqlError
