"""The outbox: claims deliveries that are due, and notes what became of them.

A claim moves the delivery's next attempt into the future. A claim that nobody finishes (the process was killed)
expires, and the delivery is attempted once more under the same id. Delivery: at least once; duplicates have the same
id. Events of one alarm go over a channel in order. Every call blocks and is one transaction, durable when it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alarm_service.notify.settings import NotifySettings
from alarm_service.store.delivery_tables import (
    DELIVERED,
    FAILED,
    PENDING,
    deliveries,
    last_notified,
    open_alarms,
)
from alarm_service.store.tables import alarms
from runtime.database import writing
from schemas import wire


@dataclass(frozen=True)
class Claimed:
    """A delivery that is ours to attempt until the claim expires."""

    id: str
    attempt: int
    policy_id: str
    event: wire.AlarmEvent
    created_at: datetime


class Outbox:
    """The deliveries in a database. Every method may raise `SQLAlchemyError`: the database is not available."""

    def __init__(self, engine: sa.Engine, settings: NotifySettings, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._write = writing(engine)
        self._settings = settings
        self._clock = clock
        self._give_up = timedelta(hours=settings.give_up_hours)

    def claim(self, channel_id: str, lease: timedelta) -> Claimed | None:
        """Claim the next delivery of a channel that is due, for `lease`; None if there is none."""
        now, other = self._clock(), deliveries.alias()
        due_at = self.next_due(channel_id)
        if due_at is None or due_at > now:  # read without a lock, so that an idle queue blocks nobody
            return None
        older = sa.exists().where(
            other.c.channel_id == channel_id,
            other.c.status == PENDING,
            other.c.alarm_id == deliveries.c.alarm_id,
            other.c.seq < deliveries.c.seq,
        )
        due = (
            sa.select(deliveries)
            .where(_is_pending(channel_id), deliveries.c.next_attempt_at <= now, ~older)
            .order_by(deliveries.c.next_attempt_at, deliveries.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._write.begin() as tx:
            row = tx.execute(due).first()
            if row is None:
                return None
            changed = {"attempts": row.attempts + 1, "next_attempt_at": now + lease}
            tx.execute(deliveries.update().where(deliveries.c.seq == row.seq).values(**changed))
        event = wire.decode_alarm_event(row.body)
        return Claimed(row.id, row.attempts + 1, row.policy_id, event, row.created_at)

    def next_due(self, channel_id: str) -> datetime | None:
        """When a channel's next attempt is due; None if no delivery waits."""
        with self._engine.begin() as tx:
            due_at: datetime | None = tx.scalar(
                sa.select(sa.func.min(deliveries.c.next_attempt_at)).where(_is_pending(channel_id))
            )
            return due_at

    def delivered(self, id_: str, detail: str) -> None:
        """Note that the receiver has accepted the delivery, and what an Alertmanager has to be sent repeatedly now."""
        with self._write.begin() as tx:
            _finish(tx, id_, DELIVERED, detail, self._clock())
            delivery = tx.execute(sa.select(deliveries).where(deliveries.c.id == id_)).first()
            if delivery is not None and delivery.channel_type == "alertmanager":
                _note_open(tx, delivery)

    def failed(self, id_: str, detail: str) -> None:
        """Note that the delivery is given up."""
        with self._write.begin() as tx:
            _finish(tx, id_, FAILED, detail, None)

    def postponed(self, id_: str, detail: str, seconds: float) -> None:
        """Put the next attempt off by this many seconds."""
        changed = {"next_attempt_at": self._clock() + timedelta(seconds=seconds), "detail": _storable(detail)}
        with self._write.begin() as tx:
            tx.execute(
                deliveries.update().where(deliveries.c.id == id_, deliveries.c.status == PENDING).values(changed)
            )

    def open_alarms(self, channel_id: str) -> list[wire.AlarmEvent]:
        """The last delivered event of each open alarm, which an Alertmanager is sent repeatedly."""
        query = (
            sa.select(open_alarms.c.body).where(open_alarms.c.channel_id == channel_id).order_by(open_alarms.c.alarm_id)
        )
        with self._engine.begin() as tx:
            return [wire.decode_alarm_event(body) for body in tx.scalars(query)]

    def waiting(self) -> dict[str, int]:
        """Number of pending deliveries, by channel."""
        query = (
            sa.select(deliveries.c.channel_id, sa.func.count().label("n"))
            .where(deliveries.c.status == PENDING)
            .group_by(deliveries.c.channel_id)
        )
        with self._engine.begin() as tx:
            return {row.channel_id: row.n for row in tx.execute(query)}

    def clean_up(self) -> int:
        """Give up deliveries that were attempted for too long, and delete old ones and those of removed channels.

        Returns how many deliveries were given up. Deliveries of channels that no longer exist end only here.
        """
        now = self._clock()
        old = now - timedelta(days=self._settings.history_days)
        kept = [key for key, channel in self._settings.channels.items() if channel.is_enabled]
        late = (deliveries.c.status == PENDING) & (deliveries.c.created_at < now - self._give_up)
        with self._write.begin() as tx:
            given_up = tx.execute(deliveries.update().where(late).values(status=FAILED)).rowcount
            tx.execute(deliveries.delete().where(deliveries.c.status != PENDING, deliveries.c.created_at < old))
            tx.execute(last_notified.delete().where(last_notified.c.at < old))
            tx.execute(open_alarms.delete().where(open_alarms.c.channel_id.not_in(kept)))
        return int(given_up)


def _finish(tx: sa.Connection, id_: str, status: str, detail: str, sent_at: datetime | None) -> None:
    changed = {"status": status, "detail": _storable(detail), "sent_at": sent_at}
    tx.execute(deliveries.update().where(deliveries.c.id == id_).values(**changed))


def _note_open(tx: sa.Connection, delivery: sa.Row[Any]) -> None:
    """Remember a delivered event as what is resent of its alarm, unless the alarm has ended.

    It may have ended after the event, in which case nothing else would take it from the open alarms.
    """
    alarm_id, event = delivery.alarm_id, wire.decode_alarm_event(delivery.body)
    now = sa.select(alarms.c.status).where(alarms.c.alarm_id == alarm_id).with_for_update()
    ends = (event.alarm.status, tx.scalar(now))
    table = open_alarms
    tx.execute(table.delete().where(table.c.channel_id == delivery.channel_id, table.c.alarm_id == alarm_id))
    if "resolved" not in ends:
        tx.execute(table.insert().values(channel_id=delivery.channel_id, alarm_id=alarm_id, body=delivery.body))


def _is_pending(channel_id: str) -> sa.ColumnElement[bool]:
    return (deliveries.c.channel_id == channel_id) & (deliveries.c.status == PENDING)


def _storable(words: str) -> str:
    """A receiver's words as any database stores them: no NUL, no lone surrogates."""
    return words.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
