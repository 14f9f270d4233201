"""The runner's parts: which tests a mutation is held against, the map that is kept, and code that is swapped."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import pytest

from schemas.severity import severity_of_number
from tests.mutants.modules import pure_modules
from tests.mutants.one import limit_cpu
from tests.mutants.points import Point, points
from tests.mutants.selection import chosen_tests
from tests.mutants.swapped import swap
from tests.mutants.tests_map import TestMap, imports

A, B, C = "tests/a/test_a.py::test_a", "tests/b/test_b.py::test_b", "tests/c/test_c.py::test_c"


def point(module: str, function: str | None) -> Point:
    return Point(module, 0, 1, function, "scope", "text", "before", "after")


@pytest.fixture
def tests() -> TestMap:
    made = TestMap({A: 0.2, B: 0.1, C: 0.3})
    made.by_function["m:f"] = {A, C}
    made.by_module["m"] = {A, B, C}
    made.importers["m"] = {"tests/c/test_c.py"}
    made.importers["by n"] = {"m"}
    return made


def test_a_mutation_of_a_function_is_held_against_the_tests_that_call_it_first(tests: TestMap) -> None:
    assert chosen_tests(point("m", "f"), tests) == [C, A, B]


def test_a_mutation_of_a_constant_is_held_against_the_tests_of_all_that_use_the_module(tests: TestMap) -> None:
    assert chosen_tests(point("n", None), tests) == [B, A, C]
    assert chosen_tests(point("n", "f"), tests) == []


def test_a_module_that_is_named_as_a_reference_counts_as_imported(tmp_path: Path) -> None:
    source = tmp_path / "spec.py"
    source.write_text("import a\nfrom b import c\nd = 'e.f:G'\n")
    assert imports(source) == {"a", "b", "b.c", "e.f"}


def test_swapped_code_is_run_by_whoever_has_imported_the_function() -> None:
    mutations = points("schemas.severity", pure_modules()["schemas.severity"].read_text())
    bound = next(each for each in mutations if each.function == "severity_of_number" and each.before == "1")
    code = severity_of_number.__code__
    assert severity_of_number(1) == "critical"
    gc.freeze()  # as a stream worker does: a swap finds the function even so
    try:
        swap("schemas.severity", bound.index)
        with pytest.raises(ValueError, match="severity"):
            severity_of_number(1)
    finally:
        severity_of_number.__code__ = code
    assert severity_of_number(1) == "critical"


def test_a_mutant_that_computes_for_ever_is_ended_by_its_own_time_and_not_by_the_clock() -> None:
    """So that a busy machine counts none as such that would have come to an end."""
    pid = os.fork()
    if pid == 0:
        limit_cpu(0.5)
        while True:
            pass
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGXCPU
