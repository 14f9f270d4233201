"""How the tests are laid out: what several of them need is in a module that is no test and no conftest."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = sorted(HERE.rglob("*.py"))


def imported(source: str) -> Iterator[str]:
    """Every module, or name in a module, that a source text imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module or ''}.{alias.name}" for alias in node.names)


def is_of_tests(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in ("tests", "") and any(part.startswith("test_") or part == "conftest" for part in parts)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HERE)))
def test_nothing_imports_a_test_module_or_a_conftest(path: Path) -> None:
    assert not [name for name in imported(path.read_text()) if is_of_tests(name)], "move it to tests/support"


def test_the_rule_sees_every_form_of_import() -> None:
    forms = ("import tests.streams.test_a", "from tests.sinks.test_b import c", "from tests.sinks import test_b")
    forms += ("from tests.conftest import d", "from tests.streams import conftest", "from . import test_e")
    for form in forms:
        assert [name for name in imported(form) if is_of_tests(name)], form
    assert not [name for name in imported("from tests.support.waiting import eventually") if is_of_tests(name)]


def bare_sleeps(source: str) -> list[int]:
    """Lines that sleep for a number. Zero lets others run, and waits for nothing."""
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("asyncio.sleep", "time.sleep", "sleep")
        and any(isinstance(argument, ast.Constant) and argument.value != 0 for argument in node.args)
    )


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(HERE)))
def test_nobody_sleeps_for_a_number(path: Path) -> None:
    lines = bare_sleeps(path.read_text(encoding="utf-8"))
    assert lines == [], "wait for a condition (`eventually`), or say why time must pass (`passing`)"


def test_a_bare_sleep_is_seen() -> None:
    source = "import asyncio, time\nasync def f(s):\n    await asyncio.sleep(0)\n    await asyncio.sleep(s)\n"
    assert bare_sleeps(source) == []
    assert bare_sleeps(source + "    await asyncio.sleep(0.5)\ntime.sleep(3)\n") == [5, 6]


def test_the_files_that_begin_first_are_there() -> None:
    tree = ast.parse((HERE / "conftest.py").read_text(encoding="utf-8"))
    [names] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LONGEST_FIRST"
    ]
    assert [name for name in names if not (HERE / name).exists()] == []
