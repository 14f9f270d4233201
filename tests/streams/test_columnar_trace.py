"""Templates of payloads, and what becomes of handlers that depend on values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.normalise.columnar.template import Kind, Template, structure_of, template_of
from streams.normalise.columnar.trace import Hole, Trace, Traced, ValueNeeded, trace
from streams.normalise.message import Message, Options, into
from streams.normalise.values import FieldError, number

LEVEL, MODE = into("battery.level"), into("device.mode")
PAYLOAD = b'{"level": 5, "part": 1.50, "mode": "eco", "on": true, "none": null}'


def traced(handler: Callable[[Message, dict[str, Any]], None], payload: bytes = PAYLOAD) -> Trace | None:
    template, values = template_of(payload)
    subject = Traced(lambda message: handler(message, message.payload()), "karcher.datapoints", "karcher", Options())
    return trace(subject, template, values)


# -- templates

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(-1e6, 1e6)
    | st.text("ab ,:[]{}-1.", max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab:1", max_size=3), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON, st.sampled_from(((",", ":"), (", ", ": "))))
def test_a_template_with_its_values_is_the_payload(value: Any, separators: tuple[str, str]) -> None:
    payload = json.dumps(value, separators=separators).encode()
    template, values = template_of(payload)
    pieces = [template.literals[0]]
    for each, literal in zip(values, template.literals[1:], strict=True):
        pieces += (each, literal)
    assert b"".join(pieces) == payload
    read = (lambda text: text.decode(), int, float)
    try:
        filled = structure_of(template, [read[kind](each) for kind, each in zip(template.kinds, values, strict=True)])
    except ValueError:
        assert b"e" in re.sub(rb'"[^"]*"|true|false', b"", payload)  # an exponent, which no template has
    else:
        assert filled == value


def test_texts_numbers_and_decimals_are_holes_and_all_else_is_the_template() -> None:
    template, values = template_of(PAYLOAD)
    assert template == Template(
        (b'{"level": ', b', "part": ', b', "mode": "', b'", "on": true, "none": null}'),
        (Kind.INTEGER, Kind.DECIMAL, Kind.TEXT),
    )
    assert values == [b"5", b"1.50", b"eco"]
    narrowed = template.with_text({2: b"eco"})
    assert narrowed == Template(
        (b'{"level": ', b', "part": ', b', "mode": "eco", "on": true, "none": null}'), (Kind.INTEGER, Kind.DECIMAL)
    )
    assert template.quotes == narrowed.quotes == 12


@pytest.mark.parametrize("payload", [b'{"a": 1, "a": 2}', b"[1, 2", b'{"a": 1e5}', b"{1: 2}", b"", b"NaN"])
def test_what_is_no_json_or_has_a_name_twice_has_no_structure(payload: bytes) -> None:
    template, values = template_of(payload)
    with pytest.raises(ValueError):  # msgspec's own says what is wrong
        structure_of(template, values)


# -- holes

OPERATIONS: dict[str, Callable[[Any], Any]] = {
    "equal": lambda hole: hole == 5,
    "not equal": lambda hole: hole != "x",
    "in a set": lambda hole: hole in {1, 2},
    "in a list": lambda hole: hole in [1, 2],
    "a key": lambda hole: {}.get(hole),
    "true": bool,
    "length": len,
    "text": str,
    "shown": repr,
    "formatted": lambda hole: f"{hole}",
    "float": float,
    "integer": int,
    "index": lambda hole: [1, 2][hole],
    "sum": lambda hole: hole + 1,
    "sum from the right": lambda hole: 1 + hole,
    "negative": lambda hole: -hole,
    "iterated": list,
    "compared": lambda hole: hole < 5,
    "attribute": lambda hole: hole.strip(),
    "joined": lambda hole: max(hole, 3),
    "rounded": round,
}
IN_C: dict[str, Callable[[Any], Any]] = {
    "pattern": lambda hole: re.match("a", hole),
    "json": json.dumps,
    "finite": math.isfinite,
    "joined text": lambda hole: "".join([hole]),
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_hole_tells_nothing(operation: str, kind: Kind) -> None:
    with pytest.raises(ValueNeeded):
        OPERATIONS[operation](Hole(0, kind))


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("operation", IN_C)
def test_c_functions_get_nothing_from_a_hole(operation: str, kind: Kind) -> None:
    with pytest.raises((ValueNeeded, TypeError)):
        IN_C[operation](Hole(0, kind))


def test_a_hole_is_a_text_or_a_number() -> None:
    assert isinstance(Hole(0, Kind.TEXT), str) and not isinstance(Hole(0, Kind.TEXT), int | float | dict | list)
    assert isinstance(Hole(0, Kind.INTEGER), int) and not isinstance(Hole(0, Kind.INTEGER), bool | float | str)
    assert isinstance(Hole(0, Kind.DECIMAL), float) and not isinstance(Hole(0, Kind.DECIMAL), int | str)


# -- handlers


def test_what_a_handler_reads_of_each_hole() -> None:
    def handler(message: Message, payload: dict[str, Any]) -> None:
        stamp = message.stamp(payload["level"], "level")
        message.read(LEVEL, payload["part"], "part", stamp)
        message.read_object({"mode": MODE}, payload, "", message.received)

    found = traced(handler)
    assert found is not None
    made = [(each.metric, each.hole, each.value, each.time.holes) for each in found.readings]
    assert made == [
        ("battery.level", 1, None, (0,)),
        ("karcher.level", 0, None, ()),
        ("karcher.part", 1, None, ()),
        ("device.mode", 2, None, ()),
        ("karcher.on", None, True, ()),
    ]


def test_a_text_that_a_handler_needs_is_part_of_the_shape() -> None:
    def handler(message: Message, payload: dict[str, Any]) -> None:
        if payload["mode"] == "eco":
            message.read(LEVEL, payload["level"], "level", message.received)

    found = traced(handler)
    assert found is not None
    assert found.template.kinds == (Kind.INTEGER, Kind.DECIMAL)
    assert b'"mode": "eco"' in found.template.literals[2]
    assert traced(handler, PAYLOAD.replace(b"eco", b"max")) is None  # nothing is read


def test_the_latest_of_several_times() -> None:
    def handler(message: Message, payload: dict[str, Any]) -> None:
        stamps = [message.written_time(payload[name]) for name in ("level", "part")]
        message.read(MODE, payload["mode"], "mode", message.latest(stamps))
        message.read(LEVEL, payload["level"], "level", message.latest([]))

    found = traced(handler)
    assert found is not None
    assert [each.time.holes for each in found.readings] == [(0, 1), ()]


def _needs_number(message: Message, payload: dict[str, Any]) -> None:
    if payload["level"] > 3:
        message.read(LEVEL, payload["level"], "level", message.received)


def _reads_itself(message: Message, payload: dict[str, Any]) -> None:
    message.add(LEVEL.metric, "number", number(payload["level"]), LEVEL.unit, message.received)


def _swallows(message: Message, payload: dict[str, Any]) -> None:
    try:
        value = payload["level"] + 1
    except Exception:
        value = 7
    message.add(LEVEL.metric, "number", value, LEVEL.unit, message.received)


def _reports(message: Message, payload: dict[str, Any]) -> None:
    message.read(LEVEL, payload["level"], "level", message.received)
    message.problem("part", FieldError("wrong_type"))


def _refuses(message: Message, payload: dict[str, Any]) -> None:
    raise FieldError("missing", "all")


def _reads_twice(message: Message, payload: dict[str, Any]) -> None:
    for name in ("level", "part"):
        message.read(LEVEL, payload[name], name, message.received)


def _is_polled(message: Message, payload: dict[str, Any]) -> None:
    message.is_polled_state = True
    message.read(LEVEL, payload["level"], "level", message.received)


def _looks_at_the_envelope(message: Message, payload: dict[str, Any]) -> None:
    if message.envelope.id != "one":
        message.read(LEVEL, payload["level"], "level", message.received)


def _looks_at_the_bytes(message: Message, payload: dict[str, Any]) -> None:
    if len(message.envelope.data) > 10:
        message.read(LEVEL, payload["level"], "level", message.received)


def _compares_times(message: Message, payload: dict[str, Any]) -> None:
    stamps = [message.stamp(payload[name], name) for name in ("level", "part")]
    message.read(LEVEL, payload["level"], "level", max(stamps))


def _mixes_times(message: Message, payload: dict[str, Any]) -> None:
    stamps = [message.stamp(payload[name], name) for name in ("level", "none")]
    message.read(LEVEL, payload["level"], "level", message.latest(stamps))


def _keeps_a_structure(message: Message, payload: dict[str, Any]) -> None:
    message.keep("all", payload, "", message.received)


@pytest.mark.parametrize(
    "handler",
    [
        *(_needs_number, _reads_itself, _swallows, _reports, _refuses, _reads_twice, _is_polled),
        *(_looks_at_the_envelope, _looks_at_the_bytes, _compares_times, _mixes_times, _keeps_a_structure),
    ],
)
def test_a_handler_that_needs_more_has_no_shape(handler: Callable[[Message, dict[str, Any]], None]) -> None:
    assert traced(handler) is None
