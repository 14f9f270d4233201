"""The tables of deliveries, in the alarm service's own database.

A delivery is pending, then delivered or failed. The names of tables and columns are those of existing databases.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from runtime.database import Moment

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
STATUSES = (PENDING, DELIVERED, FAILED)

_metadata = sa.MetaData()
began = sa.Table(
    "notify_began",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
)
deliveries = sa.Table(
    "notify_deliveries",
    _metadata,
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("alarm_id", sa.String, nullable=False),
    sa.Column("event_type", sa.String, nullable=False),
    sa.Column("policy_id", sa.String, nullable=False),
    sa.Column("channel_id", sa.String, nullable=False),
    sa.Column("channel_type", sa.String, nullable=False),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("next_attempt_at", Moment, nullable=False),
    sa.Column("sent_at", Moment),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),  # the alarm event
    sa.Index("notify_due", "channel_id", "status", "next_attempt_at", "seq"),  # what comes next, without sorting
    sa.Index("notify_order", "channel_id", "status", "alarm_id", "seq"),  # whether an older event of its alarm waits
)
last_notified = sa.Table(
    "notify_told",
    _metadata,
    sa.Column("policy_id", sa.String, primary_key=True),
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("status", sa.String, nullable=False),
)
open_alarms = sa.Table(
    "notify_open",  # what an Alertmanager is sent repeatedly while it is open
    _metadata,
    sa.Column("channel_id", sa.String, primary_key=True),
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)


def make_tables(tx: sa.Connection, now: datetime) -> None:
    """Create the tables that are missing. Events from before their first creation are not delivered."""
    _metadata.create_all(tx)
    if tx.scalar(sa.select(began.c.at)) is None:
        tx.execute(began.insert().values(id=1, at=now))


def forget(tx: sa.Connection, alarm_ids: sa.Select[Any]) -> None:
    """Delete all deliveries of these alarms, made or pending."""
    for table in (deliveries, last_notified, open_alarms):
        tx.execute(table.delete().where(table.c.alarm_id.in_(alarm_ids)))
