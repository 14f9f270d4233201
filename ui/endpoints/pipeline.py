"""The page «Pipeline»: stages, rates, lag, ages, dead letters, gaps, and what the doctor says."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from typing import Any

import duckdb
from aiohttp import web

from ui import queries
from ui.answers import json_response
from ui.backend import Backend
from ui.live.stream import LiveStream
from ui.tables import NothingPublished

_AGE_SECONDS = 60.0
_EXAMINE_SECONDS = 60.0
_EXAMINE_WRONG_SECONDS = 10.0


class PipelineEndpoints:
    """The pipeline, as its stages, its topics and its tables tell."""

    def __init__(self, backend: Backend, stream: LiveStream) -> None:
        self._backend, self._stream = backend, stream
        self._examine = backend.tools.examine
        self._examining = asyncio.Lock()
        self._examined_at = -_EXAMINE_SECONDS
        self._findings: list[dict[str, str]] = []

    async def pipeline(self, request: web.Request) -> web.Response:
        """Everything that the page shows."""
        try:
            stored = await self._backend.tables.kept("pipeline", _stored)
        except NothingPublished:
            stored = {"tables": [], "dead_letters": [], "gaps": [], "not_listened": []}
        content = {
            "state": self._stream.state(),
            "stages": await self._backend.stages.read(),
            **self._ages(),
            **stored,
        }
        return await json_response(request, content)

    async def doctor(self, request: web.Request) -> web.Response:
        """What `fleetlake doctor` says, examined once for all viewers: per minute, sooner while something is wrong."""
        async with self._examining:
            is_well = all(finding["verdict"] != "WRONG" for finding in self._findings)
            if time.monotonic() - self._examined_at >= (_EXAMINE_SECONDS if is_well else _EXAMINE_WRONG_SECONDS):
                self._findings = await asyncio.to_thread(self._examine)
                self._examined_at = time.monotonic()
        age = time.monotonic() - self._examined_at
        return await json_response(request, {"findings": self._findings, "seconds_ago": age})

    def _ages(self) -> dict[str, Any]:
        """How many observations came in the last minute, and how old they were since receipt, in seconds."""
        since = time.monotonic() - _AGE_SECONDS
        ages = [age for at, age in self._backend.reader.ages if at >= since]
        cuts = statistics.quantiles(ages, n=20) if len(ages) > 1 else [0.0] * 19
        return {"observations": len(ages), "age_p50": cuts[9], "age_p95": cuts[18]}


def _stored(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, query in (
        ("tables", queries.PUBLISHED),
        ("dead_letters", queries.DEAD_LETTER_REASONS),
        ("gaps", queries.GAPS),
        ("not_listened", queries.NOT_LISTENED),
    ):
        result = connection.execute(query)
        names = [column[0] for column in result.description or []]
        content[name] = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    for gap in content["gaps"]:
        gap["data"] = json.loads(gap["data"]) if gap["data"] else None
    return content
