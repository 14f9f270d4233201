"""Writes deliveries into the outbox, in the transaction that stores the alarm events.

Therefore neither the event nor its deliveries are there without the other, whatever is killed when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alarm_service.notify.policies import Delivery, LastNotified, Memberships, plan_deliveries
from alarm_service.notify.settings import NotifySettings
from alarm_service.store import delivery_tables as tables
from schemas import wire


class DeliveryPlanner:
    """Decides by the policies which deliveries an event needs, and writes them."""

    def __init__(self, settings: NotifySettings, members: Memberships, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._members = members
        self._clock = clock
        self._give_up = timedelta(hours=settings.give_up_hours)

    def add(self, tx: sa.Connection, events: Sequence[wire.AlarmEvent]) -> None:
        """Write the deliveries of these events, none of which was stored before."""
        if not self._settings.policies or not events:
            return
        now = self._clock()
        since = max(tx.scalar(sa.select(tables.began.c.at)) or now, now - self._give_up)
        notified = _last_notified(tx, {event.alarm.alarm_id for event in events})
        planned: list[Delivery] = []
        for event in events:
            _close(tx, event)
            if event.created_at < since:
                continue
            by_policy = notified.setdefault(event.alarm.alarm_id, {})
            new = plan_deliveries(event, self._settings, self._members, by_policy)
            for delivery in new:
                by_policy[delivery.policy_id] = LastNotified(event.created_at, event.alarm.status)
            planned += new
        _store_last_notified(tx, planned, notified)
        _insert(tx, planned, now)


def _last_notified(tx: sa.Connection, alarm_ids: Iterable[str]) -> dict[str, dict[str, LastNotified]]:
    """By alarm and policy."""
    notified: dict[str, dict[str, LastNotified]] = {}
    query = sa.select(tables.last_notified).where(tables.last_notified.c.alarm_id.in_(alarm_ids))
    for row in tx.execute(query):
        notified.setdefault(row.alarm_id, {})[row.policy_id] = LastNotified(row.at, row.status)
    return notified


def _store_last_notified(
    tx: sa.Connection, planned: Sequence[Delivery], notified: Mapping[str, Mapping[str, LastNotified]]
) -> None:
    table = tables.last_notified
    for policy, alarm in {(delivery.policy_id, delivery.event.alarm.alarm_id) for delivery in planned}:
        last = notified[alarm][policy]
        tx.execute(table.delete().where(table.c.policy_id == policy, table.c.alarm_id == alarm))
        tx.execute(table.insert().values(policy_id=policy, alarm_id=alarm, at=last.at, status=last.status))


def _insert(tx: sa.Connection, planned: Sequence[Delivery], now: datetime) -> None:
    rows = {delivery.id: _row(delivery, now) for delivery in planned}
    stored = set(tx.scalars(sa.select(tables.deliveries.c.id).where(tables.deliveries.c.id.in_(rows))))
    fresh = [row for id_, row in rows.items() if id_ not in stored]
    if fresh:
        tx.execute(tables.deliveries.insert(), fresh)


def _close(tx: sa.Connection, event: wire.AlarmEvent) -> None:
    """No Alertmanager is resent an alarm that has ended, even before its end is delivered."""
    if event.alarm.status == "resolved":
        table = tables.open_alarms
        tx.execute(table.delete().where(table.c.alarm_id == event.alarm.alarm_id))


def _row(delivery: Delivery, now: datetime) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "alarm_id": delivery.event.alarm.alarm_id,
        "event_type": delivery.event.event_type,
        "policy_id": delivery.policy_id,
        "channel_id": delivery.channel_id,
        "channel_type": delivery.channel_type,
        "status": tables.PENDING,
        "attempts": 0,
        "created_at": now,
        "next_attempt_at": now,
        "detail": "",
        "body": wire.encode(delivery.event).decode(),
    }
