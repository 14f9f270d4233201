"""The shape of the source tree: no two modules import each other, directly or around a corner."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "schemas",
    "runtime",
    "connectors",
    "streams",
    "sinks",
    "alarm_service",
    "fleetlake",
    "simulators",
    "sql_server",
    "ui",
    "bench",
)


def modules(root: Path, packages: tuple[str, ...]) -> dict[str, Path]:
    """Each module of the packages by its dotted name."""
    named = {}
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(path: Path, known: Mapping[str, Path]) -> set[str]:
    """The known modules that a file imports anywhere: at its top, in functions, and for type checking only."""
    targets = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                targets.add(submodule if submodule in known else node.module)
    return {target for target in targets if target in known}


def circles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """The groups of modules that reach one another (strongly connected components of more than one, by Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(graph[name]):
            if target not in index:
                yield from visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1 or name in graph[name]:
                yield sorted(group)

    for name in sorted(graph):
        if name not in index:
            yield from visit(name)


def test_no_circle_of_files() -> None:
    known = modules(ROOT, PACKAGES)
    assert len(known) > 200, "the packages are not where this test looks"
    graph = {name: imports(path, known) - {name} for name, path in known.items()}
    assert list(circles(graph)) == []


@pytest.mark.parametrize(
    ("graph", "groups"),
    [
        ({"a": {"b"}, "b": set()}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b", "c"}, "b": {"d"}, "c": {"d"}, "d": set()}, []),
    ],
)
def test_circles_are_recognised(graph: dict[str, set[str]], groups: list[list[str]]) -> None:
    assert list(circles(graph)) == groups


def test_imports_are_read_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name, text in {
        "__init__": "",
        "a": "from p import b\n",
        "b": "def f():\n    import p.c\n",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x\n",
    }.items():
        (tmp_path / "p" / f"{name}.py").write_text(text)
    known = modules(tmp_path, ("p",))
    graph = {name: imports(path, known) for name, path in known.items()}
    assert graph == {"p": set(), "p.a": {"p.b"}, "p.b": {"p.c"}, "p.c": {"p.a"}}
    assert list(circles(graph)) == [["p.a", "p.b", "p.c"]]
