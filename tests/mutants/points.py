"""The mutations of a module, numbered, and the module with one of them. Each changes one place of the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from tests.mutants.operators import Replacement, left_out, mutations, turned_round
from tests.mutants.places import CONDITION, DESCRIBING, STATEMENT, Place, places


@dataclass(frozen=True)
class Point:
    """One mutation of one module."""

    module: str
    index: int
    """Which of the module's mutations it is, in the order of the tree."""
    line: int
    function: str | None
    """Innermost function it is in, as in `__qualname__`; None for the module's level and that of classes."""
    scope: str
    operator: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.scope}: {self.operator}: {self.before} → {self.after}"


def points(module: str, source: str) -> list[Point]:
    """Every mutation of a module."""
    return [
        Point(
            module,
            index,
            place.node.lineno,  # type: ignore[attr-defined]
            place.scope.function,
            place.scope.name or "module",
            operator,
            _short(ast.unparse(place.node)),
            _short(ast.unparse(ast.fix_missing_locations(other))),
        )
        for index, (place, (operator, other)) in enumerate(_all(ast.parse(source)))
    ]


def mutated(source: str, index: int) -> ast.Module:
    """The tree of a module with its mutation of that index."""
    tree = ast.parse(source)
    for number, (place, (_, other)) in enumerate(_all(tree)):
        if number == index:
            place.put(other)
            return ast.fix_missing_locations(tree)
    raise IndexError("no such mutation")


def _all(tree: ast.Module) -> Iterator[tuple[Place, Replacement]]:
    for place in places(tree):
        if place.role == STATEMENT and place.scope.function is not None:
            yield from ((place, each) for each in left_out(place.node))
        if place.role == CONDITION:
            yield from ((place, each) for each in turned_round(place.node))
        yield from ((place, each) for each in mutations(place.node, DESCRIBING))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else text[:88] + " …"
