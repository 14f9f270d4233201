"""The map of the pure tests: how long each takes, and which functions of the pure modules it calls.

The map is kept in a folder that Git ignores. The tests of a file run again only when the file, a `conftest.py`, or a
pure module that the file imports has changed.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from pytest import ExitCode

from tests.support.paths import ROOT

KEPT = ROOT / ".mutants"
Entries = dict[str, dict[str, object]]


@dataclass
class TestMap:
    """The pure tests: what each takes and calls, and which files import a module."""

    __test__ = False

    seconds: dict[str, float]
    by_function: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    by_module: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    importers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Test files that import a module, by its name; pure modules that import it, by `by` and its name."""

    @classmethod
    def of(cls, entries: Entries, modules: dict[str, Path]) -> TestMap:
        """From what `tests.mutants.purity` writes."""
        tests = cls({name: float(str(entry["seconds"])) for name, entry in entries.items()})
        for name, entry in entries.items():
            calls = entry["calls"]
            assert isinstance(calls, list)
            for call in calls:
                tests.by_function[call].add(name)
                tests.by_module[call.rpartition(":")[0]].add(name)
        for file in {name.partition("::")[0] for name in entries}:
            for module in imports(ROOT / file) & modules.keys():
                tests.importers[module].add(file)
        for importer, path in modules.items():
            for module in (imports(path) | _loaded_by(importer, modules)) & modules.keys():
                tests.importers[f"by {module}"].add(importer)
        return tests


def pure_tests(modules: dict[str, Path], folder: Path = KEPT) -> Entries:
    """The entries of all pure tests; those of changed files are measured, the others kept from the last time."""
    folder.mkdir(exist_ok=True)
    kept = folder / "tests.json"
    old = json.loads(kept.read_text()) if kept.exists() else {}
    keys = {str(path.relative_to(ROOT)): _key(path, modules) for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    changed = [file for file, key in keys.items() if old.get(file, {}).get("key") != key]
    measured: Entries = _measured(changed) if changed else {}
    by_file = {file: {"key": keys[file], "tests": old[file]["tests"]} for file in keys if file not in changed}
    for file in changed:
        tests = {name: entry for name, entry in measured.items() if name.partition("::")[0] == file}
        by_file[file] = {"key": keys[file], "tests": tests}
    kept.write_text(json.dumps(by_file, indent=0, sort_keys=True))
    return {name: entry for each in by_file.values() for name, entry in each["tests"].items()}


def _loaded_by(module: str, modules: dict[str, Path]) -> set[str]:
    """The vendors' registrations are loaded by their names."""
    return {name for name in modules if name.endswith(".vendor")} if module == "schemas.vendors" else set()


def imports(path: Path) -> set[str]:
    """Names of the modules, and of what is taken from modules, that a file imports or names as `module:attribute`."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
            names.add(node.value.partition(":")[0])
    return names


def _key(path: Path, modules: dict[str, Path]) -> str:
    imported = [modules[name] for name in sorted(imports(path) & modules.keys())]
    conftests = [each / "conftest.py" for each in path.parents if (each / "conftest.py").exists()]
    digest = hashlib.sha256()
    for each in (path, *imported, *conftests):
        digest.update(each.read_bytes())
    return digest.hexdigest()


def _measured(files: list[str]) -> Entries:
    """Run the tests of these files once, undisturbed."""
    with tempfile.TemporaryDirectory() as name:
        target, log = Path(name) / "map.json", Path(name) / "map.log"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.purity", "-p", "no:cacheprovider"]
        command += ["--tb=no", "--timeout", "60", *files]
        with log.open("wb") as output:
            environment = {**os.environ, "MUTANTS_MAP": str(target)}
            status = subprocess.run(command, cwd=ROOT, env=environment, stdout=output, stderr=output).returncode
        if not target.exists() or status not in (ExitCode.OK, ExitCode.TESTS_FAILED, ExitCode.NO_TESTS_COLLECTED):
            sys.exit(f"the tests could not be run:\n{log.read_text()[-2000:]}")
        entries: Entries = json.loads(target.read_text())
        return entries
