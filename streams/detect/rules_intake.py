"""Taking alarm rules in from the rules topic (pure)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence

from schemas.consumed import Record
from schemas.records import AlarmRule
from schemas.rules import RefusedRule, parse_rule
from schemas.timestamps import NEVER, to_micros
from streams.detect.rule_book import RuleBook
from streams.detect.rule_compiler import compile_rule, refusal
from streams.detect.rules import CompiledRule, RuleSet
from streams.normalise.datapoints import definitions_of_rule
from streams.normalise.message import Datapoint

log = logging.getLogger(__name__)

_SETTLING_MS = 60_000
"""A rule's `updated_at` is believed if it lies no further before the time of its record."""


class RulesIntake:
    """Compiles rules as they come, and puts them in force in the rule book."""

    def __init__(
        self, datapoints: Mapping[str, Datapoint], rules: Sequence[CompiledRule] = (), *, log_level: int = logging.ERROR
    ) -> None:
        """`log_level` is that of the lines about refused rules."""
        self.book = RuleBook(rules)
        self.refused: list[RefusedRule] = []
        """Rules of the topic that are not in force, newest last."""
        self._datapoints = datapoints
        self._is_changed = bool(rules)
        self._log_level = log_level
        self._circular: frozenset[str] = frozenset()

    def take(self, record: Record) -> None:
        """Take a record of the rules topic. ValueError if it cannot be read as a rule; a refused rule is logged."""
        name = (record.key or b"").decode()
        rule = None if record.value is None else parse_rule(json.loads(record.value))
        if isinstance(rule, RefusedRule):
            self._refuse(rule)
            rule = None
        if rule is not None and rule.id != name:
            raise ValueError(f"the rule has the id {rule.id!r} and the key {name!r}")
        of_vendor = definitions_of_rule(_header(record, "ce_datapoints"), self._datapoints)
        compiled = self._compiled(rule, of_vendor) if rule is not None and rule.is_enabled else None
        self.book.put(name, compiled, self._in_force_since(name, rule, record.timestamp * 1000))
        self._is_changed = True

    def changed(self) -> RuleSet | None:
        """The rules in force after all changes; None if nothing has changed since the last call."""
        if not self._is_changed:
            return None
        self._is_changed = False
        rules = self.book.at(NEVER)
        for rule_id in sorted(rules.circular - self._circular):
            reason = "its inhibitors on other devices lead back to it; they do not inhibit it"
            self._refuse(RefusedRule(rule_id, "inhibited_by", reason), "partly in force: %s")
        self._circular = rules.circular
        return rules

    def _in_force_since(self, name: str, rule: AlarmRule | None, at: int) -> int:
        """A rule that is new here has been in force since it was made; a change, since it was made known."""
        if rule is None:
            return at
        if not self.book.knows(name):
            return 0 if rule.created_at is None else min(at, to_micros(rule.created_at))
        if rule.updated_at is not None and 0 <= at - to_micros(rule.updated_at) <= _SETTLING_MS * 1000:
            return to_micros(rule.updated_at)
        return at

    def _compiled(self, rule: AlarmRule, of_vendor: Mapping[str, Datapoint]) -> CompiledRule | None:
        """`of_vendor`: the datapoints of the vendor's account, by id. The user's own take precedence."""
        try:
            return compile_rule(rule, {**of_vendor, **self._datapoints})
        except ValueError as error:
            self._refuse(refusal(rule.id, error))
            return None

    def _refuse(self, rule: RefusedRule, message: str = "not in force: %s") -> None:
        self.refused.append(rule)
        log.log(self._log_level, message, rule)


def _header(record: Record, name: str) -> str:
    return next((value.decode() for key, value in record.headers if key == name and value is not None), "")
