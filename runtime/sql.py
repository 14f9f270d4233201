"""A small relational database of a stage's own: SQLite in a file, or any that SQLAlchemy speaks to by a URL.

What is said here is the same for all of them: how a connection is made durable, how a transaction that writes begins,
how a time is kept, and how an error is told without statement and parameters.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from schemas.timestamps import from_micros, to_micros

_BUSY_SECONDS = 5.0
_WRITE = "fleetlake_write"


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware datetime as microseconds since the epoch: exact and the same in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: D102
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:  # noqa: D102
        return None if value is None else from_micros(value)


def file_url(path: Path) -> str:
    """The URL of a SQLite file, made where it is not there, readable by its owner only. OSError where it cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return f"sqlite:///{path}"


def make_engine(url: str) -> sa.Engine:
    """An engine whose errors hold no parameters. A SQLite commit is durable when it returns (WAL, `synchronous=FULL`).

    `SQLAlchemyError` or `ImportError` where there is no such database or no driver for it.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: sa.Engine) -> sa.Engine:
    """The same engine for transactions that write: they lock at once, or what they read may have changed since."""
    return engine.execution_options(**{_WRITE: True})


def reason(error: Exception) -> str:
    """Why the database is away, in a line, without statement and parameters."""
    text = str(getattr(error, "orig", None) or error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
