"""The grammar of alarm rules: what is accepted, what is refused and why, what an update makes of a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import AlarmRule
from schemas.rules import (
    Condition,
    MessageRateConfig,
    MissingDataConfig,
    RefusedRule,
    SilenceConfig,
    ThresholdConfig,
    config_of,
    encode_rule,
    merge_rule,
    parse_rule,
    parse_rules,
)

CONFIGS: dict[str, dict[str, Any]] = {
    "threshold": {"metric": "environment.temperature", "operator": "gt", "value": 35, "duration_seconds": 300},
    "offline": {"duration_seconds": 300},
    "missing_data": {"metric": "battery.level", "missed_intervals": 3, "reporting_interval_seconds": 60},
    "message_rate": {"operator": "gt", "value": 100, "window_seconds": 60},
    "reconnect_rate": {"value": 5},
}


def item(rule_type: str = "threshold", **fields: Any) -> dict[str, Any]:
    return {"id": "r", "name": "R", "rule_type": rule_type, "config": CONFIGS[rule_type]} | fields


def accepted(rule_type: str = "threshold", **fields: Any) -> AlarmRule:
    rule = parse_rule(item(rule_type, **fields))
    assert isinstance(rule, AlarmRule), rule
    return rule


def refused(rule_type: str = "threshold", **fields: Any) -> RefusedRule:
    rule = parse_rule(item(rule_type, **fields))
    assert isinstance(rule, RefusedRule), rule
    return rule


@pytest.mark.parametrize("rule_type", CONFIGS)
def test_every_type_is_understood(rule_type: str) -> None:
    assert accepted(rule_type).rule_type == rule_type


def test_configs_are_typed_and_have_defaults() -> None:
    threshold = config_of(accepted())
    assert isinstance(threshold, ThresholdConfig)
    assert (threshold.value, threshold.duration_seconds, threshold.clear) == (35, 300, None)
    rate = config_of(accepted("message_rate", config={"operator": "lt", "value": 1}))
    assert isinstance(rate, MessageRateConfig)
    assert rate.window_seconds == 60
    missing = config_of(accepted("missing_data"))
    assert isinstance(missing, MissingDataConfig) and isinstance(missing, SilenceConfig)
    assert (missing.metric, missing.missed_intervals) == ("battery.level", 3)


def test_a_clear_condition_speaks_of_the_same_metric_unless_it_names_another() -> None:
    config = config_of(accepted(config={**CONFIGS["threshold"], "clear": {"operator": "lt", "value": 30}}))
    assert isinstance(config, ThresholdConfig)
    assert config.clear == Condition(metric="environment.temperature", operator="lt", value=30)
    other = {"metric": "door.open", "operator": "eq", "value": True}
    config = config_of(accepted(config={**CONFIGS["threshold"], "clear": other}))
    assert isinstance(config, ThresholdConfig)
    assert config.clear is not None and config.clear.metric == "door.open"


def test_conditions_nest() -> None:
    hot = {"metric": "t", "operator": "gt", "value": 30}
    away = {
        "any": [{"metric": "mode", "operator": "eq", "value": "away"}, {"metric": "t", "operator": "gt", "value": 40}]
    }
    config = config_of(accepted(config={"all": [hot, away], "duration_seconds": 60}))
    assert isinstance(config, ThresholdConfig)
    assert config.all is not None and config.all[1].any is not None
    deep: dict[str, Any] = hot
    for _ in range(5):
        deep = {"all": [deep]}
    assert refused(config=deep).reason == "conditions are nested more than 5 deep"
    for _ in range(3000):
        deep = {"all": [deep]}
    assert refused(config=deep).field.startswith("config")


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"config": {"metric": "m", "operator": "gt"}}, "config.value", "exactly one"),
        ({"config": {"metric": "m", "operator": "gt", "value": 1, "than_metric": "n"}}, "config.value", "exactly one"),
        ({"config": {"all": []}}, "config.all", "at least 1"),
        ({"config": {"all": [{"metric": "m", "operator": "gt", "value": "x"}]}}, "config.all.0.operator", "number"),
        ({"config": {**CONFIGS["threshold"], "all": [CONFIGS["threshold"]]}}, "config.all.0.duration_seconds", "Extra"),
        ({"config": {**CONFIGS["threshold"], "clear": {"operator": "lt"}}}, "config.clear.value", "exactly one"),
        ({"config": {"metric": "m", "operator": "gt", "value": float("nan")}}, "config.value", "finite"),
        ({"config": {"metric": "m", "operator": "eq", "value": "a", "change_seconds": 9}}, "config.change_seconds", ""),
        ({"rule_type": "offline", "config": {}}, "config", "exactly one of duration_seconds"),
        ({"rule_type": "message_rate", "config": {"operator": "gt", "value": 5, "window_seconds": 0}},
         "config.window_seconds", "greater than 0"),
        ({"rule_type": "reconnect_rate", "config": {"operator": "lt", "value": 5}}, "config.operator", "gt"),
        ({"active_hours": {"timezone": "Atlantis/Capital"}}, "active_hours", "is not known"),
        ({"active_hours": {"from": "25:00"}}, "active_hours.from", "match"),
        ({"inhibited_by": ["r"]}, "inhibited_by", "itself"),
        ({"actions": ["create_alarm", "explode"]}, "actions", "explode is unknown"),
        ({"flapping": {"count": 1}}, "flapping.count", "greater than or equal"),
    ],
)  # fmt: skip
def test_refused_with_field_and_reason(fields: dict[str, Any], field: str, reason: str) -> None:
    refusal = refused(**fields)
    assert refusal.field == field
    assert reason in refusal.reason


def test_a_rule_that_is_no_object() -> None:
    assert parse_rule([1]) == RefusedRule("(no id)", "", "expected an object, got list")


def test_a_text_may_hold_a_list_an_object_or_one_rule() -> None:
    for text in (json.dumps([item()]), json.dumps({"rules": [item()]}), json.dumps(item())):
        rules, bad = parse_rules(text)
        assert ([rule.id for rule in rules], bad) == (["r"], [])


def test_an_update_is_merged_deeply() -> None:
    """wayscloud.txt, «Update alarm rule»: the request names one field of `config`, the answer has them all."""
    after = merge_rule(accepted(), {"config": {"value": 40}, "severity": "critical", "name": None})
    assert isinstance(after, AlarmRule)
    assert after.config == {**CONFIGS["threshold"], "value": 40}
    assert (after.severity.value, after.name) == ("critical", "R")


def test_null_within_config_takes_a_key_out() -> None:
    after = merge_rule(accepted(), {"config": {"duration_seconds": None}})
    assert isinstance(after, AlarmRule)
    assert "duration_seconds" not in after.config


def test_an_update_is_checked_like_a_new_rule() -> None:
    assert merge_rule(accepted(), {"config": {"value": "hot"}}) == RefusedRule(
        "r", "config.operator", "gt needs a number as value"
    )
    assert merge_rule(accepted(), {"rule_type": "offline"}) == RefusedRule(
        "r", "rule_type", "cannot be changed; create another rule"
    )


def test_an_unknown_severity_word_is_kept_until_another_is_given() -> None:
    rule = accepted(severity="Urgent")
    assert (rule.severity.value, rule.severity_original) == ("warning", "Urgent")
    after = merge_rule(rule, {"severity": "major"})
    assert isinstance(after, AlarmRule)
    assert (after.severity.value, after.severity_original) == ("major", None)


@given(
    st.sampled_from(sorted(CONFIGS)),
    st.sampled_from(["critical", "Major", "unheard of"]),
    st.integers(0, 10_000),
    st.none() | st.just({"timezone": "Europe/Oslo", "from": "22:00", "to": "06:00", "days": ["sat"]}),
    st.booleans(),
)
def test_a_rule_survives_its_journey_through_the_topic(
    rule_type: str, severity: str, cooldown: int, hours: dict[str, Any] | None, flag: bool
) -> None:
    rule = accepted(rule_type, severity=severity, cooldown_seconds=cooldown, active_hours=hours, latch=flag)
    assert parse_rule(json.loads(encode_rule(rule))) == rule
