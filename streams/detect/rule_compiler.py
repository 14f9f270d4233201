"""Alarm rules from the grammar of `schemas.rules` to what evaluation needs (pure, but for files).

A rule that is well formed and yet cannot be compiled is refused with field and reason; it never stops the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
from streams.detect.conditions import Comparison, compile_condition, shown, sign
from streams.detect.rules import RECONNECT_METRICS, CompiledInhibitor, CompiledRule, RuleSet
from streams.detect.schedules import FLEET, Schedule, Scope
from streams.normalise.datapoints import datapoint_of, metric_of
from streams.normalise.message import Datapoint

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


def load_rules_file(path: Path, datapoints: Mapping[str, Datapoint] | None = None) -> tuple[RuleSet, list[RefusedRule]]:
    """Load the rules of a file. Raise OSError if it cannot be read, ValueError if it is not YAML or lists no rules."""
    return load_rules(path.read_text(encoding="utf-8-sig"), datapoints)


def load_rules(text: str, datapoints: Mapping[str, Datapoint] | None = None) -> tuple[RuleSet, list[RefusedRule]]:
    """Compile the enabled rules of a YAML or JSON text (`schemas.rules.parse_rules`). Return them and those refused.

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
    """Compile a rule that `schemas.rules` accepted.

    Raise ValueError if a value's unit cannot be converted to that of the readings (`refusal` makes it a refused rule),
    or (pydantic's) if `schemas.rules` would have refused the rule.
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
        "schedule": None if rule.active_hours is None else Schedule(rule.active_hours),
        "local_inhibitors": tuple(each for each in rule.inhibited_by if isinstance(each, str)),
        "remote_inhibitors": tuple(_remote(each) for each in rule.inhibited_by if not isinstance(each, str)),
        "flapping_count": rule.flapping.count,
        "flapping_within": _micros(rule.flapping.seconds),
        "flapping_suppress": rule.flapping.suppress,
    }
    return CompiledRule(**common, **_by_kind(rule, given))


def _remote(given: RemoteInhibitor) -> CompiledInhibitor:
    return CompiledInhibitor(given.rule, given.device or given.same or "", given.device is not None)


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
        "missed_intervals": config.missed_intervals,
        "default_interval": None
        if config.reporting_interval_seconds is None
        else _micros(config.reporting_interval_seconds),
        "metric": metric,
        "metrics": () if metric is None else (metric,),
        "text": f"nothing received of {metric}" if metric else "nothing received",
    }


def _micros(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _scope(rule: AlarmRule) -> Scope:
    """A device is named by its id (`vendor:native-id`); a bare native id is WAYSCloud's."""
    if rule.scope_type == "fleet":
        return FLEET
    if rule.scope_type == "device":
        device = rule.scope_device_id or ""
        return "device", device if ":" in device else f"wayscloud:{device}"
    name = rule.scope_type if rule.scope_type in ("vendor", "model") else f"{rule.scope_type}_id"
    return rule.scope_type, str(getattr(rule, f"scope_{name}"))
