"""Databases and lakes as commands use them, whether the services that write them run or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fleetlake.cli.options import read_settings
from fleetlake.errors import UserError

if TYPE_CHECKING:
    from fleetlake.config import Settings
    from runtime.database import Database
    from sinks.delta.location import LakeLocation

    D = TypeVar("D", bound=Database)
else:
    D = TypeVar("D")


@contextmanager
def using_database(owner: str, open_store: Callable[[], D]) -> Iterator[D]:
    """A service's database, closed in the end. UserError where it cannot be opened or goes away."""
    from sqlalchemy.exc import SQLAlchemyError

    from runtime.database import reason
    from runtime.errors import StageError

    try:
        store = open_store()
    except StageError as error:
        raise UserError(str(error)) from error
    with closing(store):
        try:
            yield store
        except SQLAlchemyError as error:
            raise UserError(f"{owner}: the database is not available: {reason(error)}") from error


def open_lake(config: Path | None, data: Path | None) -> tuple[Settings, LakeLocation]:
    """The configuration in force, and where its lake is."""
    from sinks.delta.location import LakeLocation

    settings = read_settings(config, data)
    return settings, LakeLocation.of(settings.pipeline.data, settings.sink.delta)


def existing_tables(location: LakeLocation, names: list[str] | None) -> list[str]:
    """The named tables, or all that the lake has. UserError where one is missing or its log is damaged."""
    from deltalake import DeltaTable

    from sinks.delta.tables import BY_NAME

    options = dict(location.options) or None
    existing = [name for name in BY_NAME if DeltaTable.is_deltatable(location.uri(name), options)]
    missing = [name for name in names or [] if name not in existing]
    if missing:
        raise UserError(f"no table {missing[0]!r} in {location.root}; it has {', '.join(existing) or 'none'}")
    if not existing:
        raise UserError(f"no lake in {location.root} yet")
    for name in names or existing:
        _require_intact(location, name)
    return names or existing


def _require_intact(location: LakeLocation, name: str) -> None:
    from sinks.delta.log_repair import ADVICE, DamagedLog, damaged_files

    try:
        damages = damaged_files(location.local / name) if location.local else []
    except DamagedLog as error:
        raise UserError(str(error)) from error
    if damages:
        raise UserError(f"{name}: {damages[0]}. A power cut? {ADVICE}")
