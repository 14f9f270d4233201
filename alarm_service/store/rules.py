"""The alarm rules in the database, kept as the rules topic has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pydantic_core
import sqlalchemy as sa

from alarm_service.store.tables import rules, storable
from runtime.database import writing
from schemas.consumed import Record
from schemas.records import AlarmRule
from schemas.rules import encode_rule, parse_rule


class RuleStore:
    """The rules by id, each with its place on the rules topic. Every method may raise `SQLAlchemyError`."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._write = writing(engine)

    def replace(self, ends: Mapping[int, int], latest: Iterable[Record]) -> list[str]:
        """Make the rules those of the rules topic, read up to `ends` by partition.

        `latest` is the last record of each key. Rules stored from behind these ends stay. Returns one line per record
        that is not a valid rule.
        """
        records = {_key_of(record): record for record in latest}
        with self._write.begin() as tx:
            stored = {row.rule_id: row for row in tx.execute(sa.select(rules))}
            newer = {name for name, row in stored.items() if row.position >= ends.get(row.partition, 0)}
            gone = [name for name in stored if name not in newer and name not in records]
            if gone:
                tx.execute(rules.delete().where(rules.c.rule_id.in_(gone)))
            return _put_rules(tx, [record for name, record in records.items() if name not in newer])

    def apply(self, records: Sequence[Record]) -> list[str]:
        """Apply changes of rules, in order; records older than what is stored change nothing. Returns as `replace`."""
        with self._write.begin() as tx:
            return _put_rules(tx, records)

    def all(self) -> list[AlarmRule]:
        """The rules, enabled or not, by id."""
        query = sa.select(rules.c.body).where(rules.c.body.is_not(None)).order_by(rules.c.rule_id)
        with self._engine.begin() as tx:
            return [AlarmRule.model_validate_json(body) for body in tx.scalars(query)]

    def get(self, rule_id: str) -> AlarmRule | None:
        """The rule of this id, if there is one."""
        with self._engine.begin() as tx:
            body = tx.scalar(sa.select(rules.c.body).where(rules.c.rule_id == storable(rule_id)))
        return None if body is None else AlarmRule.model_validate_json(body)


def _put_rules(tx: sa.Connection, records: Sequence[Record]) -> list[str]:
    problems: list[str] = []
    for record in records:
        name = _key_of(record)
        body, problem = _rule_body(record)
        if problem is not None:
            problems.append(problem)
        position = tx.scalar(sa.select(rules.c.position).where(rules.c.rule_id == name).with_for_update())
        values = {"partition": record.partition, "position": record.offset, "body": body}
        if position is None:
            tx.execute(rules.insert().values(rule_id=name, **values))
        elif position < record.offset:
            tx.execute(rules.update().where(rules.c.rule_id == name).values(**values))
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
    return storable((record.key or b"").decode(errors="replace"))
