"""A service's database as commands use it, whether the service runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError

from fleetlake.errors import UserError
from runtime.database import Database, reason
from runtime.errors import StageError

D = TypeVar("D", bound=Database)


@contextmanager
def using(what: str, open_store: Callable[[], D]) -> Iterator[D]:
    """The database, closed in the end; UserError, which `what` begins, where it cannot be opened or goes away."""
    try:
        store = open_store()
    except StageError as error:
        raise UserError(str(error)) from error
    with closing(store):
        try:
            yield store
        except SQLAlchemyError as error:
            raise UserError(f"{what}: the database is away: {reason(error)}") from error
