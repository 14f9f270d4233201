"""The grammar of alarm rules: parsing, validation, merging (pure).

The fields are WAYSCloud's (its API document, «Create alarm rule»), and its JSON is accepted as it is.
docs/alarm-rules.md explains what that document does not define of `config`, and our additions. A rule that is refused,
with field and reason, never affects the other rules.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from schemas.inhibition import levels_of
from schemas.metrics import Kind, catalogue
from schemas.records import RULE_TYPES, AlarmRule
from schemas.rule_fields import names_of, nested_names, unknown_metric, unknown_name, unknown_rule_field
from schemas.rules_text import RuleText, read_rule_texts
from schemas.severity import severity_of_word
from schemas.units import converted, ucum_code
from schemas.validation_words import validation_words

Operator = Literal["gt", "gte", "lt", "lte", "eq", "neq"]
Value = bool | FiniteFloat | str
Seconds = Annotated[float, Field(ge=0, le=366 * 86400, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=366 * 86400, allow_inf_nan=False)]

MAX_DEPTH = 5
"""How deeply conditions may be nested."""


class RefusedRule(NamedTuple):
    """A rule that is not in force: its id, the field at fault, and the reason."""

    rule_id: str
    field: str
    reason: str

    def __str__(self) -> str:
        return (
            f"rule {self.rule_id}: {self.field}: {self.reason}" if self.field else f"rule {self.rule_id}: {self.reason}"
        )


class Condition(BaseModel):
    """One comparison, or several joined by `all` or `any`.

    A comparison takes the latest value of a metric and compares it with a value, another metric or an attribute of the
    device. With `change_seconds`, it takes the rate of change between the metric's last two readings, per that many
    seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    metric: str | None = Field(default=None, min_length=1, description="Name of a metric, as in the catalogue.")
    datapoint_id: str | None = Field(
        default=None, min_length=1, description="WAYSCloud's name of the metric, instead of `metric`."
    )
    operator: Operator | None = None
    value: Value | None = None
    unit: str | None = Field(default=None, min_length=1, description="Unit of the value; default: the metric's unit.")
    than_metric: str | None = Field(
        default=None, min_length=1, description="Compare with the latest value of this metric."
    )
    than_attribute: str | None = Field(
        default=None, min_length=1, description="Compare with this attribute of the device."
    )
    change_seconds: PositiveSeconds | None = Field(
        default=None, description="Compare the rate of change, per this many seconds."
    )
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
    if condition.metric is not None:
        _check_kinds(condition, condition.metric)


def _check_kinds(condition: Condition, metric: str) -> None:
    known = catalogue().get(metric)
    if known is None:
        return
    if known.kind != "number" and condition.operator not in ("eq", "neq"):
        raise ValueError(f"operator: {condition.operator} needs numbers, and {metric} is {_KIND_WORDS[known.kind]}")
    if known.kind != "number" and condition.change_seconds is not None:
        raise ValueError(f"change_seconds: needs numbers, and {metric} is {_KIND_WORDS[known.kind]}")
    if condition.value is not None:
        check_value_kind(metric, condition.value)
    other = catalogue().get(condition.than_metric or "")
    if other is not None and other.kind != known.kind:
        words = f"{other.name} is {_KIND_WORDS[other.kind]}, and {metric} is {_KIND_WORDS[known.kind]}"
        raise ValueError(f"than_metric: {words}; they never compare")


def check_value_kind(metric: str, value: Value) -> None:
    """Raise ValueError `value: …` if readings of the metric are of another kind, so that they never compare."""
    known = catalogue().get(metric)
    kind = _kind_of(value)
    if known is not None and known.kind != kind:
        words = f"{metric} is {_KIND_WORDS[known.kind]}, and {json.dumps(value)} is {_KIND_WORDS[kind]}"
        raise ValueError(f"value: {words}; they never compare")


def _kind_of(value: Value) -> Kind:
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


_KIND_WORDS: Mapping[Kind, str] = {
    "number": "a number",
    "boolean": "true or false",
    "text": "text",
    "json": "an object",
}


def _check_unit(condition: Condition) -> None:
    """Check the unit of a metric. That of a datapoint may be user-defined, and is checked when the rule is compiled."""
    if condition.value is None or isinstance(condition.value, bool | str):
        raise ValueError("unit: needs a number as value")
    if ucum_code(condition.unit or "") is None:
        raise ValueError(f"unit: {condition.unit!r} is not a known unit; write a UCUM code, such as `[degF]`")
    if condition.metric is None:
        return
    if (known := catalogue().get(condition.metric)) is None:
        raise ValueError(f"unit: the unit of {condition.metric} is not documented; omit this field")
    try:
        converted(condition.value, condition.unit or "", known.unit)
    except ValueError as error:
        raise ValueError(f"unit: {error}") from None


class ThresholdConfig(Condition):
    """`config` of a `threshold` rule."""

    duration_seconds: Seconds = Field(
        default=0, description="How long the condition must hold before the rule triggers."
    )
    clear: Condition | None = Field(
        default=None,
        description="Condition that ends the alarm's cause (dead-band); default: the condition is no longer true.",
    )

    @model_validator(mode="before")
    @classmethod
    def _clear_takes_the_metric(cls, fields: object) -> object:
        """Let `clear: {operator: lt, value: 30}` refer to the rule's own metric."""
        if not isinstance(fields, dict) or not isinstance(clear := fields.get("clear"), dict):
            return fields
        if clear.keys() & {"metric", "datapoint_id", "all", "any"}:
            return fields
        names = ["metric", "datapoint_id", "change_seconds", *(["unit"] if "value" in clear else [])]
        own = {name: fields[name] for name in names if name in fields}
        return {**fields, "clear": {**own, **clear}}


class SilenceConfig(BaseModel):
    """`config` of an `offline` rule: for how long nothing was received from the device.

    The time is either `duration_seconds`, or `missed_intervals` times the expected reporting interval. That interval
    is the attribute `reporting_interval_seconds` of the device's registry record, or else the rule's own.
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
    """`config` of a `missing_data` rule: for how long no reading of the metric (default: any) was received."""

    metric: str | None = Field(default=None, min_length=1)
    datapoint_id: str | None = Field(default=None, min_length=1)


class MessageRateConfig(BaseModel):
    """`config` of a `message_rate` rule: the number of records with readings per window, aligned to UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    operator: Operator
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    window_seconds: PositiveSeconds = 60


class ReconnectRateConfig(BaseModel):
    """`config` of a `reconnect_rate` rule: the number of reconnections per window, aligned to UTC."""

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
"""The type of `config` by type of rule."""

ACTIONS = ("create_alarm", "send_webhook", "mark_unhealthy")
"""WAYSCloud's words. Every rule must create alarms; the other actions are optional."""


def config_of(rule: AlarmRule) -> RuleConfig:
    """The rule's `config`, typed. ValidationError when `parse_rule` would refuse it."""
    return CONFIGS[rule.rule_type].model_validate(rule.config)


def parse_rules(text: str, *, is_foreign: bool = False) -> tuple[list[AlarmRule], list[RefusedRule]]:
    """The rules of a YAML or JSON text, and the refused ones. The text is a list, an object with `rules`, or one rule.

    ValueError when it is none of these. A name that is no field of a rule is refused, unless the text `is_foreign`: an
    answer of WAYSCloud, which may get fields that we do not know.
    """
    accepted: dict[str, AlarmRule] = {}
    refused: list[RefusedRule] = []
    for index, item in enumerate(read_rule_texts(text)):
        rule = _parse_text(item, f"#{index + 1}", is_foreign=is_foreign)
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


def _parse_text(item: RuleText, name: str, *, is_foreign: bool) -> AlarmRule | RefusedRule:
    if item.fault is not None:
        return RefusedRule(_name_of(item.value, name), item.fault.field, item.fault.reason)
    if not is_foreign and isinstance(item.value, dict) and (unknown := unknown_rule_field(item.value)) is not None:
        return RefusedRule(_name_of(item.value, name), *unknown)
    rule = _parse(item.value, name)
    if isinstance(rule, AlarmRule):
        return _ambiguous_word(rule, item) or rule
    explanation = item.explanation_of(rule.field, rule.reason)
    return rule._replace(reason=f"{rule.reason}. {explanation}") if explanation else rule


def _ambiguous_word(rule: AlarmRule, item: RuleText) -> RefusedRule | None:
    """A bare `off` as the value of a metric whose kind is not known: the text or false, nobody can say."""
    for path in item.written:
        if path[-1:] != ("value",) or not (explanation := item.explanation(path)):
            continue
        condition: Any = item.value
        for key in path[:-1]:
            condition = condition[int(key)] if isinstance(condition, list) else condition[key]
        if isinstance(condition.get("value"), bool) and condition.get("metric") not in catalogue():
            return RefusedRule(rule.id, ".".join(path), explanation)
    return None


def _circular(rules: list[AlarmRule]) -> list[RefusedRule]:
    _, circular = rule_levels(rules)
    reason = "its inhibitors on other devices lead back to it, or to a rule that inhibits it on the same device"
    return [RefusedRule(rule.id, "inhibited_by", reason) for rule in rules if rule.id in circular]


def rule_levels(rules: Iterable[AlarmRule]) -> tuple[dict[str, int], set[str]]:
    """See `schemas.inhibition.levels_of`."""
    local: dict[str, list[str]] = {}
    remote: dict[str, list[str]] = {}
    for rule in rules:
        local[rule.id] = [each for each in rule.inhibited_by if isinstance(each, str)]
        remote[rule.id] = [each.rule for each in rule.inhibited_by if not isinstance(each, str)]
    return levels_of(local, remote)


def unknown_inhibitors(rules: Iterable[AlarmRule], known: Container[str]) -> list[RefusedRule]:
    """Inhibitors that are not rules. They inhibit nothing; the rules that name them stay in force."""
    return [
        RefusedRule(rule.id, f"inhibited_by.{number}", f"there is no rule {inhibitor!r}; it inhibits nothing")
        for rule in rules
        for number, inhibitor in enumerate(inhibitors_of(rule))
        if inhibitor not in known
    ]


def unknown_metrics(rules: Iterable[AlarmRule], also_known: Iterable[str] = ()) -> list[RefusedRule]:
    """Metrics that have no readings, as far as is known. The rules that name them stay in force, and never trigger."""
    names = [*also_known]
    return [
        RefusedRule(rule.id, f"config.{path}", reason)
        for rule in rules
        for path, metric in _metrics_in(rule.config, "")
        if (reason := unknown_metric(metric, names)) is not None
    ]


def _metrics_in(config: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(config, list):
        members: Iterable[tuple[object, object]] = enumerate(config)
    else:
        members = config.items() if isinstance(config, dict) else ()
    for key, value in members:
        where = f"{path}.{key}" if path else str(key)
        if key in ("metric", "than_metric") and isinstance(value, str):
            yield where, value
        else:
            yield from _metrics_in(value, where)


def parse_rule(item: object) -> AlarmRule | RefusedRule:
    """Validate one rule, given as an object (decoded JSON or YAML), including its `config`."""
    return _parse(item, "(no id)")


def merge_rule(rule: AlarmRule, changes: Mapping[str, Any]) -> AlarmRule | RefusedRule:
    """The rule after an update. Objects are merged deeply (docs/contract.md, «Alarms»), and the result is validated.

    A field that is null keeps its value; within `config`, null removes a key. Neither `id` nor `rule_type` may change.
    """
    for name in ("id", "rule_type"):
        if changes.get(name, getattr(rule, name)) not in (None, getattr(rule, name)):
            return RefusedRule(rule.id, name, "cannot be changed; create another rule")
    before = rule.model_dump(mode="json", by_alias=True, exclude_none=True)
    after = _merged(before, {name: value for name, value in changes.items() if value is not None})
    if "severity" in changes:
        after.pop("severity_original", None)
    return parse_rule(after)


def inhibitors_of(rule: AlarmRule) -> list[str]:
    """The ids of the rules that inhibit it, on the same device or on another."""
    return [each if isinstance(each, str) else each.rule for each in rule.inhibited_by]


def encode_rule(rule: AlarmRule) -> bytes:
    """The rule in the form of the rules topic."""
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
        return RefusedRule(name, "", f"expected an object, got {type(item).__name__}")
    name = _name_of(item, name)
    fields = {key: value for key, value in item.items() if value is not None}
    if isinstance(fields.get("id"), int):
        fields["id"] = str(fields["id"])
    if fields.get("rule_type") not in RULE_TYPES:
        return RefusedRule(name, "rule_type", f"must be one of {', '.join(RULE_TYPES)}")
    if "config" not in fields:
        return RefusedRule(name, "config", "is missing; WAYSCloud's list of rules omits it: read each rule")
    if "severity" in fields:
        fields["severity"], original = severity_of_word(fields["severity"])
        if original is not None:
            fields["severity_original"] = original
    try:
        rule = AlarmRule.model_validate(fields)
    except ValidationError as error:
        return _refused(name, error, nested_names)
    return _checked(rule)


def _name_of(item: object, otherwise: str) -> str:
    return str(item.get("id") or item.get("name") or otherwise) if isinstance(item, dict) else otherwise


def _checked(rule: AlarmRule) -> AlarmRule | RefusedRule:
    if "create_alarm" not in rule.actions:
        return RefusedRule(rule.id, "actions", "create_alarm must be among them")
    if unknown := [action for action in rule.actions if action not in ACTIONS]:
        return RefusedRule(rule.id, "actions", f"{unknown[0]} is unknown; known are {', '.join(ACTIONS)}")
    if rule.id in inhibitors_of(rule):
        hint = "" if rule.id in rule.inhibited_by else "; give the devices that inhibit a rule of their own"
        return RefusedRule(rule.id, "inhibited_by", f"names the rule itself{hint}")
    try:
        config = config_of(rule)
    except ValidationError as error:
        refused = _refused(rule.id, error, lambda field: _config_names(rule, field))
        return refused._replace(field=f"config.{refused.field}".strip("."))
    except RecursionError:
        return RefusedRule(rule.id, "config", "is nested too deeply")
    if isinstance(config, Condition) and _depth(config) > MAX_DEPTH:
        return RefusedRule(rule.id, "config", f"conditions are nested more than {MAX_DEPTH} deep")
    return rule


def _depth(condition: Condition) -> int:
    return 1 + max((_depth(part) for part in condition.all or condition.any or ()), default=0)


def _config_names(rule: AlarmRule, field: str) -> list[str]:
    """The names that `config` may have, or a condition below it."""
    return names_of(Condition if field else CONFIGS[rule.rule_type])


def _refused(name: str, error: ValidationError, names: Callable[[str], list[str]]) -> RefusedRule:
    """The first error as a refusal. `names`: those that the members of a field may have, for one that is unknown."""
    errors = error.errors()
    # The errors of a union's first member come first, but that member is rarely the intended one.
    likely = (each for each in errors if each["type"] == "finite_number" or "RemoteInhibitor" in str(each["loc"]))
    first = next(likely, errors[0])
    where = [str(part) for part in first["loc"] if _is_field(part)]
    reason = validation_words(first)
    if first["type"] == "extra_forbidden":
        where = [*where[:-1], str(first["loc"][-1])]
        reason = unknown_name(where[-1], names(where[0] if len(where) > 1 else ""))
    field, colon, rest = reason.partition(": ")
    if first["type"] == "value_error" and colon and field.isidentifier():  # raised for a whole object, about one field
        where, reason = [*where, field], rest
    return RefusedRule(name, ".".join(where), reason)


def _is_field(part: int | str) -> bool:
    """Whether a part of pydantic's location is a field; the location holds the types of unions, too."""
    return isinstance(part, int) or (
        part.replace("_", "").isalpha() and part not in ("bool", "float", "str", "RemoteInhibitor")
    )
