"""Conditions of threshold rules, compiled for evaluation (pure).

A condition is true, false, or None (unknown), where a value is missing or of another kind. As in SQL, `all` is
false where one part is, and `any` true where one part is, whatever the others are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.metrics import catalogue
from schemas.rules import Condition, check_value_kind
from schemas.units import converted, ucum_code
from streams.normalise.message import Datapoint

Value = bool | float | str

_OPERATORS: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "gt": (">", operator.gt),
    "gte": ("≥", operator.ge),
    "lt": ("<", operator.lt),
    "lte": ("≤", operator.le),
    "eq": ("=", operator.eq),
    "neq": ("≠", operator.ne),
}


class Latest(msgspec.Struct, array_like=True):
    """The last two readings of a metric; times in microseconds."""

    at: int
    value: Value
    before_at: int | None = None
    before: Value | None = None

    def change(self, micros: int) -> float | None:
        """The change per `micros` microseconds between the two; None where it is unknown."""
        if self.before_at is None or self.at == self.before_at:
            return None
        if not _is_number(self.value) or not _is_number(self.before):
            return None
        return (float(self.value) - float(self.before or 0.0)) * micros / (self.at - self.before_at)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a metric."""

    metric: str
    operator: str
    value: Value | None = None
    than_metric: str | None = None
    than_attribute: str | None = None
    change: int | None = None
    """Compare the change per this number of microseconds, in place of the value."""
    given: str = ""
    """The value as the rule gives it, if that is in another unit."""

    @property
    def is_simple(self) -> bool:
        """Whether one reading of the metric decides it."""
        return self.value is not None and self.change is None

    def holds(self, value: Value, other: Value | None = None) -> bool | None:
        """Whether the comparison is true of a value; None where the two are of different kinds."""
        other = self.value if other is None else other
        if isinstance(value, bool) is not isinstance(other, bool) or isinstance(value, str) is not isinstance(
            other, str
        ):
            return None
        if isinstance(value, bool | str) and self.operator not in ("eq", "neq"):
            return None
        return _OPERATORS[self.operator][1](value, other)

    def evaluate(self, latest: Mapping[str, Latest], attributes: Mapping[str, Any]) -> bool | None:
        """Whether the condition is true of the device's latest readings and attributes; None where that is unknown."""
        own = latest.get(self.metric)
        value: Value | None = None
        if own is not None:
            value = own.value if self.change is None else own.change(self.change)
        other = self._other(latest, attributes)
        return None if value is None or other is None else self.holds(value, other)

    def _other(self, latest: Mapping[str, Latest], attributes: Mapping[str, Any]) -> Value | None:
        if self.than_metric is not None:
            compared = latest.get(self.than_metric)
            return None if compared is None else compared.value
        if self.than_attribute is not None:
            given = attributes.get(self.than_attribute)
            return given if isinstance(given, bool | int | float | str) else None
        return self.value

    @property
    def metrics(self) -> Iterator[str]:
        """The metrics that the condition refers to."""
        yield self.metric
        if self.than_metric is not None:
            yield self.than_metric

    def __str__(self) -> str:
        left = self.metric if self.change is None else f"change of {self.metric} in {self.change / 1e6:g} s"
        other = self.than_metric or (self.than_attribute and f"attribute {self.than_attribute}") or shown(self.value)
        given = f" ({self.given})" if self.given else ""
        return f"{left} {_OPERATORS[self.operator][0]} {other}{given}"


@dataclass(frozen=True, slots=True)
class Joined:
    """Several conditions: all of them, or any."""

    parts: tuple[Comparison | Joined, ...]
    all: bool

    def evaluate(self, latest: Mapping[str, Latest], attributes: Mapping[str, Any]) -> bool | None:
        """Whether the condition is true of the device's latest readings and attributes; None where that is unknown."""
        results = [part.evaluate(latest, attributes) for part in self.parts]
        if (not self.all) in results:  # this alone decides
            return not self.all
        return None if None in results else self.all

    @property
    def metrics(self) -> Iterator[str]:
        """The metrics that the condition refers to."""
        for part in self.parts:
            yield from part.metrics

    def __str__(self) -> str:
        texts = [f"({part})" if isinstance(part, Joined) else str(part) for part in self.parts]
        return (" and " if self.all else " or ").join(texts)


Node = Comparison | Joined


def compile_condition(condition: Condition, datapoint_of: Callable[[str], Datapoint]) -> Node:
    """Compile a condition: datapoints become metrics, and values are converted into the unit of the readings.

    Raise ValueError `unit: …` where a value cannot be converted, `value: …` where it is of another kind than the
    readings.
    """
    if (parts := condition.all or condition.any) is not None:
        return Joined(tuple(compile_condition(part, datapoint_of) for part in parts), condition.all is not None)
    change = condition.change_seconds
    point = Datapoint(condition.metric) if condition.metric else datapoint_of(condition.datapoint_id or "")
    if condition.value is not None:
        check_value_kind(point.metric, condition.value)
    value, given = _in_unit_of_readings(condition, point)
    return Comparison(
        point.metric,
        condition.operator or "",
        value,
        condition.than_metric,
        condition.than_attribute,
        None if change is None else round(change * 1_000_000),
        given,
    )


def _in_unit_of_readings(condition: Condition, point: Datapoint) -> tuple[Value | None, str]:
    """The value in the unit of the readings, and as given if that is another unit (a datapoint has its own)."""
    value, own = condition.value, ucum_code(point.unit) if point.unit else None
    unit = condition.unit or own
    if unit is None or not _is_number(value):
        return value, ""
    known = catalogue().get(point.metric)
    target = known.unit if known is not None else own
    if condition.unit is None and target is None:
        return value, ""
    try:
        in_target = converted(float(value or 0), unit, target, is_change=condition.change_seconds is not None)
    except ValueError as error:
        raise ValueError(f"unit: {error}") from None
    return (value, "") if in_target == value else (in_target, f"{shown(value)} {unit}")


def compare(operator_name: str, left: float, right: float) -> bool:
    """Whether `left operator right`."""
    return _OPERATORS[operator_name][1](left, right)


def sign(operator_name: str) -> str:
    """The operator as people write it."""
    return _OPERATORS[operator_name][0]


def shown(value: Value | None) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _is_number(value: Value | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
