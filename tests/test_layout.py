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
