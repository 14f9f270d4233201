"""One mutant in a process of its own, which has imported nothing of the product yet.

The source on the disk stays as it is: the mutated module is made when it is imported. This way works for every
mutation, also for those of constants, and costs the import of the product and the collection of the tests.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import math
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from tests.mutants.modules import pure_modules
from tests.mutants.points import mutated
from tests.mutants.quiet import settle_hypothesis
from tests.support.paths import ROOT

PRELOADED = ["aiohttp", "aiokafka", "msgspec", "orjson", "pyarrow", "pydantic_settings", "pytest_asyncio", "sqlalchemy"]
"""Libraries that the processes of all mutants share, imported once."""
LIBRARIES = [__name__, *PRELOADED, "hypothesis.strategies", "duckdb", "deltalake", "websockets", "paho.mqtt.client"]
PASSED, NO_TESTS = 0, 5


WALL_PER_CPU = 5
"""After so many seconds per CPU second that it may take, a mutant is taken to wait for ever."""


def limit_cpu(seconds: float) -> None:
    """End this process when it has computed for so many seconds: on a busy machine the clock would be unfair."""
    most = math.ceil(seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (most, most + 1))


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


def survives(module: str, index: int, names: list[str]) -> bool:
    """Whether all these tests pass with the mutation, in this process."""
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    os.chdir(ROOT)
    sys.meta_path.insert(0, _Finder(module, pure_modules()[module], index))
    settle_hypothesis()
    files = list(dict.fromkeys(name.partition("::")[0] for name in names))
    files = [file for file in files if (ROOT / file).exists()]  # pytest refuses to run where one has gone
    options = ["-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return pytest.main([*options, *files], plugins=[_Chosen(names)]) in (PASSED, NO_TESTS)


def _exit_with(module: str, index: int, names: list[str], seconds: float) -> None:
    limit_cpu(seconds)
    os._exit(PASSED if survives(module, index, names) else 1)


def run_in_process(module: str, index: int, names: list[str], seconds: float) -> bool | None:
    """Whether all these tests pass with the mutation; None where they do not come to an end in so many CPU seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    process = context.Process(target=_exit_with, args=(module, index, names, seconds))
    process.start()
    process.join(WALL_PER_CPU * seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    if process.exitcode in (-signal.SIGKILL, -signal.SIGXCPU):
        return None
    return process.exitcode == PASSED
