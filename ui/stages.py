"""The stages of a pipeline on this machine, as their own `/metrics` and `/readyz` describe them.

`fleetlake up` writes down where they are. Elsewhere there is no such file, and the page shows what the tables tell.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from runtime.metrics import Sample, parse_samples
from runtime.running import noted_stages

_SECONDS = 2.0
_WINDOW = 10.0
_TIMEOUT = aiohttp.ClientTimeout(total=1.5)


@dataclass
class StageInfo:
    """A stage as it was when it was last asked."""

    name: str
    up: bool = False
    problem: str = ""
    samples: list[Sample] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    history: deque[tuple[float, float, float]] = field(default_factory=deque)
    """Time, records in, records out."""

    def rates(self) -> tuple[float, float] | tuple[None, None]:
        """Records in and out, per second, over the last seconds; None until there are two samples."""
        if len(self.history) < 2:
            return None, None
        (then, in_then, out_then), (now, in_now, out_now) = self.history[0], self.history[-1]
        seconds = max(now - then, 0.001)
        return max(0.0, in_now - in_then) / seconds, max(0.0, out_now - out_then) / seconds


class Stages:
    """Asks the stages every two seconds, as long as somebody looks."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._known: dict[str, StageInfo] = {}
        self._asked = 0.0
        self._asking = asyncio.Lock()

    async def read(self) -> list[dict[str, Any]]:
        """The stages, each with its rates, lag, and what it says of itself; empty where no pipeline runs here."""
        async with self._asking:
            if time.monotonic() - self._asked >= _SECONDS:
                await self._ask_all()
                self._asked = time.monotonic()
        return [_fields(one) for one in self._known.values()]

    async def _ask_all(self) -> None:
        noted = noted_stages(self._data)
        urls = {name: noted.health_url(name) for name in noted.ports} if noted else {}
        self._known = {name: self._known.get(name) or StageInfo(name) for name in urls}
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            await asyncio.gather(*(_ask(session, self._known[name], url) for name, url in urls.items()))


async def _ask(session: aiohttp.ClientSession, stage: StageInfo, base: str) -> None:
    try:
        async with session.get(f"{base}/readyz") as answer:
            text = (await answer.text()).strip()
            stage.up, stage.problem = answer.status == 200, "" if answer.status == 200 else text[:500]
        async with session.get(f"{base}/metrics") as answer:
            stage.samples = parse_samples(await answer.text())
        async with session.get(f"{base}/details") as answer:
            stage.details = await answer.json() if answer.status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, OSError):
        stage.up, stage.problem = False, "it does not answer"
        return
    now = time.monotonic()
    stage.history.append((now, _sum(stage, "fleetlake_records_in_total"), _sum(stage, "fleetlake_records_out_total")))
    while len(stage.history) > 2 and now - stage.history[1][0] >= _WINDOW:
        stage.history.popleft()


def _sum(stage: StageInfo, name: str) -> float:
    return sum(value for sample, _, value in stage.samples if sample == name)


def _by(stage: StageInfo, name: str, label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for sample, labels, value in stage.samples:
        if sample == name:
            sums[labels.get(label, "")] = sums.get(labels.get(label, ""), 0.0) + value
    return sums


def _fields(stage: StageInfo) -> dict[str, Any]:
    rate_in, rate_out = stage.rates()
    return {
        "name": stage.name,
        "up": stage.up,
        "problem": stage.problem,
        "rate_in": rate_in,
        "rate_out": rate_out,
        "lag": _by(stage, "fleetlake_lag_records", "topic"),
        "connections": _by(stage, "fleetlake_connections", "vendor"),
        "received": _by(stage, "fleetlake_records_in_total", "vendor"),
        "gaps": _by(stage, "fleetlake_connection_gaps_total", "vendor"),
        "dead_letters": _by(stage, "fleetlake_dead_letters_total", "vendor"),
        "connection_states": stage.details.get("connections", []),
        "duplicates": _sum(stage, "fleetlake_duplicates_total"),
    }
