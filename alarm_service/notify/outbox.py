"""The outbox: deliveries that are to be made, were made, or were given up; in the alarm service's own database.

A delivery is written in the transaction that stores the alarm event it tells, so that neither is there without the
other, whatever is killed when. Who sends one claims it first, by moving its next attempt into the future: a claim that
nobody finishes (the process was killed) runs out by itself, and the delivery is attempted again under the same id.
Delivery: at least once; repeats have the same id. Events of one alarm go over a channel in order. Everything here
blocks; each call is a transaction, durable when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from alarm_service.notify.policies import Delivery, Memberships, Told, deliveries
from alarm_service.notify.settings import NotifySettings
from runtime.database import Moment, writing
from schemas import wire

PENDING, DELIVERED, FAILED = "pending", "delivered", "failed"
STATUSES = (PENDING, DELIVERED, FAILED)

_metadata = sa.MetaData()
_began = sa.Table(
    "notify_began",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
)
_deliveries = sa.Table(
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
    sa.Index("notify_order", "channel_id", "status", "alarm_id", "seq"),  # whether something older of its alarm waits
)
_told = sa.Table(
    "notify_told",
    _metadata,
    sa.Column("policy_id", sa.String, primary_key=True),
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Column("status", sa.String, nullable=False),
)
_open = sa.Table(
    "notify_open",  # what an Alertmanager is to be told again and again
    _metadata,
    sa.Column("channel_id", sa.String, primary_key=True),
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("body", sa.Text, nullable=False),
)


@dataclass(frozen=True)
class Claimed:
    """A delivery that is ours to attempt until the claim runs out."""

    id: str
    attempt: int
    policy_id: str
    event: wire.AlarmEvent
    created_at: datetime


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


def make_tables(tx: sa.Connection, now: datetime) -> None:
    """Make the tables where they are not there. Events from before the first time are not told."""
    _metadata.create_all(tx)
    if tx.scalar(sa.select(_began.c.at)) is None:
        tx.execute(_began.insert().values(id=1, at=now))


def forget(tx: sa.Connection, alarm_ids: sa.Select[Any]) -> None:
    """Forget what was or is to be told of these alarms."""
    for table in (_deliveries, _told, _open):
        tx.execute(table.delete().where(table.c.alarm_id.in_(alarm_ids)))


class Outbox:
    """The tables of an engine. Every method may raise `SQLAlchemyError`: the database is away."""

    def __init__(
        self,
        engine: sa.Engine,
        settings: NotifySettings,
        members: Memberships,
        clock: Callable[[], datetime],
    ) -> None:
        self._engine = engine
        self._write = writing(engine)
        self._settings = settings
        self._members = members
        self._clock = clock
        self._give_up = timedelta(hours=settings.give_up_hours)

    # -- in the store's transaction

    def add(self, tx: sa.Connection, events: Sequence[wire.AlarmEvent]) -> None:
        """Write what these events, none of which was stored before, are to be told as."""
        if not self._settings.policies or not events:
            return
        now = self._clock()
        since = max(tx.scalar(sa.select(_began.c.at)) or now, now - self._give_up)
        told = _told_of(tx, {event.alarm.alarm_id for event in events})
        found: list[Delivery] = []
        for event in events:
            _close(tx, event)
            if event.created_at < since:
                continue
            known = told.setdefault(event.alarm.alarm_id, {})
            new = deliveries(event, self._settings, self._members, known)
            for delivery in new:
                known[delivery.policy_id] = Told(event.created_at, event.alarm.status)
                _note_open(tx, delivery)
            found += new
        _remember(tx, found, told)
        rows = {delivery.id: _row(delivery, now) for delivery in found}
        there = set(tx.scalars(sa.select(_deliveries.c.id).where(_deliveries.c.id.in_(rows))))
        fresh = [row for id_, row in rows.items() if id_ not in there]
        if fresh:
            tx.execute(_deliveries.insert(), fresh)

    # -- sending

    def claim(self, channel_id: str, lease: timedelta) -> Claimed | None:
        """The next delivery of a channel that is due, ours for `lease`; None where there is none."""
        now, other = self._clock(), _deliveries.alias()
        due_at = self.next_due(channel_id)
        if due_at is None or due_at > now:  # looked at without a lock: an idle lane is in nobody's way
            return None
        before = sa.exists().where(
            other.c.channel_id == channel_id,
            other.c.status == PENDING,
            other.c.alarm_id == _deliveries.c.alarm_id,
            other.c.seq < _deliveries.c.seq,
        )
        due = (
            sa.select(_deliveries)
            .where(_waits(channel_id), _deliveries.c.next_attempt_at <= now, ~before)
            .order_by(_deliveries.c.next_attempt_at, _deliveries.c.seq)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with self._write.begin() as tx:
            row = tx.execute(due).first()
            if row is None:
                return None
            changed = {"attempts": row.attempts + 1, "next_attempt_at": now + lease}
            tx.execute(_deliveries.update().where(_deliveries.c.seq == row.seq).values(**changed))
        event = wire.decode_alarm_event(row.body)
        return Claimed(row.id, row.attempts + 1, row.policy_id, event, row.created_at)

    def next_due(self, channel_id: str) -> datetime | None:
        """When a channel's next attempt is due; None where nothing waits."""
        with self._engine.begin() as tx:
            found: datetime | None = tx.scalar(
                sa.select(sa.func.min(_deliveries.c.next_attempt_at)).where(_waits(channel_id))
            )
            return found

    def delivered(self, id_: str, detail: str) -> None:
        """The receiver has it."""
        self._finish(id_, DELIVERED, detail, self._clock())

    def failed(self, id_: str, detail: str) -> None:
        """It is given up."""
        self._finish(id_, FAILED, detail, None)

    def postponed(self, id_: str, detail: str, seconds: float) -> None:
        """It is to be attempted again after so many seconds."""
        changed = {"next_attempt_at": self._clock() + timedelta(seconds=seconds), "detail": _plain(detail)}
        with self._write.begin() as tx:
            tx.execute(
                _deliveries.update().where(_deliveries.c.id == id_, _deliveries.c.status == PENDING).values(changed)
            )

    def _finish(self, id_: str, status: str, detail: str, sent_at: datetime | None) -> None:
        changed = {"status": status, "detail": _plain(detail), "sent_at": sent_at}
        with self._write.begin() as tx:
            tx.execute(_deliveries.update().where(_deliveries.c.id == id_).values(**changed))

    def open_alarms(self, channel_id: str) -> list[wire.AlarmEvent]:
        """What an Alertmanager is to be told again: the last told event of each alarm that is open."""
        query = sa.select(_open.c.body).where(_open.c.channel_id == channel_id).order_by(_open.c.alarm_id)
        with self._engine.begin() as tx:
            return [wire.decode_alarm_event(body) for body in tx.scalars(query)]

    # -- history and upkeep

    def history(
        self,
        limit: int,
        offset: int,
        *,
        channel_type: str | None = None,
        status: str | None = None,
        channel_id: str | None = None,
    ) -> tuple[list[DeliveryInfo], int]:
        """Deliveries that match, latest first, from `offset` on; and how many match in all."""
        asked = {"channel_type": channel_type, "status": status, "channel_id": channel_id}
        chosen = [_deliveries.c[name] == value for name, value in asked.items() if value is not None]
        query = sa.select(_deliveries).where(*chosen).order_by(_deliveries.c.seq.desc()).limit(limit).offset(offset)
        with self._engine.begin() as tx:
            total = tx.scalar(sa.select(sa.func.count()).select_from(_deliveries).where(*chosen)) or 0
            return [_info(row) for row in tx.execute(query)], total

    def waiting(self) -> dict[str, int]:
        """How many deliveries wait, by channel."""
        query = (
            sa.select(_deliveries.c.channel_id, sa.func.count().label("n"))
            .where(_deliveries.c.status == PENDING)
            .group_by(_deliveries.c.channel_id)
        )
        with self._engine.begin() as tx:
            return {row.channel_id: row.n for row in tx.execute(query)}

    def tidy(self) -> int:
        """Give up what was tried for too long, forget what is long over, and alarms told to channels that are gone.

        Answers how many deliveries were given up: those of channels that are no longer there end only here.
        """
        now = self._clock()
        old = now - timedelta(days=self._settings.history_days)
        kept = [key for key, channel in self._settings.channels.items() if channel.is_enabled]
        late = (_deliveries.c.status == PENDING) & (_deliveries.c.created_at < now - self._give_up)
        with self._write.begin() as tx:
            given_up = tx.execute(_deliveries.update().where(late).values(status=FAILED)).rowcount
            tx.execute(_deliveries.delete().where(_deliveries.c.status != PENDING, _deliveries.c.created_at < old))
            tx.execute(_told.delete().where(_told.c.at < old))
            tx.execute(_open.delete().where(_open.c.channel_id.not_in(kept)))
        return int(given_up)


def _waits(channel_id: str) -> sa.ColumnElement[bool]:
    return (_deliveries.c.channel_id == channel_id) & (_deliveries.c.status == PENDING)


def _plain(said: str) -> str:
    """What a receiver said, as any database takes it: no NUL, no lone surrogates."""
    return said.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _told_of(tx: sa.Connection, alarm_ids: Iterable[str]) -> dict[str, dict[str, Told]]:
    """By alarm and policy."""
    found: dict[str, dict[str, Told]] = {}
    for row in tx.execute(sa.select(_told).where(_told.c.alarm_id.in_(alarm_ids))):
        found.setdefault(row.alarm_id, {})[row.policy_id] = Told(row.at, row.status)
    return found


def _remember(tx: sa.Connection, found: Sequence[Delivery], told: Mapping[str, Mapping[str, Told]]) -> None:
    for policy, alarm in {(delivery.policy_id, delivery.event.alarm.alarm_id) for delivery in found}:
        last = told[alarm][policy]
        tx.execute(_told.delete().where(_told.c.policy_id == policy, _told.c.alarm_id == alarm))
        tx.execute(_told.insert().values(policy_id=policy, alarm_id=alarm, at=last.at, status=last.status))


def _close(tx: sa.Connection, event: wire.AlarmEvent) -> None:
    if event.alarm.status == "resolved":
        tx.execute(_open.delete().where(_open.c.alarm_id == event.alarm.alarm_id))


def _note_open(tx: sa.Connection, delivery: Delivery) -> None:
    alarm = delivery.event.alarm
    if delivery.channel_type != "alertmanager" or alarm.status == "resolved":
        return
    tx.execute(_open.delete().where(_open.c.channel_id == delivery.channel_id, _open.c.alarm_id == alarm.alarm_id))
    values = {
        "channel_id": delivery.channel_id,
        "alarm_id": alarm.alarm_id,
        "body": wire.encode(delivery.event).decode(),
    }
    tx.execute(_open.insert().values(**values))


def _row(delivery: Delivery, now: datetime) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "alarm_id": delivery.event.alarm.alarm_id,
        "event_type": delivery.event.event_type,
        "policy_id": delivery.policy_id,
        "channel_id": delivery.channel_id,
        "channel_type": delivery.channel_type,
        "status": PENDING,
        "attempts": 0,
        "created_at": now,
        "next_attempt_at": now,
        "detail": "",
        "body": wire.encode(delivery.event).decode(),
    }


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
