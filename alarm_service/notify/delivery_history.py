"""The history of deliveries: pending, delivered and failed ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alarm_service.store.delivery_tables import PENDING, deliveries


@dataclass(frozen=True)
class DeliveryInfo:
    """A delivery as the history shows it."""

    id: str
    alarm_id: str
    event_type: str
    policy_id: str
    channel_id: str
    channel_type: str
    status: str
    attempts: int
    created_at: datetime
    sent_at: datetime | None
    next_attempt_at: datetime | None
    detail: str


@dataclass(frozen=True)
class HistoryQuery:
    """Which deliveries; None matches any. `offset` counts from the latest."""

    limit: int
    offset: int = 0
    channel_type: str | None = None
    status: str | None = None
    channel_id: str | None = None


def read_history(engine: sa.Engine, which: HistoryQuery) -> tuple[list[DeliveryInfo], int]:
    """The deliveries that match, latest first, and how many match in all. May raise `SQLAlchemyError`."""
    conditions = [
        deliveries.c[name] == value
        for name in ("channel_type", "status", "channel_id")
        if (value := getattr(which, name)) is not None
    ]
    query = sa.select(deliveries).where(*conditions).order_by(deliveries.c.seq.desc())
    with engine.begin() as tx:
        total = tx.scalar(sa.select(sa.func.count()).select_from(deliveries).where(*conditions)) or 0
        return [_info(row) for row in tx.execute(query.limit(which.limit).offset(which.offset))], total


def _info(row: Any) -> DeliveryInfo:
    return DeliveryInfo(
        row.id,
        row.alarm_id,
        row.event_type,
        row.policy_id,
        row.channel_id,
        row.channel_type,
        row.status,
        row.attempts,
        row.created_at,
        row.sent_at,
        row.next_attempt_at if row.status == PENDING else None,
        row.detail,
    )
