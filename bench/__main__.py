"""`python -m bench [--only PART] [--runs N]`: measure, print a table, write the results; status 1 if a part failed."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import logging
import signal
import sys
import tempfile
from pathlib import Path

from bench.part import Bench, progress
from bench.results import Samples, load, merge, print_table, save

PARTS = ("normalise", "latency", "lake", "alarms", "growth", "connectors", "workers", "ceiling", "steps", "queries")
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Measure what the command line asks for."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is ended
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls a deleted topic an error
    samples = Samples()
    for part in [arguments.only] if arguments.only else PARTS:
        _measure(part, arguments, samples)
    figures = merge([], samples.figures())
    print_table(figures)
    if arguments.out is not None:
        save(arguments.out, merge(load(arguments.out), figures))
        print(f"written to {arguments.out}")
    for failure in samples.failures:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if samples.failures else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures fleetlake and its peers.")
    parser.add_argument("--only", choices=PARTS, help="one part; default all")
    parser.add_argument("--runs", type=int, default=3, help="runs of each system (default 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="so much of the records, for a trial (not recorded)")
    parser.add_argument(
        "--readings", type=int, default=10_000_000, help="size of the lake of part queries (default 10 million)"
    )
    parser.add_argument("--lake", type=Path, default=None, help="keep that lake in this folder, or take what is there")
    parser.add_argument("--out", type=Path, default=None, help=f"results file (default {RESULTS.name} beside this)")
    arguments = parser.parse_args()
    if arguments.out is None and arguments.scale == 1.0:
        arguments.out = RESULTS
    return arguments


def _measure(name: str, arguments: argparse.Namespace, samples: Samples) -> None:
    """One part; whatever it raises is noted, so that the others go on."""
    progress(f"{name}: begins")
    with tempfile.TemporaryDirectory(prefix=f"bench-{name}-", ignore_cleanup_errors=True) as folder:
        try:
            bench = Bench(arguments.runs, Path(folder), arguments.scale, arguments.readings, arguments.lake)
            part = importlib.import_module(f"bench.{name}")
            asyncio.run(part.run(bench, samples))
        except Exception as error:
            samples.failed(name, "all", repr(error))
    gc.collect()
    progress(f"{name}: done")


if __name__ == "__main__":
    sys.exit(main())
