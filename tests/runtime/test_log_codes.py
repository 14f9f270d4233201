"""Every kind of line has a stable code, and the catalogue has nothing else."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from runtime.log_codes import CODES, code_of, table
from tests.support.paths import ROOT

PACKAGES = (
    "schemas",
    "runtime",
    "alarm_service",
    "connectors",
    "streams",
    "sinks",
    "simulators",
    "ui",
    "sql_server",
    "fleetlake",
)
LEVELS = ("info", "warning", "error", "critical", "exception")


def trees() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "log_codes.py":
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def logged(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and literal template of each call that logs more than details."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ("log", "_log", "logger") and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    yield node.lineno, str(first.value)


def test_every_line_that_is_logged_has_a_code() -> None:
    without = [
        f"{name}:{line}: {template!r}"
        for name, tree in trees()
        for line, template in logged(tree)
        if code_of(template) is None
    ]
    assert not without, "give these templates a code in runtime/log_codes.py"


def test_every_template_of_the_catalogue_is_logged_somewhere() -> None:
    texts = {
        node.value
        for _, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    templates = [template for templates in CODES.values() for template in templates]
    assert len(templates) == len(set(templates)), "one line, one code"
    assert [one for one in templates if one not in texts and one.removeprefix("%s: ") not in texts] == []


@pytest.mark.parametrize("code", CODES)
def test_codes_are_words_with_hyphens(code: str) -> None:
    assert code == code.lower() and code.replace("-", "").isalpha()


def test_the_page_is_the_catalogue() -> None:
    assert (ROOT / "docs" / "log-codes.md").read_text(encoding="utf-8").endswith(f"\n\n{table()}")


def test_the_rule_sees_what_it_must() -> None:
    text = "log.warning('a %s', 1)\n_log.debug('detail')\nlog.info(message)\nself._log('x')\nlog.error('b' 'c')"
    assert [*logged(ast.parse(text))] == [(1, "a %s"), (5, "bc")]
