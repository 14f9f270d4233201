"""Alarms and their timelines in the database, with the offsets up to which they came from Kafka.

Rows and the offset up to which they came are stored in one transaction: after kill -9 all of a batch is there or
nothing of it, and nothing is applied twice. Several services may share a database: a service that finds that another
one has stored the batch (`StaleBatch`) continues from where that one stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from alarm_service.store import delivery_tables
from alarm_service.store.tables import alarm_events, alarms, offsets, storable, topics
from runtime.database import writing
from schemas import wire
from schemas.topics import ALARMS
from schemas.words import AlarmStatus, Severity

OPEN = ("active", "acknowledged")

_ALARM_DECODER = msgspec.json.Decoder(wire.Alarm)


OnEvents = Callable[[sa.Connection, Sequence[wire.AlarmEvent]], None]
"""Receives the events that are new, in the transaction that stores them.

In the service it is `notify.delivery_planner.DeliveryPlanner.add`, which writes their deliveries.
"""


class StaleBatch(Exception):
    """Another service has stored these offsets meanwhile: the batch is not ours to store."""


@dataclass(frozen=True)
class StoredAlarm:
    """An alarm as it stands, when its first event happened, and whether its device and rule have no later one."""

    alarm: wire.Alarm
    created_at: datetime
    is_latest: bool = True


@dataclass(frozen=True)
class AlarmFilter:
    """Which alarms; None matches any."""

    status: str | None = None
    severity: str | None = None
    device_id: str | None = None
    rule_id: str | None = None


@dataclass(frozen=True)
class Summary:
    """How many alarms there are, by status; `by_severity` counts open ones."""

    by_status: Mapping[str, int]
    by_severity: Mapping[str, int]

    @property
    def open(self) -> int:
        """Number of alarms that are active or acknowledged."""
        return sum(self.by_status[status] for status in OPEN)


class AlarmStore:
    """Alarms, their events, and the offsets of the alarms topic. Every method may raise `SQLAlchemyError`.

    `on_events` receives each new event once, in the transaction that stores it.
    """

    def __init__(self, engine: sa.Engine, on_events: OnEvents | None = None) -> None:
        self._engine = engine
        self._write = writing(engine)
        self._on_events = on_events

    # -- from Kafka

    def offsets(self) -> dict[int, int]:
        """The next offset to store, by partition of the alarms topic; partitions without one are left out."""
        with self._engine.begin() as tx:
            return {row.partition: row.next for row in tx.execute(sa.select(offsets))}

    def known_topic(self, name: str, id_: str) -> str:
        """The id of the topic that the offsets belong to. The first call decides it."""
        with self._write.begin() as tx:
            known: str | None = tx.scalar(sa.select(topics.c.id).where(topics.c.name == name))
            if known is None:
                tx.execute(topics.insert().values(name=name, id=id_))
            return known or id_

    def add_events(self, partition: int, expected: int | None, events: Sequence[wire.AlarmEvent], next_: int) -> None:
        """Store consecutive events of a partition, and `next_` as the offset that comes then.

        StaleBatch unless the stored offset is `expected`. An event that is stored already changes nothing.
        """
        with self._write.begin() as tx:
            _advance(tx, partition, expected, next_)
            sequences = _sequences(tx, {event.alarm.alarm_id for event in events})
            stored, fresh = set(sequences), []
            for event in events:
                if event.sequence > sequences.get(event.alarm.alarm_id, 0):
                    sequences[event.alarm.alarm_id] = event.sequence
                    fresh.append(event)
            _put_alarms(tx, fresh, stored)
            if fresh:
                tx.execute(alarm_events.insert(), [_event_row(event) for event in fresh])
                if self._on_events is not None:
                    self._on_events(tx, fresh)

    # -- reading

    def page(self, which: AlarmFilter, page: int, page_size: int) -> tuple[list[StoredAlarm], int]:
        """One page (from 1) of the alarms that match, latest first, and how many match in all."""
        conditions = [
            alarms.c[name] == storable(value)
            for name in ("status", "severity", "device_id", "rule_id")
            if (value := getattr(which, name)) is not None
        ]
        query = sa.select(alarms).where(*conditions).order_by(alarms.c.triggered_at.desc(), alarms.c.alarm_id)
        with self._engine.begin() as tx:
            total = tx.scalar(sa.select(sa.func.count()).select_from(alarms).where(*conditions)) or 0
            rows = tx.execute(query.limit(page_size).offset((page - 1) * page_size)).all()
        return [StoredAlarm(_decode_alarm(row.body), row.created_at) for row in rows], total

    def get(self, alarm_id: str) -> StoredAlarm | None:
        """The alarm of this id, if there is one."""
        with self._engine.begin() as tx:
            row = tx.execute(sa.select(alarms).where(alarms.c.alarm_id == storable(alarm_id))).first()
            if row is None:
                return None
            same = (alarms.c.device_id == row.device_id) & (alarms.c.rule_id == row.rule_id)
            later = sa.select(alarms.c.alarm_id).where(same, alarms.c.triggered_at > row.triggered_at).limit(1)
            return StoredAlarm(_decode_alarm(row.body), row.created_at, tx.scalar(later) is None)

    def timeline(self, alarm_id: str) -> list[wire.AlarmEvent]:
        """The events of an alarm, in order; empty if there is no such alarm."""
        query = (
            sa.select(alarm_events.c.body).where(alarm_events.c.alarm_id == alarm_id).order_by(alarm_events.c.sequence)
        )
        with self._engine.begin() as tx:
            return [wire.decode_alarm_event(body) for body in tx.scalars(query)]

    def is_done(self, action_id: str) -> bool:
        """Whether the alarm engine has carried an action out."""
        query = sa.select(alarm_events.c.sequence).where(alarm_events.c.action_id == action_id)
        with self._engine.begin() as tx:
            return tx.scalar(query) is not None

    def summary(self) -> Summary:
        """Counts by status, and of the open ones by severity. Every status and severity is a key, if only with 0."""
        query = sa.select(alarms.c.status, alarms.c.severity, sa.func.count().label("n")).group_by(
            alarms.c.status, alarms.c.severity
        )
        by_status = {status.value: 0 for status in AlarmStatus}
        by_severity = {severity.value: 0 for severity in Severity}
        with self._engine.begin() as tx:
            for row in tx.execute(query):
                by_status[row.status] += row.n
                if row.status in OPEN:
                    by_severity[row.severity] += row.n
        return Summary(by_status, by_severity)

    # -- forgetting

    def forget_resolved(self, before: datetime) -> int:
        """Delete alarms that were resolved before this time; how many."""
        return self._forget((alarms.c.status == "resolved") & (alarms.c.resolved_at < before))

    def erase(self, device_id: str) -> int:
        """Delete the alarms of a device; how many."""
        return self._forget(alarms.c.device_id == storable(device_id))

    def _forget(self, which: sa.ColumnElement[bool]) -> int:
        with self._write.begin() as tx:
            chosen = sa.select(alarms.c.alarm_id).where(which)
            delivery_tables.forget(tx, chosen)
            tx.execute(alarm_events.delete().where(alarm_events.c.alarm_id.in_(chosen)))
            return tx.execute(alarms.delete().where(which)).rowcount


def _advance(tx: sa.Connection, partition: int, expected: int | None, next_: int) -> None:
    """Move a partition's offset on; StaleBatch where it is not where it is expected."""
    if expected is None:
        if tx.scalar(sa.select(offsets.c.next).where(offsets.c.partition == partition)) is not None:
            raise StaleBatch(f"{ALARMS}[{partition}] was begun by another service")
        try:
            tx.execute(offsets.insert().values(partition=partition, next=next_))
        except sa.exc.IntegrityError as raced:  # PostgreSQL lets two look before one writes
            raise StaleBatch(f"{ALARMS}[{partition}] was begun by another service") from raced
        return
    where = (offsets.c.partition == partition) & (offsets.c.next == expected)
    if tx.execute(offsets.update().where(where).values(next=next_)).rowcount != 1:
        raise StaleBatch(f"{ALARMS}[{partition}] is no longer at {expected}")


def _sequences(tx: sa.Connection, alarm_ids: set[str]) -> dict[str, int]:
    """The last event stored of each of these alarms."""
    query = sa.select(alarms.c.alarm_id, alarms.c.sequence).where(alarms.c.alarm_id.in_(alarm_ids))
    return {row.alarm_id: row.sequence for row in tx.execute(query)}


def _put_alarms(tx: sa.Connection, fresh: Sequence[wire.AlarmEvent], stored: set[str]) -> None:
    """Write each alarm as its last new event leaves it."""
    for alarm_id, event in {event.alarm.alarm_id: event for event in fresh}.items():
        if alarm_id in stored:
            tx.execute(alarms.update().where(alarms.c.alarm_id == alarm_id).values(**_alarm_row(event)))
        else:
            first = next(event for event in fresh if event.alarm.alarm_id == alarm_id)
            tx.execute(alarms.insert().values(created_at=first.created_at, **_alarm_row(event)))


def _alarm_row(event: wire.AlarmEvent) -> dict[str, Any]:
    alarm = event.alarm
    return {
        "alarm_id": alarm.alarm_id,
        "device_id": storable(alarm.device_id),
        "rule_id": storable(alarm.rule_id),
        "status": alarm.status,
        "severity": alarm.severity,
        "triggered_at": alarm.triggered_at,
        "resolved_at": alarm.resolved_at,
        "sequence": event.sequence,
        "body": wire.encode(alarm).decode(),
    }


def _event_row(event: wire.AlarmEvent) -> dict[str, Any]:
    return {
        "alarm_id": event.alarm.alarm_id,
        "sequence": event.sequence,
        "action_id": (event.metadata or {}).get("action_id"),
        "body": wire.encode(event).decode(),
    }


def _decode_alarm(body: str) -> wire.Alarm:
    return _ALARM_DECODER.decode(body)
