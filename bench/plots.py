"""`python -m bench.plots`: the plots of docs/performance.md, drawn from bench/results.json."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot

from bench.results import OURS, OURS_TWICE, Figure, load, ratio, shown

RESULTS = Path(__file__).with_name("results.json")
FOLDER = Path(__file__).parents[1] / "docs" / "performance"
_OURS, _THEIRS = "#0b6e99", "#b8bec4"


def main() -> int:
    """Draw every plot whose figures are there."""
    pyplot.rcParams["svg.hashsalt"] = "fleetlake"  # the same results give the same file
    figures = load(RESULTS)
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "figures.md").write_text(tables(figures), encoding="utf-8")
    for name, draw in PLOTS.items():
        if draw(figures, FOLDER / f"{name}.svg"):
            print(f"docs/performance/{name}.svg")
    return 0


def tables(figures: Sequence[Figure]) -> str:
    """Every figure, a section for each part."""
    lines = ["# All figures", "", "Written by `make bench-plots` from `bench/results.json`; [how](../performance.md)."]
    for bench in dict.fromkeys(f.bench for f in figures):
        lines += ["", f"## {bench}", "", "| metric | system | median | min | max | ratio | runs |"]
        lines.append("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for f in (f for f in figures if f.bench == bench):
            compared = ratio(f, figures)
            numbers = " | ".join(shown(value) for value in (f.median, f.min, f.max))
            times = "" if compared is None else f"{compared:.2f}×"
            lines.append(f"| `{f.metric}` | {f.system} | {numbers} | {times} | {f.runs} |")
    lines += ["", "Ratio: over the best peer in *normalise*, over the first system elsewhere."]
    return "\n".join(lines) + "\n"


def _of(figures: Sequence[Figure], bench: str, metric: str) -> list[Figure]:
    return [f for f in figures if (f.bench, f.metric) == (bench, metric)]


def _save(drawing: Any, path: Path) -> bool:
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)
    return True


def _bars(axes: Any, figures: Sequence[Figure], title: str, scale: float = 1.0) -> None:
    """One bar a system, least and most as whiskers."""
    figures = sorted(figures, key=lambda f: f.median)
    medians = [f.median / scale for f in figures]
    errors = [[(f.median - f.min) / scale for f in figures], [(f.max - f.median) / scale for f in figures]]
    colours = [_OURS if f.system in (OURS, OURS_TWICE) else _THEIRS for f in figures]
    bars = axes.barh([f.system for f in figures], medians, xerr=errors, color=colours, ecolor="#555555", capsize=3)
    axes.bar_label(bars, labels=[f"{value:,.0f}" for value in medians], padding=6, fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.2)
    axes.spines[["top", "right"]].set_visible(False)


def _job(figures: Sequence[Figure], path: Path) -> bool:
    metrics = {
        "records_per_second": ("records per second", 1.0),
        "records_per_cpu_second": ("records per CPU second", 1.0),
        "peak_rss_bytes": ("peak memory, MiB", float(1 << 20)),
    }
    if not _of(figures, "normalise", "records_per_second"):
        return False
    drawing, axes = pyplot.subplots(1, 3, figsize=(11, 2.8))
    for axis, (metric, (title, scale)) in zip(axes, metrics.items(), strict=True):
        _bars(axis, _of(figures, "normalise", metric), title, scale)
    return _save(drawing, path)


def _ceilings(figures: Sequence[Figure], path: Path) -> bool:
    metric = "records_per_cpu_second"
    ours = [f for f in _of(figures, "normalise", metric) if f.system == OURS]
    selected = [*ours, *_of(figures, "ceiling", metric)]
    if len(selected) < 2:
        return False
    drawing, axis = pyplot.subplots(figsize=(7, 2.2))
    _bars(axis, selected, "records per CPU second: the job, and what the client alone can do")
    return _save(drawing, path)


def _growth(figures: Sequence[Figure], path: Path) -> bool:
    selected = _of(figures, "growth", "cpu_us_per_reading")
    if not selected:
        return False
    drawing, axes = pyplot.subplots(1, 2, figsize=(9, 2.8), sharey=True)
    points = [(*_point(f.system), f) for f in selected]
    by_devices = sorted((devices, f) for devices, rate, f in points if rate == 1000)
    by_rate = sorted((rate, f) for devices, rate, f in points if devices == 1000)
    for axis, chosen, label in (
        (axes[0], by_devices, "devices, 1,000 messages/s"),
        (axes[1], by_rate, "messages/s, 1,000 devices"),
    ):
        x = [at for at, _ in chosen]
        median = [f.median for _, f in chosen]
        errors = [[f.median - f.min for _, f in chosen], [f.max - f.median for _, f in chosen]]
        axis.errorbar(x, median, yerr=errors, color=_OURS, marker="o", capsize=3)
        axis.set_xscale("log")
        axis.set_xlabel(label)
        axis.set_ylim(bottom=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("CPU µs per reading")
    return _save(drawing, path)


def _point(system: str) -> tuple[int, int]:
    """`1000 devices, 500/s` as numbers."""
    devices, rate = system.split(" devices, ")
    return int(devices), int(rate.removesuffix("/s"))


def _alarms(figures: Sequence[Figure], path: Path) -> bool:
    selected = _of(figures, "alarms", "cpu_us_per_reading")
    if not selected:
        return False
    drawing, axis = pyplot.subplots(figsize=(7, 2.2))
    _bars(axis, selected, "CPU µs per reading, by alarm rules")
    return _save(drawing, path)


PLOTS: dict[str, Callable[[Sequence[Figure], Path], bool]] = {
    "job": _job,
    "ceilings": _ceilings,
    "growth": _growth,
    "alarms": _alarms,
}

if __name__ == "__main__":
    sys.exit(main())
