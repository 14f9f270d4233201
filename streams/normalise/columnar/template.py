"""A payload without its values: the text that all messages of a shape have in common (pure)."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

_TOKEN = re.compile(rb'"[^"]*"(\s*:)?|-?[0-9]+(\.[0-9]+)?')
_MARK = "\x01"
"""Begins the text that stands for a value; no payload that is taken apart contains it."""

PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte != ord("\\"))
"""What a payload may consist of: a string of these bytes means itself, in JSON as in text."""


class Kind(IntEnum):
    """What stands in a hole."""

    TEXT = 0
    """The content of a string."""
    INTEGER = 1
    DECIMAL = 2
    """A number with a point and without an exponent."""


@dataclass(frozen=True, slots=True)
class Template:
    """`literals[0]`, a value, `literals[1]`, a value, …: one literal more than there are values."""

    literals: tuple[bytes, ...]
    kinds: tuple[Kind, ...]

    def with_text(self, values: dict[int, bytes]) -> Template:
        """The template in which some of the values are part of the text."""
        literals, kinds = [self.literals[0]], []
        for number, (kind, literal) in enumerate(zip(self.kinds, self.literals[1:], strict=True)):
            if number in values:
                literals[-1] += values[number] + literal
            else:
                literals.append(literal)
                kinds.append(kind)
        return Template(tuple(literals), tuple(kinds))

    @property
    def quotes(self) -> int:
        """Number of quotation marks, none of which is within a value."""
        return sum(literal.count(b'"') for literal in self.literals)


def template_of(payload: bytes) -> tuple[Template, list[bytes]]:
    """The template of a payload of `PLAIN` bytes, and its values. What is no JSON has one, too."""
    literals, kinds, values, at = [], [], [], 0
    for match in _TOKEN.finditer(payload):
        start, end = match.span()
        if payload[start] != ord('"'):
            kinds.append(Kind.DECIMAL if match[2] else Kind.INTEGER)
        elif match[1]:
            continue  # the name of a member
        else:
            kinds.append(Kind.TEXT)
            start, end = start + 1, end - 1
        literals.append(payload[at:start])
        values.append(payload[start:end])
        at = end
    return Template((*literals, payload[at:]), tuple(kinds)), values


def structure_of(template: Template, values: Collection[Any]) -> Any:
    """The JSON value with the given objects in place of the values. ValueError for none, or a name twice."""
    text = template.literals[0]
    for number, (kind, literal) in enumerate(zip(template.kinds, template.literals[1:], strict=True)):
        mark = b"\\u0001%d" % number
        text += (mark if kind is Kind.TEXT else b'"%b"' % mark) + literal
    places = list(values)
    filled, count = _filled(msgspec.json.decode(text), places)
    if count != len(places):
        raise ValueError("a value is not part of the structure")
    return filled


def _filled(value: Any, places: list[Any]) -> tuple[Any, int]:
    if isinstance(value, str) and value.startswith(_MARK):
        return places[int(value[1:])], 1
    if isinstance(value, dict):
        pairs = [(name, *_filled(inner, places)) for name, inner in value.items()]
        return {name: inner for name, inner, _ in pairs}, sum(count for *_, count in pairs)
    if isinstance(value, list):
        items = [_filled(inner, places) for inner in value]
        return [inner for inner, _ in items], sum(count for _, count in items)
    return value, 0
