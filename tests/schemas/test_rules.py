"""The grammar of alarm rules: what is accepted, what is refused and why, what an update makes of a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.records import AlarmRule
from schemas.rule_fields import unknown_metric
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
    unknown_metrics,
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


@pytest.mark.parametrize("joined", ["all", "any"])
def test_of_one_to_twenty_conditions_one_is_made(joined: str) -> None:
    each = {"metric": "t", "operator": "gt", "value": 30}
    for number in (1, 20):
        config = config_of(accepted(config={joined: [each] * number}))
        assert isinstance(config, ThresholdConfig) and len(getattr(config, joined)) == number
    for number in (0, 21):
        assert refused(config={joined: [each] * number}).field == f"config.{joined}"


def test_a_rule_on_the_topic_may_have_fields_of_a_later_version() -> None:
    assert AlarmRule.model_validate(item() | {"of_a_later_version": 1}) == AlarmRule.model_validate(item())


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"config": {"metric": "m", "operator": "gt"}}, "config.value", "exactly one"),
        ({"config": {"metric": "m", "operator": "gt", "value": 1, "than_metric": "n"}}, "config.value", "exactly one"),
        ({"config": {"all": []}}, "config.all", "at least 1"),
        ({"config": {"all": [{"metric": "m", "operator": "gt", "value": "x"}]}}, "config.all.0.operator", "number"),
        ({"config": {"all": [CONFIGS["threshold"]]}}, "config.all.0.duration_seconds", "is unknown"),
        ({"config": {**CONFIGS["threshold"], "clear": {"operator": "lt"}}}, "config.clear.value", "exactly one"),
        ({"config": {"metric": "m", "operator": "gt", "value": float("nan")}}, "config.value", "finite"),
        ({"config": {"metric": "m", "operator": "eq", "value": "a", "change_seconds": 9}}, "config.change_seconds", ""),
        ({"rule_type": "offline", "config": {}}, "config", "exactly one of duration_seconds"),
        ({"rule_type": "message_rate", "config": {"operator": "gt", "value": 5, "window_seconds": 0}},
         "config.window_seconds", "more than 0"),
        ({"rule_type": "reconnect_rate", "config": {"operator": "lt", "value": 5}}, "config.operator", "gt"),
        ({"active_hours": {"timezone": "Atlantis/Capital"}}, "active_hours", "is not known"),
        ({"active_hours": {"from": "25:00"}}, "active_hours.from", "match"),
        ({"inhibited_by": ["r"]}, "inhibited_by", "itself"),
        ({"actions": ["create_alarm", "explode"]}, "actions", "explode is unknown"),
        ({"flapping": {"count": 1}}, "flapping.count", "at least 2"),
        ({"flapping": {"counts": 3}}, "flapping.counts", "did you mean count?"),
        ({"active_hours": {"form": "22:00"}}, "active_hours.form", "did you mean from?"),
        ({"config": {**CONFIGS["threshold"], "duration": 3}}, "config.duration", "did you mean duration_seconds?"),
        ({"config": {"all": [{**CONFIGS["threshold"], "xyz": 3}]}}, "config.all.0.duration_seconds", "is unknown"),
        ({"config": {"metric": "device.mode", "operator": "eq", "value": False}}, "config.value",
         "device.mode is text, and false is true or false; they never compare"),
        ({"config": {"metric": "battery.level", "operator": "eq", "value": "0"}}, "config.value",
         'battery.level is a number, and "0" is text'),
        ({"config": {"metric": "door.open", "operator": "neq", "value": 1}}, "config.value", "is true or false, and 1"),
        ({"config": {"metric": "job.routes", "operator": "eq", "value": 1}}, "config.value", "is an object"),
        ({"config": {"metric": "device.mode", "operator": "gt", "value": 1}}, "config.operator", "needs numbers"),
        ({"config": {"metric": "door.open", "operator": "eq", "value": True, "change_seconds": 1}},
         "config.change_seconds", "needs a number"),
        ({"config": {"metric": "battery.level", "operator": "lt", "than_metric": "device.mode"}},
         "config.than_metric", "device.mode is text, and battery.level is a number"),
        ({"config": {**CONFIGS["threshold"], "clear": {"operator": "eq", "value": "low"}}}, "config.clear.value", ""),
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


def of_text(text: str, **options: bool) -> AlarmRule | RefusedRule:
    rules, bad = parse_rules(f"rules:\n- {{name: R, rule_type: threshold, {text}}}", **options)
    (only,) = [*rules, *bad]
    return only


BATTERY = "config: {metric: battery.level, operator: lt, value: 15}"


@pytest.mark.parametrize(
    ("text", "field", "reason"),
    [
        (f"id: r, {BATTERY}, severty: major", "severty", "is unknown; did you mean severity?"),
        (f"id: r, {BATTERY}, cooldwn_seconds: 5", "cooldwn_seconds", "is unknown; did you mean cooldown_seconds?"),
        (f"id: r, {BATTERY}, auto_resolv: true", "auto_resolv", "is unknown; did you mean auto_resolve?"),
        (f"id: r, {BATTERY}, zzzzz: 1", "zzzzz", "is unknown"),
        (f"id: 0755, {BATTERY}", "id", 'number 493; if the text is meant, write "0755" in quotes'),
        (f"id: 1_0, {BATTERY}", "id", "YAML reads 1_0 as the number 10;"),
        (f"id: on, {BATTERY}", "id", "YAML reads on as true;"),
        (f"id: 2026-01-01, {BATTERY}", "id", "YAML reads 2026-01-01 as a date;"),
        (f"id: r, {BATTERY}, scope_device_id: 12345", "scope_device_id", "YAML reads 12345 as the number 12345;"),
        ("id: r, config: {metric: device.mode, operator: eq, value: 5}", "config.value", 'write "5" in quotes'),
        (f"id: r, {BATTERY}, active_hours: {{from: 22:00, to: 06:00}}", "active_hours.from", "as the number 1320;"),
        ("id: r, config: {metric: battery.level, operator: lt, value: 010}", "config.value", "010 as the number 8;"),
        ("id: r, config: {metric: device.mode, operator: eq, value: off}", "config.value", "reads off as false;"),
        ("id: r, config: {metric: karcher.mode, operator: eq, value: off}", "config.value", "reads off as false;"),
        ("id: r, config: {datapoint_id: m, operator: eq, value: off}", "config.value", "reads off as false;"),
        ("id: r, config: {all: [{metric: m, operator: eq, value: no}]}", "config.all.0.value", "reads no as false;"),
        ("id: r, config: {metric: cpu.usage, operator: gt, value: 1e3}", "config.operator", "1e3 as text; write 1000"),
        ("id: r, config: {metric: cpu.usage, operator: eq, value: 1e3}", "config.value", "1e3 as text; write 1000"),
        ("id: r, config: {metric: battery.level, operator: lt, value: 15, value: 99}", "config.value",
         "is given twice, in lines 2 and 2"),
        (f"id: r, {BATTERY}, severity: major, severity: minor", "severity", "is given twice"),
        (f"id: r, {BATTERY}, created_at: 2026-13-45", "", "not YAML"),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_eaten_by_yaml_is_refused_with_the_reason(text: str, field: str, reason: str) -> None:
    refusal = of_text(text)
    assert isinstance(refusal, RefusedRule)
    assert refusal.field == field
    assert reason in refusal.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"id: r, {BATTERY}, cooldown_seconds: -1", "has to be at least 0"),
        (f"id: r, {BATTERY}, auto_resolve: 5", "has to be true or false"),
        (f"id: r, {BATTERY}, flapping: {{count: 1.5}}", "has to be a whole number"),
        ("id: r, config: {metric: cpu.usage, operator: above, value: 15}",
         "has to be 'gt', 'gte', 'lt', 'lte', 'eq' or 'neq'"),
    ],
)  # fmt: skip
def test_a_number_that_is_read_as_it_is_written_is_explained_only_where_a_text_is_due(text: str, reason: str) -> None:
    refusal = of_text(text)
    assert isinstance(refusal, RefusedRule)
    assert refusal.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "id: r, config: {metric: device.mode, operator: eq, value: 'off'}",
        "id: r, config: {metric: door.open, operator: eq, value: yes}",
        "id: r, config: {metric: karcher.mode, operator: eq, value: false}",
        f"id: 755, {BATTERY}, auto_resolve: on, description: on and off",
        "id: r, config: {metric: cpu.usage, operator: gt, value: 1.0e+3}",
        f"id: r, {BATTERY}, active_hours: {{from: '22:00', to: 06:00}}",
    ],
)
def test_what_yaml_reads_as_it_is_meant_is_accepted(text: str) -> None:
    assert isinstance(of_text(text), AlarmRule)


def test_an_answer_of_wayscloud_may_have_fields_that_we_do_not_know() -> None:
    text = f"id: r, {BATTERY}, trigger_count: 5"
    assert isinstance(of_text(text), RefusedRule)
    assert isinstance(of_text(text, is_foreign=True), AlarmRule)


def test_a_number_of_json_is_a_number() -> None:
    text = json.dumps([item()]).replace("35", "1e3")
    ((rule,), bad) = parse_rules(text)
    assert (rule.config["value"], bad) == (1000.0, [])


def test_a_bad_rule_hides_no_good_one_and_aliases_neither_multiply_nor_run_in_circles() -> None:
    good = f"{{{BATTERY}, id: b, name: B, rule_type: threshold}}"
    many = "".join(f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    text = f"x:\n  l0: &l0 1\n{many}rules:\n- &a {{id: a, again: *a, big: *l29}}\n- {good}"
    rules, bad = parse_rules(text)
    assert ([rule.id for rule in rules], [rule.rule_id for rule in bad]) == (["b"], ["a"])


def test_a_metric_that_no_vendor_sends_is_warned_of_with_the_nearest() -> None:
    config = {
        "any": [
            {"metric": "batery.level", "operator": "lt", "value": 15},
            {"metric": "cpu.usage", "operator": "gt", "than_metric": "zzz"},
            {"metric": "karcher.someNewState", "operator": "eq", "value": "x"},
            {"metric": "mine", "operator": "eq", "value": "x"},
        ]
    }
    rules = [
        accepted(config=config),
        accepted("missing_data", config={"metric": "battery.levle", "duration_seconds": 9}),
    ]
    assert [(each.field, each.reason) for each in unknown_metrics(rules, ["mine"])] == [
        ("config.any.0.metric", "no vendor sends 'batery.level'; did you mean battery.level?"),
        ("config.any.1.than_metric", "no vendor sends 'zzz'"),
        ("config.metric", "no vendor sends 'battery.levle'; did you mean battery.level?"),
    ]


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


def test_a_metric_below_a_vendors_own_name_may_come_and_any_other_must_be_known() -> None:
    assert unknown_metric("karcher.someNewState") is None and unknown_metric("karcher.pose.inner.x") is None
    assert unknown_metric("battery.level") is None and unknown_metric("own.metric", ["own.metric"]) is None
    said = unknown_metric("pose.karcher")
    assert said is not None and said.startswith("no vendor sends 'pose.karcher'")
    assert unknown_metric("battery.levl") == "no vendor sends 'battery.levl'; did you mean battery.level?"
