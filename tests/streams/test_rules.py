"""Rules are read, checked, and looked up by the readings they concern."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.records import AlarmRule
from schemas.rules import RefusedRule, parse_rule
from streams.detect import rule_compiler
from streams.detect.conditions import Comparison
from streams.detect.rule_compiler import DEFAULT_RULES, compile_rule, load_rules, load_rules_file
from streams.detect.rules import CompiledRule
from streams.normalise import Datapoint

GOOD = {
    "id": "a",
    "name": "Hot",
    "rule_type": "threshold",
    "config": {"datapoint_id": "temperature", "operator": "gt", "value": 35, "duration_seconds": 300},
}


def load_one(**fields: Any) -> CompiledRule:
    rules, refused = load_rules(json.dumps([GOOD | fields]))
    assert refused == []
    return rules.rules[0]


def refusal(**fields: Any) -> tuple[str, str]:
    rules, refused = load_rules(json.dumps([GOOD | fields, GOOD | {"id": "other"}]))
    assert [rule.id for rule in rules.rules] == ["other"], "a bad rule stopped a good one"
    assert len(refused) == 1
    return refused[0].field, refused[0].reason


def test_waysclouds_json_is_taken_as_it_is() -> None:
    """wayscloud.txt, «Create alarm rule», response."""
    answer = {
        "id": "c3d4e5f6-7890-1abc-def2-345678901cde",
        "name": "High temperature alert",
        "rule_type": "threshold",
        "scope_type": "fleet",
        "config": {"datapoint_id": "dp-abc123", "operator": "gt", "value": 35, "duration_seconds": 300},
        "severity": "warning",
        "actions": ["create_alarm"],
        "cooldown_seconds": 300,
        "is_enabled": True,
        "auto_resolve": False,
        "created_at": "2026-02-01T10:00:00Z",
        "updated_at": "2026-03-20T14:22:00Z",
    }
    rules, refused = load_rules(json.dumps({"rules": [answer]}), {"dp-abc123": Datapoint("environment.temperature")})
    assert refused == []
    rule = rules.rules[0]
    assert (rule.metric, rule.text, rule.severity) == (
        "environment.temperature",
        "environment.temperature > 35",
        "warning",
    )
    assert (rule.duration, rule.cooldown, rule.auto_resolve) == (300_000_000, 300_000_000, False)


def test_omitted_fields_have_the_documented_defaults() -> None:
    rule = load_one()
    assert (rule.scope, rule.cooldown, rule.auto_resolve, rule.severity) == (
        ("fleet", ""),
        300_000_000,
        False,
        "warning",
    )


def test_the_default_rules_are_good() -> None:
    rules, refused = load_rules(DEFAULT_RULES)
    assert refused == []
    assert [(r.text, r.duration, r.severity, r.auto_resolve, r.cooldown) for r in rules.rules] == [
        ("battery.level < 15", 3_000_000, "major", True, 0),
        ("environment.temperature > 40", 3_000_000, "critical", True, 0),
    ]


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(DEFAULT_RULES)
    rules, refused = load_rules_file(path)
    assert len(rules) == 2
    assert refused == []


@pytest.mark.parametrize(
    ("fields", "field", "reason"),
    [
        ({"rule_type": "magic"}, "rule_type", "must be one of threshold"),
        ({"config": None}, "config", "is missing"),
        ({"config": {"metric": "m", "operator": "above", "value": 1}}, "config.operator", "gt"),
        ({"config": {"metric": "m", "operator": "gt", "value": None}}, "config.value", "exactly one"),
        ({"config": {"operator": "gt", "value": 1}}, "config", "either metric or datapoint_id"),
        ({"config": {"metric": "m", "operator": "gt", "value": "hot"}}, "config.operator", "needs a number"),
        ({"config": {"metric": "m", "operator": "lt", "value": True}}, "config.operator", "needs a number"),
        ({"config": {"metric": "m", "operator": "gt", "value": 1, "tresh": 2}}, "config.tresh", "is unknown"),
        ({"scope_type": "device"}, "", "scope_device_id"),
        ({"cooldown_seconds": -1}, "cooldown_seconds", "at least 0"),
        ({"name": None}, "name", "is missing"),
        ({"id": None}, "id", "is missing"),
        ({"actions": ["send_webhook"]}, "actions", "create_alarm"),
    ],
)
def test_a_bad_rule_is_refused_with_field_and_reason(fields: dict[str, Any], field: str, reason: str) -> None:
    refused_field, why = refusal(**fields)
    assert refused_field == field
    assert reason in why


def test_endless_duration_is_refused() -> None:
    rules, refused = load_rules(
        "[{id: a, name: b, rule_type: threshold, config: {metric: m, operator: gt, value: 1, duration_seconds: .inf}}]"
    )
    assert len(rules) == 0
    assert refused[0].field == "config.duration_seconds"


def test_the_second_of_two_rules_of_one_id_is_refused() -> None:
    rules, refused = load_rules(json.dumps([GOOD, GOOD | {"name": "again"}]))
    assert [rule.name for rule in rules.rules] == ["Hot"]
    assert refused[0].field == "id"


@pytest.mark.parametrize("text", ["a: [", "just text", "{}", "3"])
def test_what_is_no_list_of_rules_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a list|YAML"):
        load_rules(text)


def test_severity_words_in_any_case_and_unknown_ones() -> None:
    assert load_one(severity="CRITICAL").severity == "critical"
    rule = load_one(severity="Urgent")
    assert (rule.severity, rule.severity_original) == ("warning", "Urgent")


def test_a_disabled_rule_is_neither_in_force_nor_refused() -> None:
    rules, refused = load_rules(json.dumps([GOOD | {"is_enabled": False}]))
    assert (len(rules), refused) == (0, [])


@pytest.mark.parametrize(
    ("operator", "value", "true", "false"),
    [
        ("gt", 1, 1.5, 1),
        ("gte", 1, 1, 0.5),
        ("lt", 1, 0.5, 1),
        ("lte", 1, 1, 1.5),
        ("eq", 1, 1, 2),
        ("neq", 1, 2, 1),
        ("eq", True, True, False),
        ("neq", "Idle", "Autonomous", "Idle"),
    ],
)
def test_operators(operator: str, value: Any, true: Any, false: Any) -> None:
    rule = load_one(config={"metric": "m", "operator": operator, "value": value})
    assert rule.simple is not None
    assert rule.simple.holds(true) is True
    assert rule.simple.holds(false) is False


def test_a_value_of_another_kind_is_neither_true_nor_false() -> None:
    number = load_one(config={"metric": "m", "operator": "eq", "value": 1})
    boolean = load_one(config={"metric": "m", "operator": "eq", "value": True})
    assert number.simple is not None and boolean.simple is not None
    assert number.simple.holds(True) is None
    assert number.simple.holds("1") is None
    assert boolean.simple.holds(1.0) is None


def test_a_reading_finds_the_rules_of_its_metric_and_scope_only() -> None:
    rules, _ = load_rules(
        json.dumps(
            [
                GOOD | {"id": "fleet"},
                GOOD | {"id": "vendor", "scope_type": "vendor", "scope_vendor": "karcher"},
                GOOD | {"id": "ours", "scope_type": "device", "scope_device_id": "karcher:1"},
                GOOD | {"id": "model", "scope_type": "model", "scope_model": "KIRA"},
                GOOD | {"id": "group", "scope_type": "group", "scope_group_id": "g"},
                GOOD | {"id": "profile", "scope_type": "profile", "scope_profile_id": "p"},
                GOOD | {"id": "bare", "scope_type": "device", "scope_device_id": "sensor-001"},
                GOOD | {"id": "elsewhere", "config": {"metric": "battery.level", "operator": "lt", "value": 1}},
            ]
        )
    )

    def concerned(device: str) -> list[str]:
        scopes = [("vendor", device.partition(":")[0]), ("device", device), ("model", "KIRA"), ("group", "g")]
        return [rule.id for rule in rules.for_reading("environment.temperature", scopes)]

    assert concerned("karcher:1") == ["fleet", "vendor", "ours", "model", "group"]
    assert concerned("karcher:2") == ["fleet", "vendor", "model", "group"]
    assert concerned("wayscloud:sensor-001") == ["fleet", "model", "group", "bare"]
    assert rules.for_reading("position.x", [("vendor", "karcher")]) == ()


@pytest.mark.parametrize(
    ("config", "value"),
    [
        ({"value": 104, "unit": "[degF]"}, 40),
        ({"value": 104, "unit": "°F"}, 40),
        ({"value": 40, "unit": "Cel"}, 40),
        ({"value": 9, "unit": "[degF]", "change_seconds": 60}, 5),
        ({"value": 0.1, "unit": "K"}, -273.05),
    ],
)
def test_a_value_in_another_unit_is_converted(config: dict[str, Any], value: float) -> None:
    rule = parse_rule({**GOOD, "config": {"metric": "environment.temperature", "operator": "gt", **config}})
    assert isinstance(rule, AlarmRule), rule
    condition = compile_rule(rule).condition
    assert isinstance(condition, Comparison)
    assert condition.value == value


def test_a_dead_band_is_in_the_unit_of_its_rule() -> None:
    clear = {"operator": "lt", "value": 86}
    config = {"metric": "environment.temperature", "operator": "gt", "value": 104, "unit": "[degF]", "clear": clear}
    rule = parse_rule({**GOOD, "config": config})
    assert isinstance(rule, AlarmRule), rule
    assert str(compile_rule(rule).clear) == "environment.temperature < 30 (86 [degF])"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"value": 1, "unit": "m"}, "'m' cannot be converted to 'Cel'"),
        ({"value": 1, "unit": "furlong"}, "write a UCUM code"),
        ({"value": "hot", "operator": "eq", "unit": "Cel"}, "needs a number as value"),
        ({"than_metric": "x", "unit": "Cel"}, "needs a number as value"),
        ({"metric": "karcher.someNewState", "value": 1, "unit": "m"}, "omit this field"),
        ({"metric": "battery.charging_status", "value": 1, "unit": "m"}, "unit"),
    ],
)
def test_a_unit_that_does_not_fit_is_refused(config: dict[str, Any], reason: str) -> None:
    refused = parse_rule({**GOOD, "config": {"metric": "environment.temperature", "operator": "gt", **config}})
    assert isinstance(refused, RefusedRule)
    assert refused.field == "config.unit"
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("error", "field", "reason"),
    [
        ("unit: not of t", "config.unit", "not of t"),
        ("unit: a: b", "config.unit", "a: b"),
        ("no condition", "config", "no condition"),
    ],
)
def test_what_cannot_be_compiled_is_refused_with_the_field_where_one_is_named(
    error: str, field: str, reason: str
) -> None:
    assert rule_compiler.refusal("r", ValueError(error)) == RefusedRule("r", field, reason)
