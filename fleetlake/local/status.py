"""The live status: the stages' metrics as a table or as one plain line. Pure, except for the rendering."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Group
from rich.table import Table
from rich.text import Text

from runtime.metrics import Sample
from schemas.vendors import vendors

STAGES = (("connect", "in"), ("normalise", "normalised"), ("delta", "lake"))
"""The stages whose records are counted by vendor, with the heading of the column of its rate."""

_WIDE = 110
"""Columns of a terminal that shows the rate of every stage."""

_RATE_WINDOW = 5.0
_LATE_SECONDS = 1.0

Totals = dict[tuple[str, str, str], float]


def _total(samples: Iterable[Sample], name: str) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = {}
    for sample_name, labels, value in samples:
        if sample_name == name:
            key = (labels.get("stage", ""), labels.get("vendor", labels.get("topic", "")))
            sums[key] = sums.get(key, 0.0) + value
    return sums


@dataclass
class StatusModel:
    """Turns successive metric samples into rates and totals."""

    vendors: tuple[str, ...]
    history: deque[tuple[float, dict[tuple[str, str], float]]] = field(default_factory=deque)
    samples: list[Sample] = field(default_factory=list)

    def update(self, now: float, samples: list[Sample]) -> None:
        """Take the samples read at `now` (seconds on any steady clock)."""
        self.samples = samples
        self.history.append((now, _total(samples, "fleetlake_records_out_total")))
        while len(self.history) > 2 and now - self.history[1][0] >= _RATE_WINDOW:
            self.history.popleft()

    def rate(self, stage: str, vendor: str) -> float:
        """Records per second over the last few seconds; 0 until there are two samples."""
        if len(self.history) < 2:
            return 0.0
        (then, before), (now, after) = self.history[0], self.history[-1]
        gained = after.get((stage, vendor), 0.0) - before.get((stage, vendor), 0.0)
        return max(0.0, gained) / (now - then) if now > then else 0.0  # a restarted stage counts from 0

    def total(self, stage: str, vendor: str) -> int:
        """Records since the pipeline started."""
        return int(self.history[-1][1].get((stage, vendor), 0.0)) if self.history else 0

    def readings(self, vendor: str) -> int:
        """Rows written to the lake's `readings`."""
        return int(_total(self.samples, "fleetlake_readings_out_total").get(("delta", vendor), 0.0))

    def dead_letters(self, vendor: str) -> int:
        """Dead letters of all stages."""
        counts = _total(self.samples, "fleetlake_dead_letters_total")
        return int(sum(value for (_, v), value in counts.items() if v == vendor))

    def connections(self, vendor: str) -> int:
        """Open connections, or devices that sent something lately."""
        return int(
            sum(v for n, labels, v in self.samples if n == "fleetlake_connections" and labels.get("vendor") == vendor)
        )

    def lag(self) -> dict[str, int]:
        """Records waiting, by stage."""
        waiting: dict[str, int] = {}
        for (stage, _), value in _total(self.samples, "fleetlake_lag_records").items():
            waiting[stage] = waiting.get(stage, 0) + int(value)
        return waiting

    def late(self) -> list[str]:
        """The stages whose event loop runs late, each with its delay."""
        lags = _total(self.samples, "fleetlake_event_loop_lag_seconds")
        return [f"{s} ({lag:.1f} s late)" for (s, _), lag in sorted(lags.items()) if lag > _LATE_SECONDS]

    def open_alarms(self) -> int:
        """Number of alarms that are active or acknowledged, as published."""
        return int(sum(_total(self.samples, "fleetlake_open_alarms").values()))


def plain_line(model: StatusModel, elapsed: float, down: list[str]) -> str:
    """The status as one line, for logs and pipes."""
    by_vendor = " · ".join(
        f"{v} {model.rate('connect', v):.0f}/s {model.total('connect', v)} in, {model.readings(v)} rows"
        for v in model.vendors
    )
    lag = " ".join(f"{stage} {count}" for stage, count in sorted(model.lag().items())) or "–"
    dead = sum(model.dead_letters(v) for v in model.vendors)
    tail = f" | not ready: {', '.join(down)}" if down else ""
    return f"{elapsed:5.0f} s | {by_vendor} | lag {lag} | open alarms {model.open_alarms()} | dead letters {dead}{tail}"


def render(model: StatusModel, elapsed: float, down: list[str], title: str, width: int = 80) -> Group:
    """The status as a table for a terminal of this many columns: numbers and names whole from 80 on."""
    shown = STAGES if width >= _WIDE else STAGES[:1]
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=False)
    table.add_column("vendor", overflow="fold")
    for heading in ("connected", *(f"{label}/s" for _, label in shown), "received", "in lake", "readings", "dead"):
        table.add_column(heading, justify="right", no_wrap=True)
    for vendor in model.vendors:
        rates = [count_text(round(model.rate(stage, vendor))) for stage, _ in shown]
        counts = (model.total("connect", vendor), model.total("delta", vendor), model.readings(vendor))
        dead = model.dead_letters(vendor)
        cells = [vendor, f"{count_text(model.connections(vendor))} {_connections_word(vendor)}", *rates]
        table.add_row(*map(Text, [*cells, *map(count_text, counts), count_text(dead)]))
    lag = "   ".join(f"{stage} {count:,}" for stage, count in sorted(model.lag().items())) or "–"
    open_alarms = model.open_alarms()
    lines = [
        Text(f"records that wait: {lag}"),
        Text(f"open alarms: {open_alarms:,}", style="bold red" if open_alarms else ""),
        Text(f"running for {elapsed:.0f} s", style="dim"),
    ]
    if down:
        lines.append(Text(f"not ready: {', '.join(down)}", style="yellow"))
    return Group(Text(title, style="italic"), table, *lines)


def count_text(count: int) -> str:
    """A count in at most nine characters: whole below ten millions, then in millions or thousands of millions."""
    if count < 10_000_000:
        return f"{count:,}"
    return f"{count / 1e6:,.1f}M" if count < 10_000_000_000 else f"{count / 1e9:,.1f}G"


def _connections_word(vendor: str) -> str:
    known = vendors()
    return known[vendor].connections if vendor in known else "connections"
