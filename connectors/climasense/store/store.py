"""The store as a whole: one database, one part for each concern."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from connectors.climasense.store import tables
from connectors.climasense.store.commands import CommandStore
from connectors.climasense.store.devices import DeviceStore
from connectors.climasense.store.firmware import FirmwareStore
from connectors.climasense.store.keys import KeyStore
from connectors.climasense.store.updates import UpdateStore
from runtime.database import Database, open_database


class Store(Database):
    """The database by concern.

    Every method of a part may raise `SQLAlchemyError` (the database is away), some `StateError` (it is not possible).
    """

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__(engine)
        self.keys = KeyStore(self._engine, self._write)
        self.devices = DeviceStore(self._engine, self._write)
        self.commands = CommandStore(self._engine, self._write)
        self.firmware = FirmwareStore(self._engine, self._write)
        self.updates = UpdateStore(self._engine, self._write, self.devices)


def open_store(url: str | None, state_dir: Path) -> Store:
    """Open the store at a URL, else in `climasense.db` of the state folder; it is made where it is not there.

    StageError where it cannot be opened. The text never holds the URL's password.
    """
    return Store(open_database(tables.SCHEMA, url, state_dir / "climasense.db", tables.begin_version))
