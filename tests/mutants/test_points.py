"""Which mutations a module has, and that each is one change."""

from __future__ import annotations

import ast

import pytest

from tests.mutants.modules import pure_modules
from tests.mutants.points import mutated, points
from tests.mutants.selection import sample


def mutants(source: str) -> set[str]:
    """All mutants of a source text, as source texts."""
    return {ast.unparse(mutated(source, point.index)) for point in points("m", source)}


@pytest.mark.parametrize(
    ("source", "some"),
    [
        ("x = a < 3", {"x = a <= 3", "x = a < 4"}),
        ("x = -a + b", {"x = a + b", "x = -a - b"}),
        ("x = max(a, b) or c", {"x = min(a, b) or c", "x = max(a, b) and c"}),
        ("x = f(a, key=b)", {"x = f(a)"}),
        ("x = not a", {"x = a"}),
        ("x = [y for y in z if y]", {"x = [y for y in z if not y]"}),
        ("def f():\n    return a", {"def f():\n    return None"}),
        ("def f():\n    self.x = a", {"def f():\n    pass"}),
        (
            "x: Annotated[int, Field(le=1)] = a",
            {"x: Annotated[int, Field(le=2)] = a", "x: Annotated[int, Field()] = a"},
        ),
    ],
)
def test_slips_of_the_hand_are_among_the_mutants(source: str, some: set[str]) -> None:
    assert some <= mutants(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Words."""',
        "x: int | None",
        "X = A | None",
        "log.info('words', 1)",
        "raise ValueError('words')",
        "x = f'words {1}'",
        "@cache(1)\nclass C:\n    pass",
        "if TYPE_CHECKING:\n    x = 1",
        "from a import b",
        "__all__ = ['a']",
    ],
)
def test_what_no_behaviour_depends_on_is_left_alone(source: str) -> None:
    assert points("m", source) == []


def test_every_point_of_every_pure_module_is_one_change_that_compiles() -> None:
    for module, path in pure_modules().items():
        source = path.read_text()
        whole = ast.unparse(ast.parse(source))
        found = points(module, source)
        assert [point.index for point in found] == list(range(len(found)))
        for point in found[:: max(1, len(found) // 2)]:
            tree = mutated(source, point.index)
            compile(tree, str(path), "exec")
            assert ast.unparse(tree) != whole, point


def test_a_sample_is_the_same_each_time_and_has_some_of_every_module() -> None:
    modules = dict(list(pure_modules().items())[::6])
    one, same, other = (sample(modules, 60, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert len(one) == len(set(one)) == 60
    with_many = {name for name, path in modules.items() if len(points(name, path.read_text())) > 20}
    assert with_many <= {point.module for point in one}
