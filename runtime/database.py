"""A small relational database of a stage's own: SQLite in a file, or any that SQLAlchemy speaks to by a URL.

What is said here is the same for all of them: how a database is opened and brought up to date, how a connection is made
durable, how a transaction that writes begins, how a time is kept, and how an error is told without statement and
parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError

from runtime.errors import StageError
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


Change = Callable[[sa.Connection], None]
"""Brings a database from one version of its schema to the next; tables that are new are there already."""


@dataclass(frozen=True)
class Schema:
    """The tables of a stage, and how a database that an earlier program made is brought up to date.

    `what` begins every error. `lock` is a number of its own, for two processes that start at once on PostgreSQL.
    """

    what: str
    metadata: sa.MetaData
    lock: int
    changes: Sequence[Change] = ()

    @property
    def version(self) -> int:
        """Counts from 1, and rises by 1 with each change."""
        return 1 + len(self.changes)


class Database:
    """An open database. Every method of a subclass may raise `SQLAlchemyError`: it is away."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._write = writing(engine)

    @property
    def engine(self) -> sa.Engine:
        """The database, for what is kept beside."""
        return self._engine

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def meta_table(metadata: sa.MetaData) -> sa.Table:
    """The table of numbers that a database keeps of itself; `schema` is the version of its tables."""
    return sa.Table(
        "meta",
        metadata,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )


def open_database(schema: Schema, url: str | None, path: Path, prepare: Change | None = None) -> sa.Engine:
    """The database at a URL, else in a SQLite file; made where it is not there, brought up to date where it is old.

    `prepare` does what is to be done each time. StageError where it cannot be used; the text never holds the URL's
    password.
    """
    try:
        with ExitStack() as undo:
            engine = _make_engine(url or _file_url(path))
            undo.callback(engine.dispose)
            with writing(engine).begin() as tx:
                _bring_up_to_date(tx, schema)
                if prepare is not None:
                    prepare(tx)
            undo.pop_all()
    except (SQLAlchemyError, ImportError) as error:
        raise StageError(f"{schema.what}: the database cannot be used: {reason(error)}") from error
    except OSError as error:
        raise StageError(f"{schema.what}: cannot make {path}: {error.strerror or error}") from error
    return engine


def version_of(schema: Schema, url: str | None, path: Path) -> int | None:
    """The schema's version of a database, which is left as it is; None where it has none so far, and can be made.

    StageError where `open_database` would raise it.
    """
    try:
        engine = _make_engine(url or f"sqlite:///{path}")
        file = Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None
        if file is not None and not file.exists():
            _check_writable(schema, file)
            return None
        with closing(engine.connect()) as connection:
            if not sa.inspect(connection).has_table("meta"):
                return None
            found = _version(connection, schema)
    except (SQLAlchemyError, ImportError) as error:
        raise StageError(f"{schema.what}: the database cannot be used: {reason(error)}") from error
    return found


def _check_writable(schema: Schema, file: Path) -> None:
    folder = next(each for each in file.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StageError(f"{schema.what}: cannot make {file}: {folder} is no folder that can be written to")


def _version(connection: sa.Connection, schema: Schema) -> int | None:
    """None: it has none so far. StageError where it is not one that we know."""
    meta = schema.metadata.tables["meta"]
    found: int | None = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
    if found is not None and not 1 <= found <= schema.version:
        why = f"has schema {found}, this program {schema.version}: run the version that made it"
        raise StageError(f"{schema.what}: the database {why}")
    return found


def _bring_up_to_date(tx: sa.Connection, schema: Schema) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": schema.lock})
    schema.metadata.create_all(tx)
    meta = schema.metadata.tables["meta"]
    found = _version(tx, schema)
    if found is None:
        tx.execute(meta.insert().values(name="schema", value=schema.version))
        return
    for change in schema.changes[found - 1 :]:
        change(tx)
    tx.execute(meta.update().where(meta.c.name == "schema").values(value=schema.version))


def _file_url(path: Path) -> str:
    """The URL of a SQLite file, made where it is not there, readable by its owner only. OSError where it cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return f"sqlite:///{path}"


def _make_engine(url: str) -> sa.Engine:
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
