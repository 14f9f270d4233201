"""The alarm rules in force at each time (pure)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from streams.detect.rules import CompiledRule, RuleSet


@dataclass(slots=True)
class _History:
    """The versions of one rule, in order of time; None where it is deleted or not enabled."""

    since: list[int] = field(default_factory=list)
    versions: list[CompiledRule | None] = field(default_factory=list)


class RuleBook:
    """Rules by the time since which they are in force, so that a reading is evaluated by the rules of its time.

    Changes of different rules may be put in any order, but those of one rule in order of time.
    """

    _CACHED = 8

    def __init__(self, rules: Iterable[CompiledRule] = ()) -> None:
        self._histories: dict[str, _History] = {}
        self._moments: list[int] | None = []
        self._sets: dict[int, RuleSet] = {}
        for rule in rules:
            self.put(rule.id, rule, 0)

    def __len__(self) -> int:
        """Number of rules in force after all changes."""
        return sum(history.versions[-1] is not None for history in self._histories.values())

    def knows(self, rule_id: str) -> bool:
        """Whether there is any version of this rule."""
        return rule_id in self._histories

    @property
    def is_empty(self) -> bool:
        """Whether no rule was ever in force."""
        return not self._histories

    def put(self, rule_id: str, rule: CompiledRule | None, since: int) -> None:
        """Put a version in force from a moment on, but not before the current version; None ends the rule."""
        history = self._histories.setdefault(rule_id, _History())
        if rule is None and not history.versions:
            del self._histories[rule_id]  # it was deleted before this book began
            return
        if history.since:
            since = max(since, history.since[-1])
            if since == history.since[-1]:
                history.since.pop()
                history.versions.pop()
        history.since.append(since)
        history.versions.append(rule)
        self._moments = None
        self._sets.clear()

    @property
    def _changes(self) -> list[int]:
        if self._moments is None:
            self._moments = sorted({moment for history in self._histories.values() for moment in history.since})
        return self._moments

    def at(self, moment: int) -> RuleSet:
        """The rules in force at a moment."""
        index = bisect_right(self._changes, moment)
        rules = self._sets.get(index)
        if rules is None:
            if len(self._sets) >= self._CACHED:
                self._sets.pop(next(iter(self._sets)))
            rules = self._sets[index] = self._set(moment)
        return rules

    def _set(self, moment: int) -> RuleSet:
        rules = []
        for history in self._histories.values():
            index = bisect_right(history.since, moment)
            if index and (rule := history.versions[index - 1]) is not None:
                rules.append(rule)
        return RuleSet(rules)

    def next_change(self, moment: int) -> int | None:
        """When the rules change next after a moment."""
        index = bisect_right(self._changes, moment)
        return self._changes[index] if index < len(self._changes) else None
