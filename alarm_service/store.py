"""What the service knows: alarms with their timelines, rules, API keys. A relational database.

SQLite in the state folder by default; any database SQLAlchemy speaks to by a URL (tested with PostgreSQL). Everything
here blocks: the service calls it in threads. Each call is one transaction, durable when it returns.

Rows come from Kafka, and the offset up to which they came is stored with them, in the same transaction: after kill -9
all of a batch is there or nothing of it, and nothing is applied twice. Several services may share a database: who finds
that another has stored the batch (`StaleBatch`) goes on from where that one came to.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pydantic_core
import sqlalchemy as sa

from alarm_service.notify import outbox
from runtime.api_keys import hash_key
from runtime.database import Database, Moment, Schema, meta_table, open_database
from schemas import wire
from schemas.consumed import Record
from schemas.records import AlarmRule
from schemas.rules import encode_rule, parse_rule
from schemas.topics import ALARMS
from schemas.words import AlarmStatus, KeyRole, Severity

OPEN = ("active", "acknowledged")

_ALARM_DECODER = msgspec.json.Decoder(wire.Alarm)

_metadata = sa.MetaData()
meta_table(_metadata)
_offsets = sa.Table(
    "offsets",
    _metadata,
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("next", sa.BigInteger, nullable=False),
)
_alarms = sa.Table(
    "alarms",
    _metadata,
    sa.Column("alarm_id", sa.String, primary_key=True),
    sa.Column("device_id", sa.String, nullable=False, index=True),
    sa.Column("rule_id", sa.String, nullable=False, index=True),
    sa.Column("status", sa.String, nullable=False, index=True),
    sa.Column("severity", sa.String, nullable=False),
    sa.Column("triggered_at", Moment, nullable=False, index=True),
    sa.Column("resolved_at", Moment),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
_events = sa.Table(
    "alarm_events",
    _metadata,
    sa.Column("alarm_id", sa.String, sa.ForeignKey("alarms.alarm_id"), primary_key=True),
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("action_id", sa.String, index=True),
    sa.Column("body", sa.Text, nullable=False),
)
_rules = sa.Table(
    "rules",
    _metadata,
    sa.Column("rule_id", sa.String, primary_key=True),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("position", sa.BigInteger, nullable=False),
    sa.Column("body", sa.Text),  # null: deleted, or no rule
)
_keys = sa.Table(
    "api_keys",
    _metadata,
    sa.Column("key_id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("created_at", Moment, nullable=False),
    sa.Column("revoked_at", Moment),
)


OnEvents = Callable[[sa.Connection, Sequence[wire.AlarmEvent]], None]
"""Gets the events that are new, in the transaction that stores them."""


class StaleBatch(Exception):
    """Somebody else has stored these offsets meanwhile: the batch is not ours to store."""


@dataclass(frozen=True)
class StoredAlarm:
    """An alarm as it stands, when its first event happened, and whether its device and rule have no later one."""

    alarm: wire.Alarm
    created_at: datetime
    is_latest: bool = True


@dataclass(frozen=True)
class AlarmFilter:
    """Which alarms; None: any."""

    status: str | None = None
    severity: str | None = None
    device_id: str | None = None
    rule_id: str | None = None


@dataclass(frozen=True)
class Summary:
    """How many alarms there are, by the document's groups; `by_severity` counts open ones."""

    by_status: Mapping[str, int]
    by_severity: Mapping[str, int]

    @property
    def open(self) -> int:
        """Active or acknowledged."""
        return sum(self.by_status[status] for status in OPEN)


@dataclass(frozen=True)
class KeyInfo:
    """An API key as an operator may see it; its name is the actor of what is done with it."""

    key_id: str
    name: str
    role: KeyRole
    created_at: datetime
    revoked_at: datetime | None


class Store(Database):
    """The database. Every method may raise `SQLAlchemyError`: it is away."""

    on_events: OnEvents | None = None

    # -- what Kafka told

    def offsets(self) -> dict[int, int]:
        """The next offset to store of each partition of the alarms topic; those without one are left out."""
        with self._engine.begin() as tx:
            return {row.partition: row.next for row in tx.execute(sa.select(_offsets))}

    def add_events(self, partition: int, expected: int | None, events: Sequence[wire.AlarmEvent], next_: int) -> None:
        """Store consecutive events of a partition, and `next_` as what comes then. StaleBatch unless `expected` is
        what was to come. An event that is there already (a replay tells it again) changes nothing.
        """
        with self._write.begin() as tx:
            _advance(tx, partition, expected, next_)
            known = _sequences(tx, {event.alarm.alarm_id for event in events})
            there, fresh = set(known), []
            for event in events:
                if event.sequence > known.get(event.alarm.alarm_id, 0):
                    known[event.alarm.alarm_id] = event.sequence
                    fresh.append(event)
            for alarm_id, event in {event.alarm.alarm_id: event for event in fresh}.items():
                if alarm_id in there:
                    tx.execute(_alarms.update().where(_alarms.c.alarm_id == alarm_id).values(**_alarm_row(event)))
                else:
                    first = next(event for event in fresh if event.alarm.alarm_id == alarm_id)
                    tx.execute(_alarms.insert().values(created_at=first.created_at, **_alarm_row(event)))
            if fresh:
                tx.execute(_events.insert(), [_event_row(event) for event in fresh])
                if self.on_events is not None:
                    self.on_events(tx, fresh)

    def set_rules(self, ends: Mapping[int, int], latest: Iterable[Record]) -> list[str]:
        """Make the rules those of the rules topic, read up to `ends` by partition; `latest` is the last record of each
        key. What is stored from behind these ends stays. Answers what is no rule, in a line each.
        """
        records = {_key_of(record): record for record in latest}
        with self._write.begin() as tx:
            stored = {row.rule_id: row for row in tx.execute(sa.select(_rules))}
            newer = {name for name, row in stored.items() if row.position >= ends.get(row.partition, 0)}
            gone = [name for name in stored if name not in newer and name not in records]
            if gone:
                tx.execute(_rules.delete().where(_rules.c.rule_id.in_(gone)))
            return _put_rules(tx, [record for name, record in records.items() if name not in newer])

    def add_rules(self, records: Sequence[Record]) -> list[str]:
        """Take in changes of rules, in order; older ones than are stored change nothing. Answers as `set_rules`."""
        with self._write.begin() as tx:
            return _put_rules(tx, records)

    # -- alarms

    def alarms(self, which: AlarmFilter, page: int, page_size: int) -> tuple[list[StoredAlarm], int]:
        """One page (from 1) of the alarms that match, latest first, and how many match in all."""
        chosen = [
            _alarms.c[name] == _plain(value)
            for name in ("status", "severity", "device_id", "rule_id")
            if (value := getattr(which, name)) is not None
        ]
        query = sa.select(_alarms).where(*chosen).order_by(_alarms.c.triggered_at.desc(), _alarms.c.alarm_id)
        with self._engine.begin() as tx:
            total = tx.scalar(sa.select(sa.func.count()).select_from(_alarms).where(*chosen)) or 0
            rows = tx.execute(query.limit(page_size).offset((page - 1) * page_size)).all()
        return [StoredAlarm(_decode_alarm(row.body), row.created_at) for row in rows], total

    def alarm(self, alarm_id: str) -> StoredAlarm | None:
        """One alarm; None where there is none of this id."""
        with self._engine.begin() as tx:
            row = tx.execute(sa.select(_alarms).where(_alarms.c.alarm_id == _plain(alarm_id))).first()
            if row is None:
                return None
            same = (_alarms.c.device_id == row.device_id) & (_alarms.c.rule_id == row.rule_id)
            later = sa.select(_alarms.c.alarm_id).where(same, _alarms.c.triggered_at > row.triggered_at).limit(1)
            return StoredAlarm(_decode_alarm(row.body), row.created_at, tx.scalar(later) is None)

    def timeline(self, alarm_id: str) -> list[wire.AlarmEvent]:
        """What happened to an alarm, in order; nothing where there is none of this id."""
        query = sa.select(_events.c.body).where(_events.c.alarm_id == alarm_id).order_by(_events.c.sequence)
        with self._engine.begin() as tx:
            return [wire.decode_alarm_event(body) for body in tx.scalars(query)]

    def is_done(self, action_id: str) -> bool:
        """Whether the engine has carried an action out."""
        with self._engine.begin() as tx:
            return tx.scalar(sa.select(_events.c.sequence).where(_events.c.action_id == action_id)) is not None

    def summary(self) -> Summary:
        """Counts by status, and of the open ones by severity. Every word of ours is there, if only with 0."""
        query = sa.select(_alarms.c.status, _alarms.c.severity, sa.func.count().label("n")).group_by(
            _alarms.c.status, _alarms.c.severity
        )
        by_status = {status.value: 0 for status in AlarmStatus}
        by_severity = {severity.value: 0 for severity in Severity}
        with self._engine.begin() as tx:
            for row in tx.execute(query):
                by_status[row.status] += row.n
                if row.status in OPEN:
                    by_severity[row.severity] += row.n
        return Summary(by_status, by_severity)

    def forget_resolved(self, before: datetime) -> int:
        """Forget alarms that were resolved before; how many."""
        return self._forget((_alarms.c.status == "resolved") & (_alarms.c.resolved_at < before))

    def erase(self, device_id: str) -> int:
        """Forget the alarms of a device; how many."""
        return self._forget(_alarms.c.device_id == _plain(device_id))

    def _forget(self, which: sa.ColumnElement[bool]) -> int:
        with self._write.begin() as tx:
            chosen = sa.select(_alarms.c.alarm_id).where(which)
            outbox.forget(tx, chosen)
            tx.execute(_events.delete().where(_events.c.alarm_id.in_(chosen)))
            return tx.execute(_alarms.delete().where(which)).rowcount

    # -- rules

    def rules(self) -> list[AlarmRule]:
        """The rules, enabled or not, by id."""
        query = sa.select(_rules.c.body).where(_rules.c.body.is_not(None)).order_by(_rules.c.rule_id)
        with self._engine.begin() as tx:
            return [AlarmRule.model_validate_json(body) for body in tx.scalars(query)]

    def rule(self, rule_id: str) -> AlarmRule | None:
        """One rule; None where there is none of this id."""
        with self._engine.begin() as tx:
            body = tx.scalar(sa.select(_rules.c.body).where(_rules.c.rule_id == _plain(rule_id)))
        return None if body is None else AlarmRule.model_validate_json(body)

    # -- API keys

    def create_key(self, name: str, role: KeyRole, now: datetime) -> str:
        """Make an API key and return it, the only time that anybody sees it: its hash is kept."""
        key_id, secret = secrets.token_hex(4), secrets.token_hex(16)
        with self._write.begin() as tx:
            values = {"key_id": key_id, "name": name, "digest": hash_key(secret), "role": role, "created_at": now}
            tx.execute(_keys.insert().values(**values))
        return f"fleetlake_{key_id}_{secret}"

    def find_key(self, key: str) -> KeyInfo | None:
        """Whose key it is, and what it may do; None where it is not in force. Compared in constant time."""
        if not key.isascii():
            return None
        _, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        query = sa.select(_keys).where(_keys.c.key_id == _plain(key_id), _keys.c.revoked_at.is_(None))
        with self._engine.begin() as tx:
            row = tx.execute(query).first()
        known = row.digest if row is not None else hash_key("")
        return _key_info(row) if hmac.compare_digest(known, hash_key(secret)) and row is not None else None

    def list_keys(self) -> list[KeyInfo]:
        """All keys, revoked ones too, oldest first."""
        with self._engine.begin() as tx:
            rows = tx.execute(sa.select(_keys).order_by(_keys.c.created_at, _keys.c.key_id))
            return [_key_info(row) for row in rows]

    def revoke_key(self, key_id: str, now: datetime) -> bool:
        """Revoke a key, for good; whether there was one in force."""
        which = (_keys.c.key_id == key_id) & _keys.c.revoked_at.is_(None)
        with self._write.begin() as tx:
            return bool(tx.execute(_keys.update().where(which).values(revoked_at=now)).rowcount)


def _add_roles(tx: sa.Connection) -> None:
    """Keys from before there were roles may do what they could: everything."""
    tx.execute(sa.text(f"ALTER TABLE api_keys ADD COLUMN role VARCHAR NOT NULL DEFAULT '{KeyRole.ADMIN.value}'"))


SCHEMA = Schema("the alarm service", _metadata, lock=7305809, changes=(_add_roles,))


def open_store(url: str | None, path: Path) -> Store:
    """The store at a URL, else in a SQLite file; made where it is not there.

    StageError where it cannot be opened. The text never holds the URL's password.
    """
    return Store(open_database(SCHEMA, url, path, lambda tx: outbox.make_tables(tx, datetime.now(UTC))))


def _advance(tx: sa.Connection, partition: int, expected: int | None, next_: int) -> None:
    """Move a partition's offset on; StaleBatch where it is not where it is expected."""
    if expected is None:
        if tx.scalar(sa.select(_offsets.c.next).where(_offsets.c.partition == partition)) is not None:
            raise StaleBatch(f"{ALARMS}[{partition}] was begun by somebody else")
        try:
            tx.execute(_offsets.insert().values(partition=partition, next=next_))
        except sa.exc.IntegrityError as raced:  # PostgreSQL lets two look before one writes
            raise StaleBatch(f"{ALARMS}[{partition}] was begun by somebody else") from raced
        return
    where = (_offsets.c.partition == partition) & (_offsets.c.next == expected)
    if tx.execute(_offsets.update().where(where).values(next=next_)).rowcount != 1:
        raise StaleBatch(f"{ALARMS}[{partition}] is no longer at {expected}")


def _sequences(tx: sa.Connection, alarm_ids: set[str]) -> dict[str, int]:
    """The last event stored of each of these alarms."""
    query = sa.select(_alarms.c.alarm_id, _alarms.c.sequence).where(_alarms.c.alarm_id.in_(alarm_ids))
    return {row.alarm_id: row.sequence for row in tx.execute(query)}


def _alarm_row(event: wire.AlarmEvent) -> dict[str, Any]:
    alarm = event.alarm
    return {
        "alarm_id": alarm.alarm_id,
        "device_id": _plain(alarm.device_id),
        "rule_id": _plain(alarm.rule_id),
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


def _put_rules(tx: sa.Connection, records: Sequence[Record]) -> list[str]:
    problems: list[str] = []
    for record in records:
        name = _key_of(record)
        body, problem = _rule_body(record)
        if problem is not None:
            problems.append(problem)
        position = tx.scalar(sa.select(_rules.c.position).where(_rules.c.rule_id == name).with_for_update())
        values = {"partition": record.partition, "position": record.offset, "body": body}
        if position is None:
            tx.execute(_rules.insert().values(rule_id=name, **values))
        elif position < record.offset:
            tx.execute(_rules.update().where(_rules.c.rule_id == name).values(**values))
    return problems


def _rule_body(record: Record) -> tuple[str | None, str | None]:
    """The rule as it is stored, and what is wrong with it, if anything."""
    if record.value is None:
        return None, None
    try:
        rule = parse_rule(pydantic_core.from_json(record.value))
    except ValueError as error:
        return None, f"rule {_key_of(record)}: not JSON: {error}"
    return (encode_rule(rule).decode(), None) if isinstance(rule, AlarmRule) else (None, str(rule))


def _key_of(record: Record) -> str:
    return _plain((record.key or b"").decode(errors="replace"))


def _plain(text: str) -> str:
    """The text as any database takes it: PostgreSQL knows no NUL. What is told of it comes from `body`."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _key_info(row: Any) -> KeyInfo:
    return KeyInfo(row.key_id, row.name, KeyRole(row.role), row.created_at, row.revoked_at)


def _decode_alarm(body: str) -> wire.Alarm:
    return _ALARM_DECODER.decode(body)
