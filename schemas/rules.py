"""The grammar of alarm rules: read, checked, merged; refused with field and reason (pure).

The fields are WAYSCloud's (wayscloud.txt, «Create alarm rule»), its JSON is taken as it is; what it does not document
of `config`, and what goes beyond it, docs/alarm-rules.md explains. A bad rule never stops the others.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from schemas.inhibition import levels_of
from schemas.metrics import catalogue
from schemas.records import RULE_TYPES, AlarmRule
from schemas.severity import severity_of_word
from schemas.units import converted, ucum_code

Operator = Literal["gt", "gte", "lt", "lte", "eq", "neq"]
Value = bool | FiniteFloat | str
Seconds = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]

MAX_DEPTH = 5
"""Conditions may be nested so deep."""


class RefusedRule(NamedTuple):
    """A rule that is not in force: which, what field, and why."""

    rule_id: str
    field: str
    reason: str

    def __str__(self) -> str:
        return (
            f"rule {self.rule_id}: {self.field}: {self.reason}" if self.field else f"rule {self.rule_id}: {self.reason}"
        )


class Condition(BaseModel):
    """One comparison, or several joined by `all` or `any`.

    A comparison takes the latest value of a metric, or with `change_seconds` its change per so many seconds (between
    the metric's last two readings), and compares it with a value, another metric or an attribute of the device.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str | None = Field(default=None, min_length=1, description="A metric of ours.")
    datapoint_id: str | None = Field(default=None, min_length=1, description="WAYSCloud's name, in its place.")
    operator: Operator | None = None
    value: Value | None = None
    unit: str | None = Field(default=None, min_length=1, description="Unit of the value; default: the metric's.")
    than_metric: str | None = Field(default=None, min_length=1, description="Compared with this metric's latest value.")
    than_attribute: str | None = Field(default=None, min_length=1, description="Compared with the device's attribute.")
    change_seconds: PositiveSeconds | None = Field(default=None, description="Compare the change per so many seconds.")
    all: list[Condition] | None = Field(default=None, min_length=1, max_length=20)
    any: list[Condition] | None = Field(default=None, min_length=1, max_length=20)

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        compared = [name for name in _COMPARING if getattr(self, name) is not None]
        if self.all is not None and self.any is not None:
            raise ValueError("either all or any, not both; nest one in the other")
        if self.all is not None or self.any is not None:
            if compared:
                raise ValueError(f"{compared[0]}: cannot stand beside all or any")
            return self
        _check_comparison(self)
        return self


_COMPARING = ("metric", "datapoint_id", "operator", "value", "unit", "than_metric", "than_attribute", "change_seconds")


def _check_comparison(condition: Condition) -> None:
    if (condition.metric is None) == (condition.datapoint_id is None):
        raise ValueError("either metric or datapoint_id must be given")
    if condition.operator is None:
        raise ValueError("operator: is missing")
    others = [n for n in ("value", "than_metric", "than_attribute") if getattr(condition, n) is not None]
    if len(others) != 1:
        raise ValueError("value: exactly one of value, than_metric, than_attribute must be given")
    if isinstance(condition.value, bool | str):
        if condition.operator not in ("eq", "neq"):
            raise ValueError(f"operator: {condition.operator} needs a number as value")
        if condition.change_seconds is not None:
            raise ValueError("change_seconds: needs a number as value")
    if condition.unit is not None:
        _check_unit(condition)


def _check_unit(condition: Condition) -> None:
    """A metric's unit is known; a datapoint's may be its user's own, and is looked at when the rule is compiled."""
    if condition.value is None or isinstance(condition.value, bool | str):
        raise ValueError("unit: needs a number as value")
    if ucum_code(condition.unit or "") is None:
        raise ValueError(f"unit: {condition.unit!r} is no unit that is known; write a UCUM code, such as `[degF]`")
    if condition.metric is None:
        return
    if (known := catalogue().get(condition.metric)) is None:
        raise ValueError(f"unit: that of {condition.metric} is not documented; leave it out")
    try:
        converted(condition.value, condition.unit or "", known.unit)
    except ValueError as error:
        raise ValueError(f"unit: {error}") from None


class ThresholdConfig(Condition):
    """`config` of a `threshold` rule."""

    duration_seconds: Seconds = Field(default=0, description="How long the condition must have lasted.")
    clear: Condition | None = Field(
        default=None, description="What ends a crossing (dead-band); default: that the condition is false."
    )

    @model_validator(mode="before")
    @classmethod
    def _clear_takes_the_metric(cls, fields: object) -> object:
        """`clear: {operator: lt, value: 30}` speaks of the rule's own metric."""
        if not isinstance(fields, dict) or not isinstance(clear := fields.get("clear"), dict):
            return fields
        if clear.keys() & {"metric", "datapoint_id", "all", "any"}:
            return fields
        names = ["metric", "datapoint_id", "change_seconds", *(["unit"] if "value" in clear else [])]
        own = {name: fields[name] for name in names if name in fields}
        return {**fields, "clear": {**own, **clear}}


class SilenceConfig(BaseModel):
    """`config` of an `offline` rule: how long nothing was received of the device.

    Either `duration_seconds`, or `missed_intervals` of the device's expected reporting interval: that of its registry
    record (attribute `reporting_interval_seconds`), else the rule's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duration_seconds: PositiveSeconds | None = None
    missed_intervals: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] | None = None
    reporting_interval_seconds: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _says_how_long(self) -> Self:
        if (self.duration_seconds is None) == (self.missed_intervals is None):
            raise ValueError("exactly one of duration_seconds and missed_intervals must be given")
        return self


class MissingDataConfig(SilenceConfig):
    """`config` of a `missing_data` rule: how long no reading of the metric (default: of any) was received."""

    metric: str | None = Field(default=None, min_length=1)
    datapoint_id: str | None = Field(default=None, min_length=1)


class MessageRateConfig(BaseModel):
    """`config` of a `message_rate` rule: records with readings received in each window of UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operator: Operator
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    window_seconds: PositiveSeconds = 60


class ReconnectRateConfig(BaseModel):
    """`config` of a `reconnect_rate` rule: times the device connected anew in each window of UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operator: Literal["gt", "gte"] = "gte"
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    window_seconds: PositiveSeconds = 3600


RuleConfig = ThresholdConfig | SilenceConfig | MissingDataConfig | MessageRateConfig | ReconnectRateConfig

CONFIGS: Mapping[str, type[RuleConfig]] = {
    "threshold": ThresholdConfig,
    "offline": SilenceConfig,
    "missing_data": MissingDataConfig,
    "message_rate": MessageRateConfig,
    "reconnect_rate": ReconnectRateConfig,
}
"""What `config` must be, by type of rule."""

ACTIONS = ("create_alarm", "send_webhook", "mark_unhealthy")
"""WAYSCloud's words. A rule must create alarms; the others say what is to be done about them."""


def config_of(rule: AlarmRule) -> RuleConfig:
    """The rule's `config`, typed. ValidationError where `parse_rule` would have refused it."""
    return CONFIGS[rule.rule_type].model_validate(rule.config)


def parse_rules(text: str) -> tuple[list[AlarmRule], list[RefusedRule]]:
    """The rules of a YAML or JSON text: a list, or an object with `rules`, or one rule; and those refused.

    ValueError where it is none of these.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {error}") from error
    if found is None:
        return [], []
    if isinstance(found, dict):
        found = [found] if "rule_type" in found else found.get("rules")
    if not isinstance(found, list):
        raise ValueError("a list of rules is due, or an object with `rules`")
    accepted: dict[str, AlarmRule] = {}
    refused: list[RefusedRule] = []
    for index, item in enumerate(found):
        rule = _parse(item, f"#{index + 1}")
        if isinstance(rule, RefusedRule):
            refused.append(rule)
        elif rule.id in accepted:
            refused.append(RefusedRule(rule.id, "id", "another rule has the same id"))
        else:
            accepted[rule.id] = rule
    for rule in _circular(list(accepted.values())):
        del accepted[rule.rule_id]
        refused.append(rule)
    return list(accepted.values()), refused


def _circular(rules: list[AlarmRule]) -> list[RefusedRule]:
    _, circular = rule_levels(rules)
    reason = "its causes on other devices lead back to it (to rules of the same device that inhibit each other, too)"
    return [RefusedRule(rule.id, "inhibited_by", reason) for rule in rules if rule.id in circular]


def rule_levels(rules: Iterable[AlarmRule]) -> tuple[dict[str, int], set[str]]:
    """See `schemas.inhibition.levels_of`."""
    found = list(rules)
    local = {rule.id: [cause for cause in rule.inhibited_by if isinstance(cause, str)] for rule in found}
    other = {rule.id: [cause.rule for cause in rule.inhibited_by if not isinstance(cause, str)] for rule in found}
    return levels_of(local, other)


def unknown_inhibitors(rules: Iterable[AlarmRule], known: Container[str]) -> list[RefusedRule]:
    """Causes that are no rules: nothing is refused for them, but they inhibit nothing."""
    return [
        RefusedRule(rule.id, f"inhibited_by.{number}", f"there is no rule {cause!r}; it inhibits nothing")
        for rule in rules
        for number, cause in enumerate(inhibitors_of(rule))
        if cause not in known
    ]


def parse_rule(item: object) -> AlarmRule | RefusedRule:
    """One rule, as an object (decoded JSON or YAML): checked in full, `config` too."""
    return _parse(item, "(no id)")


def merge_rule(rule: AlarmRule, changes: Mapping[str, Any]) -> AlarmRule | RefusedRule:
    """The rule after an update: objects are merged deeply (contract.md, «Alarms»), the result is checked in full.

    A field that is null is left as it is; within `config`, null takes a key out. Neither `id` nor `rule_type` changes.
    """
    for name in ("id", "rule_type"):
        if changes.get(name, getattr(rule, name)) not in (None, getattr(rule, name)):
            return RefusedRule(rule.id, name, "cannot be changed; make another rule")
    before = rule.model_dump(mode="json", by_alias=True, exclude_none=True)
    after = _merged(before, {name: value for name, value in changes.items() if value is not None})
    if "severity" in changes:
        after.pop("severity_original", None)
    return parse_rule(after)


def inhibitors_of(rule: AlarmRule) -> list[str]:
    """The ids of the rules that inhibit it, on the same device or on another."""
    return [cause if isinstance(cause, str) else cause.rule for cause in rule.inhibited_by]


def encode_rule(rule: AlarmRule) -> bytes:
    """The rule as it travels on the rules topic."""
    return rule.model_dump_json(by_alias=True, exclude_none=True).encode()


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(inner := result.get(name), Mapping):
            result[name] = _merged(inner, value)
        else:
            result[name] = value
    return result


def _parse(item: object, name: str) -> AlarmRule | RefusedRule:
    if not isinstance(item, dict):
        return RefusedRule(name, "", f"an object is due, found {type(item).__name__}")
    name = str(item.get("id") or item.get("name") or name)
    fields = {key: value for key, value in item.items() if value is not None}
    if isinstance(fields.get("id"), int):
        fields["id"] = str(fields["id"])
    if fields.get("rule_type") not in RULE_TYPES:
        return RefusedRule(name, "rule_type", f"must be one of {', '.join(RULE_TYPES)}")
    if "config" not in fields:
        return RefusedRule(name, "config", "is missing; WAYSCloud's list of rules leaves it out: read each rule")
    if "severity" in fields:
        fields["severity"], original = severity_of_word(fields["severity"])
        if original is not None:
            fields["severity_original"] = original
    try:
        rule = AlarmRule.model_validate(fields)
    except ValidationError as error:
        return _refused(name, "", error)
    return _checked(rule)


def _checked(rule: AlarmRule) -> AlarmRule | RefusedRule:
    if "create_alarm" not in rule.actions:
        return RefusedRule(rule.id, "actions", "create_alarm must be among them")
    if unknown := [action for action in rule.actions if action not in ACTIONS]:
        return RefusedRule(rule.id, "actions", f"{unknown[0]} is unknown; known are {', '.join(ACTIONS)}")
    if rule.id in inhibitors_of(rule):
        hint = "" if rule.id in rule.inhibited_by else "; give the devices that are causes a rule of their own"
        return RefusedRule(rule.id, "inhibited_by", f"names the rule itself{hint}")
    try:
        config = config_of(rule)
    except ValidationError as error:
        return _refused(rule.id, "config.", error)
    except RecursionError:
        return RefusedRule(rule.id, "config", "is nested too deeply")
    if isinstance(config, Condition) and _depth(config) > MAX_DEPTH:
        return RefusedRule(rule.id, "config", f"conditions are nested more than {MAX_DEPTH} deep")
    return rule


def _depth(condition: Condition) -> int:
    return 1 + max((_depth(part) for part in condition.all or condition.any or ()), default=0)


def _refused(name: str, prefix: str, error: ValidationError) -> RefusedRule:
    errors = error.errors()
    # Of a union's errors those of its first part come first, which is rarely what was meant.
    meant = (found for found in errors if found["type"] == "finite_number" or "RemoteInhibitor" in str(found["loc"]))
    first = next(meant, errors[0])
    where = [str(part) for part in first["loc"] if _is_field(part)]
    reason = str(first["msg"]).removeprefix("Value error, ")
    field, colon, rest = reason.partition(": ")
    if first["type"] == "value_error" and colon and field.isidentifier():  # said of a whole object, about one field
        where, reason = [*where, field], rest
    return RefusedRule(name, f"{prefix}{'.'.join(where)}".strip("."), reason)


def _is_field(part: int | str) -> bool:
    """Whether a part of pydantic's location is ours; it names the types of a union, too."""
    return isinstance(part, int) or (
        part.replace("_", "").isalpha() and part not in ("bool", "float", "str", "RemoteInhibitor")
    )
