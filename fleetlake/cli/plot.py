"""`fleetlake plot`: a query's numbers over time, in the terminal or as a picture."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from fleetlake.errors import UserError
from fleetlake.session import Answer

MOST_SERIES = 10
POINTS = 2_000
PICTURES = (".png", ".svg", ".pdf")
_EXAMPLE = "e.g. SELECT bucket, device_id, mean FROM readings_1h WHERE metric = 'battery.level'"
_MARKERS = ("braille", "x", "o", "*", "+", "#", "@", "%", "=", "~")


@dataclass
class Series:
    """One line: epoch seconds and values, in order of time."""

    label: str
    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


def series_of(answer: Answer) -> list[Series]:
    """The lines a query's answer holds: its first time against each of its numbers, one line for each text.

    UserError unless there is a time and a number.
    """
    times = [i for i, kind in enumerate(answer.types) if kind.startswith("TIMESTAMP") or kind == "DATE"]
    numbers = [i for i, kind in enumerate(answer.types) if kind.startswith(_NUMBERS)]
    texts = [i for i, kind in enumerate(answer.types) if kind == "VARCHAR"]
    if not times or not numbers:
        columns = ", ".join(f"{n} {t}" for n, t in zip(answer.names, answer.types, strict=True)) or "nothing"
        raise UserError(
            f"a plot needs a column with a time and one with a number, {_EXAMPLE}\nThe query returns {columns}"
        )
    found_series: dict[tuple[str, ...], Series] = {}
    for row in answer.rows():
        words = tuple(str(row[i]) for i in texts)
        for i in numbers:
            if row[i] is None or row[times[0]] is None or not math.isfinite(value := float(row[i])):
                continue
            name = (*words, answer.names[i]) if len(numbers) > 1 or not words else words
            one = found_series.setdefault(name, Series(" ".join(name)))
            one.times.append(_epoch(row[times[0]]))
            one.values.append(value)
    return [_ordered(one) for one in found_series.values()]


def thinned(one: Series, most: int = POINTS) -> Series:
    """At most about so many points, with the least and the greatest of each stretch of time: peaks stay."""
    if len(one.times) <= most:
        return one
    start, width = one.times[0], (one.times[-1] - one.times[0]) * 2 / most or 1.0
    stretches: dict[int, list[int]] = {}
    for index, at in enumerate(one.times):
        stretches.setdefault(int((at - start) / width), []).append(index)
    kept = sorted({pick(indices, key=one.values.__getitem__) for indices in stretches.values() for pick in (min, max)})
    return Series(one.label, [one.times[i] for i in kept], [one.values[i] for i in kept])


def draw(lines: Sequence[Series], title: str, width: int | None = None, height: int | None = None) -> str:
    """The plot as text for a terminal. Lines differ by colour, or by mark where there is no terminal."""
    import plotext

    columns, rows = shutil.get_terminal_size((100, 30))
    plotext.clear_figure()
    plotext.theme("pro" if sys.stdout.isatty() else "clear")
    plotext.plotsize(width or min(columns, 160), height or max(10, min(rows - 4, 28)))
    if title:
        plotext.title(title)
    for index, one in enumerate(map(thinned, lines)):
        marker = "braille" if sys.stdout.isatty() else _MARKERS[index % len(_MARKERS)]
        plotext.plot(one.times, one.values, label=one.label if len(lines) > 1 else None, marker=marker)
    ticks = ticks_of([at for one in lines for at in one.times])
    plotext.xticks([at for at, _ in ticks], [word for _, word in ticks])
    if len(lines) == 1:
        plotext.ylabel(lines[0].label)
    text: str = plotext.build()
    return text if sys.stdout.isatty() else plotext.uncolorize(text)


def save(lines: Sequence[Series], title: str, path: Path, width: float = 10, height: float = 5) -> None:
    """The plot as a picture, by the name's ending; width and height in inches. UserError where that cannot be."""
    if path.suffix not in PICTURES:
        raise UserError(f"cannot draw {path}: its name has to end in {', '.join(PICTURES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            f"drawing {path.suffix} needs matplotlib, which is not installed: "
            f"`{sys.executable} -m pip install matplotlib`. Without --output the plot is drawn here."
        ) from error
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    for one in map(thinned, lines):
        axes.plot([at / 86_400 for at in one.times], one.values, label=one.label, linewidth=1.2)
    axes.xaxis_date()  # days since 1970
    axes.set_title(title)
    axes.set_xlabel("UTC")
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize="small")
    else:
        axes.set_ylabel(lines[0].label)
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def plot(answer: Answer | None, title: str, output: Path | None, width: int | None, height: int | None) -> None:
    """Draw an answer in the terminal, or to a file. UserError if it holds no line."""
    lines = series_of(answer) if answer else []
    if not lines:
        raise UserError("the query returns no row to plot")
    if len(lines) > MOST_SERIES:
        print(f"{MOST_SERIES} of {len(lines)} lines are drawn; choose with WHERE", file=sys.stderr)
        lines = lines[:MOST_SERIES]
    if output:
        save(lines, title, output)
    else:
        print(draw(lines, title, width, height))


_NUMBERS = ("DOUBLE", "FLOAT", "DECIMAL", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "U")


def ticks_of(times: Iterable[float], count: int = 5) -> list[tuple[float, str]]:
    """Evenly spaced times with words as precise as the span needs, UTC."""
    every = list(times)
    first, last = min(every), max(every)
    span = last - first
    form = (
        "%H:%M:%S" if span < 600 else "%H:%M" if span < 86_400 else "%d %b %H:%M" if span < 5 * 86_400 else "%Y-%m-%d"
    )
    steps = count if span else 1
    return [
        (at, datetime.fromtimestamp(at, UTC).strftime(form))
        for at in (first + span * step / max(1, steps - 1) for step in range(steps))
    ]


def _ordered(one: Series) -> Series:
    order = sorted(range(len(one.times)), key=one.times.__getitem__)
    return Series(one.label, [one.times[i] for i in order], [one.values[i] for i in order])


def _epoch(value: Any) -> float:
    moment = (
        value if isinstance(value, datetime) else datetime.combine(value, time()) if isinstance(value, date) else None
    )
    if moment is None:
        raise UserError(f"{value!r} is not a time")
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
