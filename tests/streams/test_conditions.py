"""Conditions of rules, compiled and evaluated."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rules import Condition
from streams.detect.conditions import Comparison, Joined, Latest, compare, compile_condition, shown, sign
from streams.normalise.message import Datapoint

SECOND = 1_000_000
MINUTE = 60 * SECOND


def compiled(**fields: Any) -> Comparison | Joined:
    return compile_condition(Condition.model_validate(fields), lambda name: Datapoint(f"wayscloud.{name}", "°F"))


def holds(condition: Comparison | Joined, attributes: dict[str, Any] | None = None, **latest: Any) -> bool | None:
    return condition.evaluate({name: Latest(0, value) for name, value in latest.items()}, attributes or {})


@pytest.mark.parametrize(
    ("operator", "written", "of_1_2", "of_2_2", "of_3_2"),
    [
        ("gt", ">", False, False, True),
        ("gte", "≥", False, True, True),
        ("lt", "<", True, False, False),
        ("lte", "≤", True, True, False),
        ("eq", "=", False, True, False),
        ("neq", "≠", True, False, True),
    ],
)
def test_each_operator(operator: str, written: str, of_1_2: bool, of_2_2: bool, of_3_2: bool) -> None:
    condition = compiled(metric="a.b", operator=operator, value=2)
    assert [condition.evaluate({"a.b": Latest(0, value)}, {}) for value in (1, 2, 3)] == [of_1_2, of_2_2, of_3_2]
    assert [compare(operator, value, 2) for value in (1, 2, 3)] == [of_1_2, of_2_2, of_3_2]
    assert sign(operator) == written
    assert str(condition) == f"a.b {written} 2"


@pytest.mark.parametrize(
    ("operator", "value", "of", "outcome"),
    [
        ("eq", True, True, True),
        ("eq", True, False, False),
        ("neq", True, False, True),
        ("eq", True, 1, None),
        ("eq", 1, True, None),
        ("eq", "on", "on", True),
        ("neq", "on", "off", True),
        ("eq", "1", 1, None),
        ("eq", 1, "1", None),
        ("eq", "on", True, None),
        ("gt", 5, "6", None),
    ],
)
def test_values_of_different_kinds_do_not_compare(operator: str, value: Any, of: Any, outcome: bool | None) -> None:
    assert Comparison("m", operator, value).holds(of) is outcome


@pytest.mark.parametrize("value", ["b", True])
@pytest.mark.parametrize("operator", ["gt", "gte", "lt", "lte"])
def test_texts_and_booleans_have_no_order(operator: str, value: Any) -> None:
    assert Comparison("m", operator, value).holds(value) is None


def test_without_a_reading_nothing_is_known() -> None:
    condition = Comparison("m", "gt", 1)
    assert condition.evaluate({}, {}) is None
    assert condition.is_simple
    assert list(condition.metrics) == ["m"]


def test_a_metric_is_compared_with_another() -> None:
    condition = Comparison("m", "gt", None, than_metric="n")
    assert holds(condition, m=2, n=1) is True
    assert holds(condition, m=1, n=2) is False
    assert holds(condition, m=1) is holds(condition, n=1) is None
    assert not condition.is_simple
    assert list(condition.metrics) == ["m", "n"]
    assert str(condition) == "m > n"


def test_a_metric_is_compared_with_an_attribute() -> None:
    condition = Comparison("m", "gt", None, than_attribute="most")
    assert holds(condition, {"most": 1}, m=2) is True
    assert holds(condition, {"most": 2.5}, m=2) is False
    for unusable in ({}, {"most": None}, {"most": [1]}, {"most": "1"}, {"most": True}):
        assert holds(condition, unusable, m=2) is None
    assert str(condition) == "m > attribute most"


@pytest.mark.parametrize(
    ("latest", "change"),
    [
        (Latest(2 * MINUTE, 5.0, MINUTE, 3.0), 2.0),
        (Latest(3 * MINUTE, 5.0, MINUTE, 3.0), 1.0),
        (Latest(MINUTE + 30 * SECOND, 2.0, MINUTE, 3.0), -2.0),
        (Latest(2 * MINUTE, 5.0, MINUTE, 0.0), 5.0),
        (Latest(MINUTE, 5.0, MINUTE, 3.0), None),
        (Latest(MINUTE, 5.0), None),
        (Latest(2 * MINUTE, True, MINUTE, 3.0), None),
        (Latest(2 * MINUTE, 5.0, MINUTE, "3"), None),
        (Latest(2 * MINUTE, 5.0, MINUTE, None), None),
    ],
)
def test_a_change_per_minute(latest: Latest, change: float | None) -> None:
    assert latest.change(MINUTE) == change


def test_a_condition_of_a_change() -> None:
    condition = compiled(metric="a.b", operator="gt", value=1, change_seconds=60)
    assert condition.evaluate({"a.b": Latest(2 * MINUTE, 5.0, MINUTE, 3.0)}, {}) is True
    assert condition.evaluate({"a.b": Latest(2 * MINUTE, 4.0, MINUTE, 3.0)}, {}) is False
    assert condition.evaluate({"a.b": Latest(2 * MINUTE, 4.0)}, {}) is None
    assert not condition.is_simple
    assert str(condition) == "change of a.b in 60 s > 1"


TRUE, FALSE, UNKNOWN = (Comparison(name, "eq", True) for name in ("t", "f", "u"))
KNOWN = {"t": Latest(0, True), "f": Latest(0, False)}


@given(st.lists(st.sampled_from([TRUE, FALSE, UNKNOWN]), min_size=1, max_size=4), st.booleans())
def test_all_and_any_are_those_of_sql(parts: list[Comparison], is_all: bool) -> None:
    each = [part.evaluate(KNOWN, {}) for part in parts]
    if is_all:
        expected = False if False in each else None if None in each else True
    else:
        expected = True if True in each else None if None in each else False
    joined = Joined(tuple(parts), is_all)
    assert joined.evaluate(KNOWN, {}) is expected
    assert list(joined.metrics) == [part.metric for part in parts]
    assert not joined.is_simple


def test_conditions_nest_and_say_so() -> None:
    inner = {
        "any": [{"metric": "a.b", "operator": "gt", "value": 1}, {"metric": "a.c", "operator": "eq", "value": True}]
    }
    nested = compiled(all=[inner, {"metric": "a.d", "operator": "neq", "value": "off"}])
    assert str(nested) == "(a.b > 1 or a.c = true) and a.d ≠ off"
    readings = {"a.b": Latest(0, 2), "a.d": Latest(0, "on")}
    assert nested.evaluate(readings, {}) is True
    assert nested.evaluate(readings | {"a.d": Latest(0, "off")}, {}) is False
    assert nested.evaluate({"a.b": Latest(0, 2)}, {}) is None


@pytest.mark.parametrize(
    ("fields", "value", "text"),
    [
        (
            {"metric": "environment.temperature", "value": 104, "unit": "°F"},
            40.0,
            "environment.temperature > 40 (104 °F)",
        ),
        ({"metric": "environment.temperature", "value": 40, "unit": "°C"}, 40, "environment.temperature > 40"),
        ({"metric": "environment.temperature", "value": 40}, 40, "environment.temperature > 40"),
        (
            {"metric": "environment.temperature", "value": 9, "unit": "°F", "change_seconds": 60},
            5.0,
            "change of environment.temperature in 60 s > 5 (9 °F)",
        ),
        ({"datapoint_id": "t", "value": 104}, 104, "wayscloud.t > 104"),
        ({"datapoint_id": "t", "value": 40, "unit": "°C"}, 104.0, "wayscloud.t > 104 (40 °C)"),
    ],
)
def test_a_value_is_compared_in_the_unit_of_the_readings(fields: dict[str, Any], value: float, text: str) -> None:
    condition = compiled(operator="gt", **fields)
    assert isinstance(condition, Comparison)
    assert (condition.value, str(condition)) == (value, text)


def test_a_value_that_cannot_be_converted_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^unit: 'm' cannot be converted to"):
        compiled(datapoint_id="t", unit="m", operator="gt", value=1)


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (1.50, "1.5"), (2, "2"), ("x", "x"), (1e21, "1e+21"), (None, "None")]
)
def test_values_as_people_read_them(value: Any, text: str) -> None:
    assert shown(value) == text
