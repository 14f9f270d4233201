"""Which mutations are tried, and which tests each of them is held against."""

from __future__ import annotations

import random
from pathlib import Path

from tests.mutants.points import Point, points
from tests.mutants.tests_map import TestMap

TEXTS = 0.2
"""The part of the texts that is drawn from. They are four in ten of all places, mostly names that any test needs."""
LEAST = 2
"""Mutations of every module, however small."""
MOST_SECONDS = 20.0
"""Of tests for one mutation, by what they take undisturbed."""


def sample(modules: dict[str, Path], size: int, seed: int) -> list[Point]:
    """So many mutations, drawn evenly over all places, and at least `LEAST` of every module that has as many."""
    chance = random.Random(seed)
    drawn: list[Point] = []
    rest: list[Point] = []
    for name in sorted(modules):
        all_of_module = points(name, modules[name].read_text())
        of_module = [each for each in all_of_module if each.operator != "text" or chance.random() < TEXTS]
        chance.shuffle(of_module)
        drawn += of_module[:LEAST]
        rest += of_module[LEAST:]
    chance.shuffle(rest)
    chance.shuffle(drawn)
    drawn = (drawn + rest)[:size]
    chance.shuffle(drawn)  # so that a run that its time ends has tried some of all
    return drawn


def chosen_tests(point: Point, tests: TestMap) -> list[str]:
    """The tests that may notice the mutation, the likeliest and quickest first, within `MOST_SECONDS`."""

    def quick(names: set[str]) -> list[str]:
        return sorted(names, key=lambda name: (tests.seconds[name], name))

    near = set() if point.function is None else tests.by_function[f"{point.module}:{point.function}"]
    files = tests.importers.get(point.module, set())
    of_files = {name for name in tests.seconds if name.partition("::")[0] in files}
    further: set[str] = set()
    if point.function is None:  # a constant of the module, which others may use without calling anything of it
        for module in _users(point.module, tests):
            further |= tests.by_module[module]
            further |= {name for name in tests.seconds if name.partition("::")[0] in tests.importers[module]}
    ordered = [*quick(near & of_files), *quick(near), *quick(of_files), *quick(tests.by_module[point.module])]
    chosen: list[str] = []
    left = MOST_SECONDS
    for name in dict.fromkeys([*ordered, *quick(further)]):
        if (left := left - tests.seconds[name]) < 0 and chosen:
            break
        chosen.append(name)
    return chosen


def _users(module: str, tests: TestMap) -> set[str]:
    """Pure modules that import a module, directly or through others."""
    users: set[str] = set()
    new = {module}
    while new:
        new = {user for each in new for user in tests.importers.get(f"by {each}", set())} - users
        users |= new
    return users
