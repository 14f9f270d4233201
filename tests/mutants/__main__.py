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
from tests.mutants.one import run_in_process
from tests.mutants.points import Point
from tests.mutants.selection import chosen_tests, sample
from tests.mutants.tests_map import TestMap, pure_tests
from tests.support.paths import ROOT

KILLED, SURVIVED, ENDLESS, UNTESTED, UNTRIED = "killed", "survived", "endless", "untested", "not tried"
CAUGHT = (KILLED, ENDLESS)


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation."""

    point: Point
    what: str
    by: str = ""


@dataclass(frozen=True)
class Mutant:
    """One mutation and the tests that may notice it."""

    point: Point
    names: list[str]
    seconds: float
    """After so many, of CPU, it is taken to run for ever."""


def killed_by_swapping(mutants: list[Mutant], jobs: int) -> list[Outcome | None]:
    """The quick way, for mutations of functions: those that a test noticed."""
    with tempfile.TemporaryDirectory() as name:
        tasks, done, log = Path(name) / "tasks.json", Path(name) / "done.json", Path(name) / "log"
        each = [
            {"module": one.point.module, "index": one.point.index, "tests": one.names, "seconds": one.seconds}
            for one in mutants
        ]
        tasks.write_text(json.dumps({"jobs": jobs, "tasks": each}))
        files = sorted({name.partition("::")[0] for mutant in mutants for name in mutant.names})
        files = [file for file in files if (ROOT / file).exists()]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.mutants.swapped", "-p", "no:cacheprovider"]
        environment = {**os.environ, "MUTANTS_TASKS": str(tasks), "MUTANTS_DONE": str(done)}
        with log.open("wb") as output:
            command += ["-p", "no:xdist", "-s", *files]
            subprocess.run(command, cwd=ROOT, env=environment, stdout=output)
        if not done.exists():
            sys.exit(f"the tests could not be run:\n{log.read_text()[-2000:]}")
        killers: list[str | None] = json.loads(done.read_text())
    pairs = zip(mutants, killers, strict=True)
    return [None if killer is None else Outcome(one.point, KILLED, killer) for one, killer in pairs]


def tried(mutant: Mutant) -> Outcome:
    """Run the tests that may notice the mutation, in a process of their own."""
    if not mutant.names:
        return Outcome(mutant.point, UNTESTED)
    survives = run_in_process(mutant.point.module, mutant.point.index, mutant.names, mutant.seconds)
    return Outcome(mutant.point, ENDLESS if survives is None else SURVIVED if survives else KILLED)


def report(outcomes: list[Outcome], minutes: float) -> float:
    """Print killed and survived by module; return the share killed in per cent. What was not tried is not killed."""
    by_module: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        what = KILLED if outcome.what in CAUGHT else UNTRIED if outcome.what == UNTRIED else SURVIVED
        by_module[outcome.point.module][what] += 1
    every = Counter[str]()
    for counts in by_module.values():
        every.update(counts)
    width = max(map(len, by_module), default=0)
    print(f"\n{'module':{width}}  killed  survived  not tried")
    for module, counts in [*sorted(by_module.items()), ("all", every)]:
        print(f"{module:{width}}  {counts[KILLED]:6}  {counts[SURVIVED]:8}  {counts[UNTRIED]:9}")
    share = 100 * every[KILLED] / max(1, len(outcomes))
    endless = sum(outcome.what == ENDLESS for outcome in outcomes)
    print(f"\n{share:.1f} % of {len(outcomes)} killed ({endless} ran for ever), in {minutes:.1f} minutes")
    return share


def run(mutants: list[Mutant], jobs: int, end: float) -> list[Outcome]:
    """What became of each mutant."""
    of_functions = [mutant for mutant in mutants if mutant.point.function is not None and mutant.names]
    outcomes = [outcome for outcome in killed_by_swapping(of_functions, jobs) if outcome is not None]
    killed = {outcome.point for outcome in outcomes}
    print(f"{len(killed)} killed the quick way, {len(mutants) - len(killed)} to be tried", flush=True)

    def one(mutant: Mutant) -> None:
        outcomes.append(outcome := tried(mutant) if time.monotonic() < end else Outcome(mutant.point, UNTRIED))
        if outcome.what not in CAUGHT:
            print(f"{len(outcomes):4}  {outcome.what}  {outcome.point}", flush=True)

    with ThreadPoolExecutor(jobs) as threads:
        list(threads.map(one, [mutant for mutant in mutants if mutant.point not in killed]))
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.mutants")
    parser.add_argument("--sample", type=int, default=300, help="how many mutations")
    parser.add_argument("--seed", type=int, default=11, help="which ones")
    parser.add_argument("--minutes", type=float, default=60, help="when to stop")
    parser.add_argument("--least", type=float, default=0, help="per cent that must be killed")
    parser.add_argument("--only", default="", help="modules whose name begins so; several with commas between")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    begun = time.monotonic()
    everything = pure_modules()
    modules = {name: path for name, path in everything.items() if name.startswith(tuple(arguments.only.split(",")))}
    entries = pure_tests(everything)
    if not entries:
        sys.exit("no test is pure: nothing can be said of any mutation")
    tests = TestMap.of(entries, everything)
    chosen = sample(modules, arguments.sample, arguments.seed)
    print(f"{len(chosen)} mutations of {len(modules)} modules, {len(entries)} pure tests", flush=True)
    mutants = []
    for point in chosen:
        names = chosen_tests(point, tests)
        mutants.append(Mutant(point, names, 30 + 4 * sum(tests.seconds[name] for name in names)))
    outcomes = run(mutants, arguments.jobs, begun + 60 * arguments.minutes)
    share = report(outcomes, (time.monotonic() - begun) / 60)
    return int(share < arguments.least)


if __name__ == "__main__":
    sys.exit(main())
