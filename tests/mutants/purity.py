"""A pytest plugin that runs the pure tests only, and notes which functions of the pure modules each of them calls.

A test is pure where it passes without starting a process and without a socket, quickly. That is found out by running
it: an audit hook refuses both. What needs Kafka or PostgreSQL is not even begun.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from tests.mutants.modules import pure_modules

SECONDS = 3.0
"""A test that computes for longer, while its calls are noted, is not quick. The clock would be unfair."""
MOST_SLOW_OFFENCES = 2
"""After so many tests of a file that were refused something and took a second over it, the others are skipped."""
NEEDS_MORE = {"kafka", "postgresql", "database_url"}
IMPURE = ("subprocess.Popen", "os.posix_spawn", "os.fork", "os.exec", "socket.bind", "socket.connect")


class NotPure(BaseException):
    """Raised where a test does what a pure test does not."""


class Purity:
    """Runs tests, and writes the map of the pure ones to a file."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.modules = {str(path): name for name, path in pure_modules().items()}
        self.known: dict[CodeType, str | None] = {}
        self.called: set[str] = set()
        self.tests: dict[str, dict[str, Any]] = {}
        self.offence: str | None = None
        self.testing = False
        self.begun = 0.0
        self.slow_offences: Counter[str] = Counter()
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.testing and event in IMPURE:
            self.offence = event
            raise NotPure(event)

    def _profile(self, frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in self.known:
            module = self.modules.get(code.co_filename)
            self.known[code] = None if module is None else f"{module}:{code.co_qualname}"
        name = self.known[code]
        if name is not None:
            self.called.add(name)

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        pure = [item for item in items if _may_be_pure(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(pure)])
        items[:] = pure

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.called, self.offence, self.testing, self.begun = set(), None, True, time.process_time()
        sys.setprofile(self._profile)
        threading.setprofile(self._profile)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self.testing = False

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if self.slow_offences[item.nodeid.partition("::")[0]] >= MOST_SLOW_OFFENCES:
            pytest.skip("the tests of this file wait for what they are refused")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        entry = self.tests.setdefault(report.nodeid, {"passed": True, "clock": 0.0})
        entry["seconds"] = time.process_time() - self.begun
        entry["clock"] += report.duration
        entry["passed"] &= report.outcome == "passed"
        if report.when == "teardown":
            entry["passed"] &= self.offence is None
            if entry["clock"] > 1 and not entry["passed"]:
                self.slow_offences[report.nodeid.partition("::")[0]] += 1
            entry["calls"] = sorted(self.called)

    def pytest_sessionfinish(self) -> None:
        pure = {
            name: {"seconds": round(entry["seconds"], 3), "calls": entry["calls"]}
            for name, entry in self.tests.items()
            if entry["passed"] and entry["seconds"] <= SECONDS
        }
        self.target.write_text(json.dumps(pure, indent=0))


def _may_be_pure(item: pytest.Item) -> bool:
    return not NEEDS_MORE & set(getattr(item, "fixturenames", ()))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Purity(Path(os.environ["MUTANTS_MAP"])))
