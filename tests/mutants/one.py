"""One mutant: `python -m tests.mutants.one MODULE INDEX FILE` runs the tests whose ids are the lines of FILE.

The source on the disk stays as it is: the mutated module is made when it is imported. The exit status is pytest's.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest
from hypothesis import Phase

from tests.mutants.modules import pure_modules
from tests.mutants.points import mutated


class _Mutant(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, index: int) -> None:
        super().__init__(name, path)
        self.index = index

    def get_code(self, fullname: str) -> CodeType:
        return compile(mutated(Path(self.path).read_text(), self.index), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, mutated."""

    def __init__(self, module: str, path: Path, index: int) -> None:
        self.module = module
        self.path = path
        self.index = index

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.module:
            return None
        places = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        loader = _Mutant(fullname, str(self.path), self.index)
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=places
        )


class _Chosen:
    """Keeps the chosen tests, in the order in which they are given."""

    def __init__(self, names: list[str]) -> None:
        self.rank = {name: number for number, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.rank), key=lambda i: self.rank[i.nodeid])


def main(module: str, index: int, names: list[str]) -> int:
    sys.meta_path.insert(0, _Finder(module, pure_modules()[module], index))
    # the same examples every time; how small a failing one could be made does not matter
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    hypothesis.settings.load_profile("mutants")
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    options = ["-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return pytest.main([*options, *files], plugins=[_Chosen(names)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).read_text().splitlines()))
