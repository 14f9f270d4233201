"""Mutation testing of the pure modules: `python -m tests.mutants --sample 300 --seed 11 --minutes 60`.

Exit status 1 where less than `--least` per cent of the mutations were killed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.modules import pure_modules
from tests.mutants.points import Point
from tests.mutants.selection import Tests, sample
from tests.support.paths import ROOT

KILLED, SURVIVED, ENDLESS, UNTESTED = "killed", "survived", "endless", "untested"
CAUGHT = (KILLED, ENDLESS)
PYTEST_PASSED, PYTEST_NO_TESTS = 0, 5


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation."""

    point: Point
    what: str
    seconds: float
    by: str = ""


def map_of_tests(folder: Path) -> dict[str, dict[str, object]]:
    """Run all pure tests once, undisturbed; what each takes and calls."""
    target = folder / "map.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.purity", "-p", "no:cacheprovider", "--tb=no"]
    command += ["--timeout", "6"]
    environment = {**os.environ, "MUTANTS_MAP": str(target)}
    with (folder / "map.log").open("wb") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    if not target.exists():
        sys.exit(f"the tests could not be run:\n{(folder / 'map.log').read_text()[-2000:]}")
    found: dict[str, dict[str, object]] = json.loads(target.read_text())
    return found


def tried(point: Point, tests: Tests, folder: Path) -> Outcome:
    """Run the tests that may notice the mutation."""
    names = tests.against(point)
    if not names:
        return Outcome(point, UNTESTED, 0.0)
    begun = time.monotonic()
    ids = folder / f"{point.module}-{point.index}.txt"
    ids.write_text("\n".join(names))
    most = 30 + 4 * sum(tests.seconds[name] for name in names)
    command = [sys.executable, "-m", "tests.mutants.one", point.module, str(point.index), str(ids)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=most)
    except subprocess.TimeoutExpired:
        return Outcome(point, ENDLESS, time.monotonic() - begun)
    finally:
        ids.unlink()
    survived = done.returncode in (PYTEST_PASSED, PYTEST_NO_TESTS)
    by = next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
    return Outcome(point, SURVIVED if survived else KILLED, time.monotonic() - begun, by)


def report(outcomes: list[Outcome], minutes: float) -> float:
    """Print killed and survived by module; return the share killed in per cent."""
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        by_module[outcome.point.module][CAUGHT[0] if outcome.what in CAUGHT else SURVIVED] += 1
    width = max(map(len, by_module), default=0)
    print(f"\n{'module':{width}}  killed  survived")
    for module, counts in sorted(by_module.items()):
        print(f"{module:{width}}  {counts[KILLED]:6}  {counts[SURVIVED]:8}")
    caught = sum(counts[KILLED] for counts in by_module.values())
    share = 100 * caught / max(1, len(outcomes))
    endless = sum(outcome.what == ENDLESS for outcome in outcomes)
    print(f"{'all':{width}}  {caught:6}  {len(outcomes) - caught:8}")
    print(f"\n{share:.1f} % of {len(outcomes)} killed ({endless} ran for ever), in {minutes:.1f} minutes")
    return share


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    parser.add_argument("--sample", type=int, default=300, help="how many mutations")
    parser.add_argument("--seed", type=int, default=11, help="which ones")
    parser.add_argument("--minutes", type=float, default=60, help="when to stop")
    parser.add_argument("--least", type=float, default=0, help="per cent that must be killed")
    parser.add_argument("--only", default="", help="modules whose name begins so")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--map", type=Path, help="a map of the tests kept from another run, or where to keep it")
    arguments = parser.parse_args()
    begun = time.monotonic()
    modules = {name: path for name, path in pure_modules().items() if name.startswith(arguments.only)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.map is not None and arguments.map.exists():
            found = json.loads(arguments.map.read_text())
        else:
            found = map_of_tests(folder)
            if arguments.map is not None:
                arguments.map.write_text(json.dumps(found))
        if not found:
            sys.exit("no test is pure: nothing can be said of any mutation")
        tests = Tests.of(found, pure_modules())
        chosen = sample(modules, arguments.sample, arguments.seed)
        print(f"{len(chosen)} mutations of {len(modules)} modules, {len(found)} pure tests", flush=True)
        outcomes: list[Outcome] = []
        end = begun + 60 * arguments.minutes

        def one(point: Point) -> None:
            if time.monotonic() < end:
                outcomes.append(outcome := tried(point, tests, folder))
                if outcome.what not in CAUGHT:
                    print(f"{len(outcomes):4}  {outcome.what}  {point}", flush=True)

        with ThreadPoolExecutor(arguments.jobs) as threads:
            list(threads.map(one, chosen))
    share = report(outcomes, (time.monotonic() - begun) / 60)
    if len(outcomes) < len(chosen):
        print(f"the time was over after {len(outcomes)} of {len(chosen)}")
    return int(share < arguments.least)


if __name__ == "__main__":
    sys.exit(main())
