"""Fuzzing: `python -m tests.fuzz --inputs 100000 --minutes 5 --seed 1`; `--only 12345` makes one input again.

Each input goes through every entrance. A finding is an exception, a bug that became a dead letter, a secret that is
shown, or too much CPU time. Exit status 1 where there is one.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache

from schemas import redact
from tests.fuzz.entrances import ENTRANCES, Entrance
from tests.fuzz.inputs import SECRET, Input, make_input

BUG = "internal_error"
_SHOWN = 5
"""Findings of a kind that are printed."""


def budget(length: int) -> float:
    """CPU seconds that one entrance may take for a message of so many bytes."""
    return 0.25 + 5e-5 * length


def finding(entrance: Entrance, given: Input) -> str | None:
    """What is wrong with what an entrance makes of an input; None where nothing is."""
    started = time.perf_counter()
    try:
        outcome = entrance(given.payload)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {place.name} ({place.filename.rpartition('/')[2]}:{place.lineno})"
    if time.perf_counter() - started > budget(len(given.payload)) < _cpu_seconds(entrance, given.payload):
        return "too much CPU time"
    if BUG in outcome.reasons:
        return "a bug became a dead letter"
    if given.hides_a_secret and any(SECRET in text for text in outcome.shown):
        return "a secret is shown"
    return None


def _cpu_seconds(entrance: Entrance, payload: bytes) -> float:
    """CPU time of one more try: on a busy machine, the clock on the wall says little, but asking it is cheap."""
    started = time.process_time()
    entrance(payload)
    return time.process_time() - started


@dataclass
class Run:
    """One run: what was tried, and what was found."""

    seed: int
    tried: int = 0
    findings: Counter[tuple[str, str]] = field(default_factory=Counter)

    def go(self, first: int, inputs: int, seconds: float) -> None:
        """Try so many inputs, or until the time is up."""
        until = time.monotonic() + seconds
        for number in range(first, first + inputs):
            if time.monotonic() > until:
                break
            given = make_input(self.seed, number)
            for name, entrance in ENTRANCES.items():
                self.tried += 1
                if (what := finding(entrance, given)) is not None:
                    self._note(name, what, number)
            if number % 10_000 == 9_999:
                print(f"{self.tried:,} inputs, {self.findings.total()} findings", flush=True)

    def _note(self, entrance: str, what: str, number: int) -> None:
        self.findings[entrance, what] += 1
        if self.findings[entrance, what] <= _SHOWN:
            print(f"{entrance}: {what}; --seed {self.seed} --only {number}", flush=True)


def redact_each_text_once() -> None:
    """Most entrances redact the whole message first, which depends on nothing else: once per message will do."""
    redact._redacted = lru_cache(maxsize=16)(redact._redacted)


def main() -> int:
    """Run the command."""
    redact_each_text_once()
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000_000, help="tried inputs: messages times entrances")
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="the number of one message")
    options = parser.parse_args()
    run = Run(options.seed)
    if options.only is not None:
        print(make_input(options.seed, options.only))
        run.go(options.only, 1, 60)
    else:
        run.go(0, -(-options.inputs // len(ENTRANCES)), options.minutes * 60)
    print(f"{run.tried:,} inputs over {len(ENTRANCES)} entrances, {run.findings.total()} findings")
    for (entrance, what), count in run.findings.most_common():
        print(f"{count:8} {entrance}: {what}")
    return 1 if run.findings else 0


if __name__ == "__main__":
    sys.exit(main())
