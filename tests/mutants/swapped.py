"""Mutants of functions, run by one pytest: a plugin that collects once and then forks per mutant.

The child puts the mutated code into the functions that are there and runs the tests until one fails. A failing test
has killed the mutant. Where all pass, nothing is said: what was made at import, such as a table or a default, is still
the old one, so `tests.mutants.one` has the last word. A test that killed is run again without any mutation: one
that fails then too has killed nothing.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.mutants.modules import pure_modules
from tests.mutants.one import WALL_PER_CPU, limit_cpu
from tests.mutants.points import mutated
from tests.mutants.quiet import settle_hypothesis

_POLL_SECONDS = 0.005


@dataclass
class Child:
    """A forked process, and which mutant's it is."""

    number: int
    until: float
    names: list[str]
    end: int
    """Reading end of the pipe into which it writes the rank of the test that failed."""


@dataclass
class Forks:
    """Runs tests in forked processes, so many at a time."""

    items: dict[str, pytest.Item]
    jobs: int
    children: dict[int, Child] = field(default_factory=dict)

    def run(self, tasks: list[dict[str, Any]]) -> list[str | None]:
        """Per task, the test that failed, or None where none failed in time."""
        killers: list[str | None] = [None] * len(tasks)
        waiting = deque(enumerate(tasks))
        while waiting or self.children:
            while waiting and len(self.children) < self.jobs:
                self._start(*waiting.popleft())
            for number, killer in self._ended():
                killers[number] = killer
                self._say(len(tasks) - len(waiting) - len(self.children), len(tasks))
            time.sleep(_POLL_SECONDS)
        return killers

    def _say(self, done: int, of: int) -> None:
        if done % 50 == 0:
            print(f"{done} of {of} tried the quick way", file=sys.stderr, flush=True)

    def _start(self, number: int, task: dict[str, Any]) -> None:
        names = [name for name in task["tests"] if name in self.items]
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            _child(task, [self.items[name] for name in names], writer)
        os.close(writer)
        self.children[pid] = Child(number, time.monotonic() + WALL_PER_CPU * task["seconds"], names, reader)

    def _ended(self) -> Iterator[tuple[int, str | None]]:
        for pid, child in list(self.children.items()):
            ended, _ = os.waitpid(pid, os.WNOHANG)
            if not ended and time.monotonic() < child.until:
                continue
            if not ended:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            del self.children[pid]
            rank = os.read(child.end, 20)
            os.close(child.end)
            yield child.number, child.names[int(rank)] if rank else None


def _child(task: dict[str, Any], items: list[pytest.Item], writer: int) -> None:
    """Mutate, run the tests until one fails, and end this process."""
    try:
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        limit_cpu(task["seconds"])
        sys.addaudithook(_refuse_processes)
        if task["module"]:
            swap(task["module"], task["index"])
        for rank, item in enumerate(items):
            following = items[rank + 1] if rank + 1 < len(items) else None
            reports = runtestprotocol(item, log=False, nextitem=following)
            if any(report.failed for report in reports):
                os.write(writer, str(rank).encode())
                break
    finally:
        os._exit(0)


def _refuse_processes(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec"):
        raise RuntimeError(event)


def swap(module: str, index: int) -> None:
    """Put a module's mutation into its functions."""
    path = pure_modules()[module]
    source = path.read_text()
    tree = mutated(source, index)
    old = dict(_functions(compile(source, str(path), "exec", dont_inherit=True)))
    new = dict(_functions(compile(tree, str(path), "exec", dont_inherit=True)))
    changed = {place: code for place, code in new.items() if place in old and old[place] != code}
    gc.unfreeze()  # what is frozen is not among the objects
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == str(path):
            code = changed.get((each.__code__.co_qualname, each.__code__.co_firstlineno))
            if code is not None:
                each.__code__ = code


def _functions(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    yield (code.co_qualname, code.co_firstlineno), code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _functions(constant)


def pytest_configure(config: pytest.Config) -> None:
    settle_hypothesis()


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run the tasks of the file `MUTANTS_TASKS` in place of the tests; write the killed ones into `MUTANTS_DONE`."""
    request = json.loads(Path(os.environ["MUTANTS_TASKS"]).read_text())
    forks = Forks({item.nodeid: item for item in session.items}, request["jobs"])
    killers = forks.run(request["tasks"])
    trials = [{"module": "", "index": 0, "tests": [name], "seconds": 60} for name in sorted({*filter(None, killers)})]
    unfit = {name for name in forks.run(trials) if name is not None}
    done = [None if killer in unfit else killer for killer in killers]
    Path(os.environ["MUTANTS_DONE"]).write_text(json.dumps(done))
    return True
