"""Which mutations are tried, and which tests each of them is held against."""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutants.points import Point, points
from tests.support.paths import ROOT

TEXTS = 0.2
"""The part of the texts that is drawn from. They are four in ten of all places, mostly names that any test needs."""
LEAST = 2
"""Mutations of every module, however small."""
MOST_SECONDS = 60.0
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


@dataclass
class Tests:
    """The pure tests: what each takes and calls."""

    seconds: dict[str, float]
    by_function: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_module: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    importers: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, found: dict[str, dict[str, object]], modules: dict[str, Path]) -> Tests:
        """From the file that `tests.mutants.purity` writes."""
        tests = cls({name: float(str(entry["seconds"])) for name, entry in found.items()})
        for name, entry in found.items():
            calls = entry["calls"]
            assert isinstance(calls, list)
            for call in calls:
                tests.by_function[call].add(name)
                tests.by_module[call.rpartition(":")[0]].add(name)
        tests.importers = _importers(modules)
        return tests

    def against(self, point: Point) -> list[str]:
        """The tests that may notice the mutation, the likeliest and quickest first, within `MOST_SECONDS`."""
        near = set() if point.scope is None else self.by_function[f"{point.module}:{point.scope}"]
        files = self.importers.get(point.module, set())
        of_files = {name for name in self.seconds if name.partition("::")[0] in files}
        of_module = self.by_module[point.module] | of_files
        further: set[str] = set()
        if point.scope is None:  # a constant of the module, which others may use without calling anything of it
            for module in self.importers.get(f"by {point.module}", set()):
                further |= self.by_module[module]
        ordered = [*self._quick(near & of_files), *self._quick(near), *self._quick(of_module), *self._quick(further)]
        chosen, left = [], MOST_SECONDS
        for name in dict.fromkeys(ordered):
            if (left := left - self.seconds[name]) < 0 and chosen:
                break
            chosen.append(name)
        return chosen

    def _quick(self, names: set[str]) -> list[str]:
        return sorted(names, key=lambda name: (self.seconds[name], name))


def _importers(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Test files that import a module, by its name; pure modules that import it, by `by` and its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name in _imports(path) & modules.keys():
            found[name].add(str(path.relative_to(ROOT)))
    for importer, path in modules.items():
        for name in _imports(path) & modules.keys():
            found[f"by {name}"].add(importer)
    return found


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names
