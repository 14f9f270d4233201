"""Alarm rules compiled for evaluation, indexed by what they concern, and in force by time (pure, but for files).

Their grammar is `schemas.rules`. A rule that is well formed and yet not understood here is refused with field and
reason; it never stops the others.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.inhibition import levels_of
from schemas.records import AlarmRule, RemoteInhibitor
from schemas.rules import (
    MessageRateConfig,
    MissingDataConfig,
    ReconnectRateConfig,
    RefusedRule,
    SilenceConfig,
    ThresholdConfig,
    config_of,
    parse_rules,
)
from streams.detect.conditions import Comparison, Node, compile_condition, shown, sign
from streams.detect.schedules import FLEET, Hours, Scope
from streams.normalise.message import Datapoint
from streams.normalise.wayscloud import datapoint_of, metric_of

__all__ = ["DEFAULT_RULES", "CompiledRule", "RefusedRule", "RuleBook", "RuleSet", "compile_rule", "load_rules"]

DEFAULT_RULES = """\
# Alarm rules. Fields and meaning: docs/alarm-rules.md
rules:
  - id: battery-low
    name: Battery low
    rule_type: threshold
    config: { metric: battery.level, operator: lt, value: 15, duration_seconds: 3 }
    severity: major
    auto_resolve: true
    cooldown_seconds: 0
  - id: room-too-hot
    name: Room too hot
    rule_type: threshold
    config: { metric: environment.temperature, operator: gt, value: 40, duration_seconds: 3 }
    severity: critical
    auto_resolve: true
    cooldown_seconds: 0
"""
"""The rules of the demo, and an example to start from."""

CONNECTED = "network.connected"
LAST_CONNECTED = "connection.last_connected"
RECONNECT_METRICS = (CONNECTED, LAST_CONNECTED)
"""What tells that a device connected anew: the first turns true, or the second takes another value."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A cause on another device: the one that an attribute names, or any that has the same attribute."""

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
    hours: Hours | None
    inhibited_by: tuple[str, ...]
    elsewhere: tuple[Elsewhere, ...]
    """Causes on other devices."""
    flapping_count: int
    flapping_within: int
    flapping_suppress: bool
    text: str
    """The condition as people read it: `battery.level < 15`."""
    duration: int = 0
    metric: str | None = None
    """The metric an alarm is said to be of."""
    metrics: tuple[str, ...] = ()
    """Readings of these concern the rule."""
    condition: Node | None = None
    clear: Node | None = None
    simple: Comparison | None = None
    """The condition, where a reading alone decides it."""
    silence: int | None = None
    """Nothing heard for so long."""
    missed: float | None = None
    """Or for so many of the device's reporting intervals …"""
    interval: int | None = None
    """… which is this long where the device's own is not known."""
    window: int = 0
    operator: str = ""
    value: float = 0.0
    rank: int = 0
    """Order of evaluation: causes before what they inhibit."""
    level: int = 0
    """Above 0 it is judged later, when its causes on other devices are known (`schemas.inhibition`)."""

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
        kept = {rule.id for rule in self.rules if rule.elsewhere}
        self.circular = frozenset(rule.id for rule in given if rule.elsewhere and rule.id not in kept)
        """Rules whose causes on other devices lead back to them: these causes are left out."""
        self.by_id = {rule.id: rule for rule in self.rules}
        self.levels = max((rule.level for rule in self.rules), default=0)
        self.causes = frozenset(cause.rule_id for rule in self.rules for cause in rule.elsewhere)
        """Rules that may inhibit those of other devices."""
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
    found: list[CompiledRule] = []
    parts = 0
    for scope in (FLEET, *scopes) if len(index) > len(scopes) else index:
        if (scope == FLEET or scope in scopes) and (rules := index.get(scope)):
            found = rules if not parts else [*found, *rules]
            parts += 1
    return found if parts < 2 else sorted(found, key=_rank)


def _rank(rule: CompiledRule) -> int:
    return rule.rank


def _ranked(rules: list[CompiledRule]) -> list[CompiledRule]:
    """Causes before what they inhibit; otherwise as given. Of rules that inhibit each other the first given wins."""
    by_id = {rule.id: rule for rule in rules}
    order: dict[str, CompiledRule] = {}
    visiting: set[str] = set()

    def visit(rule: CompiledRule) -> None:
        if rule.id in order or rule.id in visiting:
            return
        visiting.add(rule.id)
        for cause in rule.inhibited_by:
            if cause in by_id:
                visit(by_id[cause])
        order[rule.id] = rule

    if any(rule.inhibited_by for rule in rules):
        for rule in rules:
            visit(rule)
        rules = list(order.values())
    places: list[dict[str, Any]] = [{"rank": rank} for rank in range(len(rules))]
    if any(rule.elsewhere for rule in rules):
        levels, circular = levels_of(
            {rule.id: rule.inhibited_by for rule in rules},
            {rule.id: [cause.rule_id for cause in rule.elsewhere] for rule in rules},
        )
        places = [
            {**place, "level": levels[rule.id], **({"elsewhere": ()} if rule.id in circular else {})}
            for rule, place in zip(rules, places, strict=True)
        ]
    return [_placed(rule, place) for rule, place in zip(rules, places, strict=True)]


def _placed(rule: CompiledRule, place: Mapping[str, Any]) -> CompiledRule:
    # dataclasses.replace is slow, and the rules of a set are made together.
    same = all(getattr(rule, name) == value for name, value in place.items())
    return rule if same else CompiledRule(**{**_fields(rule), **place})


def _fields(rule: CompiledRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in CompiledRule.__slots__}


@dataclass(slots=True)
class _History:
    """The versions of one rule, in order; None where it is deleted or not enabled."""

    since: list[int] = field(default_factory=list)
    versions: list[CompiledRule | None] = field(default_factory=list)


class RuleBook:
    """The rules by the time since which they are in force, so that a reading meets those of its time.

    Changes may come in any order of rules, but in order for each rule.
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
        """Put a version in force from a moment on, not before the version there is; None ends the rule."""
        history = self._histories.setdefault(rule_id, _History())
        if rule is None and not history.versions:
            del self._histories[rule_id]  # deleted before we came
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
            self._moments = sorted({moment for found in self._histories.values() for moment in found.since})
        return self._moments

    def at(self, moment: int) -> RuleSet:
        """The rules in force at a moment."""
        index = bisect_right(self._changes, moment)
        found = self._sets.get(index)
        if found is None:
            if len(self._sets) >= self._CACHED:
                self._sets.pop(next(iter(self._sets)))
            found = self._sets[index] = self._set(moment)
        return found

    def _set(self, moment: int) -> RuleSet:
        found = []
        for history in self._histories.values():
            index = bisect_right(history.since, moment)
            if index and (rule := history.versions[index - 1]) is not None:
                found.append(rule)
        return RuleSet(found)

    def next_change(self, moment: int) -> int | None:
        """When the rules change next after a moment."""
        index = bisect_right(self._changes, moment)
        return self._changes[index] if index < len(self._changes) else None


def load_rules_file(path: Path, datapoints: Mapping[str, Datapoint] | None = None) -> tuple[RuleSet, list[RefusedRule]]:
    """The rules of a file. OSError where it cannot be read, ValueError where it is no YAML or has no list of rules."""
    return load_rules(path.read_text(encoding="utf-8"), datapoints)


def load_rules(text: str, datapoints: Mapping[str, Datapoint] | None = None) -> tuple[RuleSet, list[RefusedRule]]:
    """The enabled rules of a YAML or JSON text, compiled (see `schemas.rules.parse_rules`), and those refused.

    `datapoints` are the user's own (`[stream.wayscloud_datapoints]`), by which a rule's `datapoint_id` is understood.
    """
    accepted, refused = parse_rules(text)
    compiled: list[CompiledRule] = []
    for rule in accepted:
        try:
            compiled += [compile_rule(rule, datapoints)] if rule.is_enabled else []
        except ValueError as error:
            refused.append(refusal(rule.id, error))
    return RuleSet(compiled), refused


def refusal(rule_id: str, error: ValueError) -> RefusedRule:
    """Why a rule could not be compiled."""
    field, _, reason = str(error).partition(": ")
    return RefusedRule(rule_id, f"config.{field}", reason) if reason else RefusedRule(rule_id, "config", field)


def compile_rule(rule: AlarmRule, datapoints: Mapping[str, Datapoint] | None = None) -> CompiledRule:
    """A rule that `schemas.rules` accepted, compiled.

    ValueError where a value's unit is not that of the readings (`refusal`), or (pydantic's) where it would have been
    refused.
    """
    given = datapoints or {}
    common: dict[str, Any] = {
        "id": rule.id,
        "name": rule.name,
        "kind": rule.rule_type,
        "severity": rule.severity.value,
        "severity_original": rule.severity_original,
        "cooldown": rule.cooldown_seconds * 1_000_000,
        "auto_resolve": rule.auto_resolve,
        "latch": rule.latch,
        "scope": _scope(rule),
        "hours": None if rule.active_hours is None else Hours(rule.active_hours),
        "inhibited_by": tuple(cause for cause in rule.inhibited_by if isinstance(cause, str)),
        "elsewhere": tuple(_elsewhere(cause) for cause in rule.inhibited_by if not isinstance(cause, str)),
        "flapping_count": rule.flapping.count,
        "flapping_within": _micros(rule.flapping.seconds),
        "flapping_suppress": rule.flapping.suppress,
    }
    return CompiledRule(**common, **_by_kind(rule, given))


def _elsewhere(cause: RemoteInhibitor) -> Elsewhere:
    return Elsewhere(cause.rule, cause.device or cause.same or "", cause.device is not None)


def _by_kind(rule: AlarmRule, datapoints: Mapping[str, Datapoint]) -> dict[str, Any]:
    config = config_of(rule)
    if isinstance(config, ThresholdConfig):
        return _threshold(config, datapoints)
    if isinstance(config, MessageRateConfig):
        text = f"messages in {config.window_seconds:g} s {sign(config.operator)} {shown(config.value)}"
        return {
            "window": _micros(config.window_seconds),
            "operator": config.operator,
            "value": config.value,
            "text": text,
        }
    if isinstance(config, ReconnectRateConfig):
        text = f"reconnects in {config.window_seconds:g} s {sign(config.operator)} {shown(config.value)}"
        return {
            "window": _micros(config.window_seconds),
            "operator": config.operator,
            "value": config.value,
            "text": text,
            "metrics": RECONNECT_METRICS,
        }
    assert isinstance(config, SilenceConfig)
    return _silence(config, datapoints)


def _threshold(config: ThresholdConfig, datapoints: Mapping[str, Datapoint]) -> dict[str, Any]:
    def translated(name: str) -> Datapoint:
        return datapoint_of(name, datapoints)

    node = compile_condition(config, translated)
    clear = None if config.clear is None else compile_condition(config.clear, translated)
    simple = node if isinstance(node, Comparison) and node.is_simple and clear is None else None
    metrics = [*node.metrics, *(clear.metrics if clear is not None else ())]
    return {
        "duration": _micros(config.duration_seconds),
        "condition": node,
        "clear": clear,
        "simple": simple,
        "metric": metrics[0],
        "metrics": tuple(dict.fromkeys(metrics)),
        "text": str(node),
    }


def _silence(config: SilenceConfig, datapoints: Mapping[str, Datapoint]) -> dict[str, Any]:
    metric = None
    if isinstance(config, MissingDataConfig) and (config.metric or config.datapoint_id):
        metric = config.metric or metric_of(config.datapoint_id or "", datapoints)
    return {
        "silence": None if config.duration_seconds is None else _micros(config.duration_seconds),
        "missed": config.missed_intervals,
        "interval": None if config.reporting_interval_seconds is None else _micros(config.reporting_interval_seconds),
        "metric": metric,
        "metrics": () if metric is None else (metric,),
        "text": f"nothing received of {metric}" if metric else "nothing received",
    }


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _scope(rule: AlarmRule) -> Scope:
    """A device is named as ours (`vendor:native-id`); a bare id is WAYSCloud's."""
    if rule.scope_type == "fleet":
        return FLEET
    if rule.scope_type == "device":
        device = rule.scope_device_id or ""
        return "device", device if ":" in device else f"wayscloud:{device}"
    name = rule.scope_type if rule.scope_type in ("vendor", "model") else f"{rule.scope_type}_id"
    return rule.scope_type, str(getattr(rule, f"scope_{name}"))
