"""The open database of the alarm service.

SQLite in the state folder by default; any database that SQLAlchemy supports by a URL (tested with PostgreSQL). Every
call blocks: the service makes it in a thread. Each call is one transaction, durable when it returns.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from alarm_service.settings import AlarmsSettings
from alarm_service.store import delivery_tables
from alarm_service.store.alarms import AlarmStore, OnEvents
from alarm_service.store.keys import KeyStore
from alarm_service.store.rules import RuleStore
from alarm_service.store.tables import SCHEMA
from runtime.database import Database, open_database

DATABASE = Path("state") / "alarms.db"
"""Where the database is in the data folder, unless `database_url` names another."""


class AlarmDatabase(Database):
    """Alarms, rules and API keys on one engine."""

    def __init__(self, engine: sa.Engine, on_events: OnEvents | None = None) -> None:
        super().__init__(engine)
        self.alarms = AlarmStore(engine, on_events)
        self.rules = RuleStore(engine)
        self.keys = KeyStore(engine)


def open_alarm_database(url: str | None, path: Path, on_events: OnEvents | None = None) -> AlarmDatabase:
    """The database at a URL, else in a SQLite file; created if it does not exist.

    StageError where it cannot be opened. The text never holds the URL's password.
    """
    engine = open_database(SCHEMA, url, path, lambda tx: delivery_tables.make_tables(tx, datetime.now(UTC)))
    return AlarmDatabase(engine, on_events)


def alarm_database(settings: AlarmsSettings, data: Path, on_events: OnEvents | None = None) -> AlarmDatabase:
    """The database as configured. StageError where it cannot be opened."""
    url = settings.database_url
    return open_alarm_database(url.get_secret_value() if url is not None else None, data / DATABASE, on_events)
