"""Compiled alarm rules, and sets of them indexed by what they concern (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.inhibition import levels_of
from streams.detect.conditions import Comparison, Node
from streams.detect.schedules import FLEET, Schedule, Scope

CONNECTED = "network.connected"
LAST_CONNECTED = "connection.last_connected"
ONLINE = "connection.online"
CONNECTION_STATUS = "network.connection_status"
RECONNECT_METRICS = (CONNECTED, ONLINE, CONNECTION_STATUS, LAST_CONNECTED)
"""A device has reconnected when one of the first three turns true, or when the last takes another value."""
CONNECTION_WORDS = {"connected": True, "online": True, "disconnected": False, "offline": False}
"""What vendors' words of a connection status mean."""


@dataclass(frozen=True, slots=True)
class CompiledInhibitor:
    """A rule that inhibits by alarms of other devices: the one an attribute names, or any with the same value."""

    rule_id: str
    attribute: str
    names_device: bool


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule, ready to be evaluated. Times in microseconds."""

    id: str
    name: str
    kind: str
    severity: str
    severity_original: str | None
    cooldown: int
    auto_resolve: bool
    latch: bool
    scope: Scope
    schedule: Schedule | None
    """The active hours; None: always."""
    local_inhibitors: tuple[str, ...]
    """Rules whose alarms of the same device inhibit."""
    remote_inhibitors: tuple[CompiledInhibitor, ...]
    """Rules whose alarms of other devices inhibit."""
    flapping_count: int
    flapping_within: int
    flapping_suppress: bool
    text: str
    """The condition as people read it: `battery.level < 15`."""
    duration: int = 0
    metric: str | None = None
    """The metric that the rule's alarms name."""
    metrics: tuple[str, ...] = ()
    """The metrics whose readings concern the rule."""
    condition: Node | None = None
    clear: Node | None = None
    simple: Comparison | None = None
    """The condition, where a reading alone decides it."""
    silence: int | None = None
    """How long nothing must have been received."""
    missed_intervals: float | None = None
    """In place of `silence`: for how many of the device's reporting intervals nothing must have been received."""
    default_interval: int | None = None
    """Reporting interval of a device whose own is not known."""
    window: int = 0
    operator: str = ""
    value: float = 0.0
    rank: int = 0
    """Order of evaluation: inhibitors before what they inhibit."""
    level: int = 0
    """Above 0: evaluation is deferred until the inhibitors on other devices are known (`schemas.inhibition`)."""

    @property
    def is_of_records(self) -> bool:
        """Whether every record with readings of the device concerns it."""
        return not self.metrics


_Index = dict[Scope, list[CompiledRule]]


class RuleSet:
    """Compiled rules, indexed by metric and scope: a reading costs only the rules that concern it."""

    def __init__(self, rules: Iterable[CompiledRule]) -> None:
        given = list(rules)
        self.rules = tuple(_ranked(given))
        kept = {rule.id for rule in self.rules if rule.remote_inhibitors}
        self.circular = frozenset(rule.id for rule in given if rule.remote_inhibitors and rule.id not in kept)
        """Rules whose inhibitors on other devices lead back to them: these inhibitors are left out."""
        self.by_id = {rule.id: rule for rule in self.rules}
        self.levels = max((rule.level for rule in self.rules), default=0)
        self.inhibiting = frozenset(each.rule_id for rule in self.rules for each in rule.remote_inhibitors)
        """Rules whose alarms inhibit those of other devices."""
        self._metrics: dict[str, _Index] = {}
        self._records: _Index = {}
        for rule in self.rules:
            for metric in rule.metrics:
                self._metrics.setdefault(metric, {}).setdefault(rule.scope, []).append(rule)
            if rule.is_of_records:
                self._records.setdefault(rule.scope, []).append(rule)

    def __len__(self) -> int:
        return len(self.rules)

    def for_reading(self, metric: str, scopes: Sequence[Scope]) -> Sequence[CompiledRule]:
        """The rules that a reading of this metric concerns, of a device in these scopes."""
        index = self._metrics.get(metric)
        return () if index is None else _of_scopes(index, scopes)

    def for_record(self, scopes: Sequence[Scope]) -> Sequence[CompiledRule]:
        """The rules that every record with readings concerns, of a device in these scopes."""
        return _of_scopes(self._records, scopes) if self._records else ()

    def of_device(self, rule_id: str, scopes: Sequence[Scope]) -> CompiledRule | None:
        """The rule, if it is in force for a device in these scopes."""
        rule = self.by_id.get(rule_id)
        return rule if rule is not None and (rule.scope == FLEET or rule.scope in scopes) else None


def _of_scopes(index: _Index, scopes: Sequence[Scope]) -> Sequence[CompiledRule]:
    matching: list[CompiledRule] = []
    parts = 0
    for scope in (FLEET, *scopes) if len(index) > len(scopes) else index:
        if (scope == FLEET or scope in scopes) and (rules := index.get(scope)):
            matching = rules if not parts else [*matching, *rules]
            parts += 1
    return matching if parts < 2 else sorted(matching, key=_rank)


def _rank(rule: CompiledRule) -> int:
    return rule.rank


def _ranked(rules: list[CompiledRule]) -> list[CompiledRule]:
    """Inhibitors before what they inhibit; otherwise as given, also rules that inhibit each other."""
    by_id = {rule.id: rule for rule in rules}
    order: dict[str, CompiledRule] = {}
    visiting: set[str] = set()

    def visit(rule: CompiledRule) -> None:
        if rule.id in order or rule.id in visiting:
            return
        visiting.add(rule.id)
        for inhibitor in rule.local_inhibitors:
            if inhibitor in by_id:
                visit(by_id[inhibitor])
        order[rule.id] = rule

    if any(rule.local_inhibitors for rule in rules):
        for rule in rules:
            visit(rule)
        rules = list(order.values())
    places: list[dict[str, Any]] = [{"rank": rank} for rank in range(len(rules))]
    if any(rule.remote_inhibitors for rule in rules):
        levels, circular = levels_of(
            {rule.id: rule.local_inhibitors for rule in rules},
            {rule.id: [each.rule_id for each in rule.remote_inhibitors] for rule in rules},
        )
        places = [
            {**place, "level": levels[rule.id], **({"remote_inhibitors": ()} if rule.id in circular else {})}
            for rule, place in zip(rules, places, strict=True)
        ]
    return [_placed(rule, place) for rule, place in zip(rules, places, strict=True)]


def _placed(rule: CompiledRule, place: Mapping[str, Any]) -> CompiledRule:
    # dataclasses.replace is slow, and the rules of a set are made together.
    same = all(getattr(rule, name) == value for name, value in place.items())
    return rule if same else CompiledRule(**{**_fields(rule), **place})


def _fields(rule: CompiledRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in CompiledRule.__slots__}
