"""Figures: collecting samples, their medians, the results file and the table."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

OURS = "fleetlake"
OURS_TWICE = "fleetlake-2-workers"


@dataclass(frozen=True)
class Figure:
    """One line of the results file: a metric of a system in a part, over all runs."""

    bench: str
    system: str
    metric: str
    median: float
    min: float
    max: float
    runs: int


@dataclass
class Samples:
    """What was measured in one invocation, and what failed."""

    values: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def add(self, bench: str, system: str, **metrics: float) -> None:
        """Add one run's values, by metric."""
        for metric, value in metrics.items():
            self.values.setdefault((bench, system, metric), []).append(float(value))

    def failed(self, bench: str, system: str, reason: object) -> None:
        """Note that something could not be measured, or gave wrong results."""
        self.failures.append(f"{bench}, {system}: {reason}")

    def figures(self) -> list[Figure]:
        """Median, least and most of each metric."""
        return [
            Figure(*name, statistics.median(values), min(values), max(values), len(values))
            for name, values in self.values.items()
        ]


def merge(before: Iterable[Figure], now: Sequence[Figure]) -> list[Figure]:
    """What was known, with the parts measured now in place of what it had of them."""
    parts = {figure.bench for figure in now}
    return sorted([*(f for f in before if f.bench not in parts), *now], key=lambda f: (f.bench, f.metric, f.system))


def load(path: Path) -> list[Figure]:
    """The figures of a results file; none where there is no file. TypeError or ValueError if it has another shape."""
    if not path.exists():
        return []
    items = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a list")
    return [Figure(**item) for item in items]


def save(path: Path, figures: Sequence[Figure]) -> None:
    """Write a results file: a list of objects, one a line."""
    lines = [json.dumps(asdict(figure)) for figure in figures]
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def ratio(figure: Figure, figures: Iterable[Figure]) -> float | None:
    """The figure over the best peer's (where fleetlake is among the systems), else over the first system's."""
    same = [f for f in figures if (f.bench, f.metric) == (figure.bench, figure.metric)]
    peers = [f for f in same if f.system not in (OURS, OURS_TWICE)]
    if len(same) < 2:
        return None
    best = min if figure.metric.endswith(("_bytes", "_seconds", "_ms", "_us")) else max
    base = best(peers, key=lambda f: f.median) if len(peers) < len(same) else same[0]
    return figure.median / base.median if base.median else None


def print_table(figures: Sequence[Figure], console: Console | None = None) -> None:
    """Print figures with ratios."""
    table = Table("bench", "metric", "system", header_style="bold")
    for name in ("median", "min", "max", "ratio", "runs"):
        table.add_column(name, justify="right")
    last = ("", "")
    for f in figures:
        compared = ratio(f, figures)
        first = (f.bench, f.metric) if (f.bench, f.metric) != last else ("", "")
        last = (f.bench, f.metric)
        numbers = [shown(value) for value in (f.median, f.min, f.max)]
        table.add_row(*first, f.system, *numbers, "" if compared is None else f"{compared:.2f}×", str(f.runs))
    (console or Console(width=150)).print(table)


def shown(value: float) -> str:
    """A figure as people read it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"
