"""A small relational database of one stage: SQLite in a file, or any database that SQLAlchemy reaches by a URL.

This module is the same for all of them: opening and migrating a database, durable connections, the beginning of writing
transactions, the storage of times, and error texts without statement and parameters.
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
    """An aware datetime, stored as microseconds since the epoch: exact, and equal in every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: D102
        return None if value is None else to_micros(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:  # noqa: D102
        return None if value is None else from_micros(value)


Migration = Callable[[sa.Connection], None]
"""Brings a database from one version of its schema to the next. New tables exist already."""


@dataclass(frozen=True)
class Schema:
    """The tables of a stage, and the migrations of databases that earlier versions created.

    `what` begins every error text. `lock` is a unique number, by which two processes that start at once on PostgreSQL
    exclude each other.
    """

    what: str
    metadata: sa.MetaData
    lock: int
    migrations: Sequence[Migration] = ()

    @property
    def version(self) -> int:
        """The version: 1, plus 1 for each migration."""
        return 1 + len(self.migrations)


class Database:
    """An open database. Every method of a subclass may raise `SQLAlchemyError` when the database is unavailable."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._write = writing(engine)

    @property
    def engine(self) -> sa.Engine:
        """The engine, for further tables in the same database."""
        return self._engine

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()


def meta_table(metadata: sa.MetaData) -> sa.Table:
    """The table of a database's own numbers; the row `schema` is the version of its tables."""
    return sa.Table(
        "meta",
        metadata,
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.Integer, nullable=False),
    )


def open_database(schema: Schema, url: str | None, path: Path, prepare: Migration | None = None) -> sa.Engine:
    """Open the database at a URL, or else in a SQLite file; create it if it is missing, and migrate it if it is old.

    `prepare` runs at every opening. StageError when the database cannot be used; the text never contains the URL's
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
        raise StageError(f"{schema.what}: cannot create {path}: {error.strerror or error}") from error
    return engine


def version_of(schema: Schema, url: str | None, path: Path) -> int | None:
    """The schema version of a database, which is not changed; None if it has no tables yet, and can be created.

    StageError when `open_database` would raise it.
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
            return _version(connection, schema)
    except (SQLAlchemyError, ImportError) as error:
        raise StageError(f"{schema.what}: the database cannot be used: {reason(error)}") from error


def _check_writable(schema: Schema, file: Path) -> None:
    folder = next(each for each in file.absolute().parents if each.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise StageError(f"{schema.what}: cannot create {file}: {folder} is not a writable folder")


def _version(connection: sa.Connection, schema: Schema) -> int | None:
    """The version; None if there is none yet. StageError when this program does not know the version."""
    meta = schema.metadata.tables["meta"]
    version: int | None = connection.scalar(sa.select(meta.c.value).where(meta.c.name == "schema"))
    if version is not None and not 1 <= version <= schema.version:
        why = f"has schema {version}, this program {schema.version}: run the version that made it"
        raise StageError(f"{schema.what}: the database {why}")
    return version


def _bring_up_to_date(tx: sa.Connection, schema: Schema) -> None:
    if tx.dialect.name == "postgresql":
        tx.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": schema.lock})
    schema.metadata.create_all(tx)
    meta = schema.metadata.tables["meta"]
    version = _version(tx, schema)
    if version is None:
        tx.execute(meta.insert().values(name="schema", value=schema.version))
        return
    for migrate in schema.migrations[version - 1 :]:
        migrate(tx)
    tx.execute(meta.update().where(meta.c.name == "schema").values(value=schema.version))


def _file_url(path: Path) -> str:
    """The URL of a SQLite file, created if it is missing, readable by its owner only. OSError when that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    return f"sqlite:///{path}"


def _make_engine(url: str) -> sa.Engine:
    """An engine whose errors contain no parameters. A SQLite commit is durable when it returns (`synchronous=FULL`).

    `SQLAlchemyError` or `ImportError` when there is no such kind of database, or no driver for it.
    """
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def writing(engine: sa.Engine) -> sa.Engine:
    """The same engine for writing transactions. They lock at once, so that what they read stays valid."""
    return engine.execution_options(**{_WRITE: True})


def reason(error: Exception) -> str:
    """Why the database is unavailable, in one line, without statement and parameters."""
    text = str(getattr(error, "orig", None) or error)
    return text.strip().splitlines()[0] if text.strip() else type(error).__name__


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
