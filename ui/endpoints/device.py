"""The page «Device»: its values, charts, timeline, raw messages, dead letters and downloads."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
from aiohttp import web

from ui import queries
from ui.answers import RequestRefused, json_response, needed, number
from ui.backend import Backend
from ui.live.raw import read_raw

_DAY_MS = 86_400_000
_LONGEST_MS = 5 * 366 * _DAY_MS
_MOST_METRICS = 12
_MOST_ENTRIES = 200
_CHUNK = 256 * 1024
_FORMATS = {
    "csv": ("FORMAT csv, HEADER true", "text/csv; charset=utf-8"),
    "parquet": ("FORMAT parquet, COMPRESSION zstd", "application/vnd.apache.parquet"),
}


class DeviceEndpoints:
    """One device."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def device(self, request: web.Request) -> web.Response:
        """What is known of a device, and its latest values. 404 where nobody has heard of it."""
        device = needed(request, "id")
        tables = self._backend.tables
        rows, latest = await asyncio.gather(
            tables.rows(queries.DEVICE, [device]), tables.rows(queries.LATEST, [device])
        )
        if not rows:
            raise RequestRefused(404, "not_found", f"No device {device!r} is in the published tables")
        for reading in latest:
            reading["value"] = json.loads(reading["value"]) if reading["value"] is not None else None
        content = rows[0] | {"attributes": _json(rows[0]["attributes"]), "latest": latest}
        return await json_response(request, content)

    async def series(self, request: web.Request) -> web.Response:
        """Numbers of up to twelve metrics over a range of time: single readings, or the roll-up that fits."""
        device, (since, until) = needed(request, "id"), _range(request)
        metrics = request.query.getall("metric", [])[:_MOST_METRICS]
        values = {"device": device, "metrics": metrics, "since": since, "until": until}
        width, rows = await self._backend.tables.use(partial(_series, values))
        content: dict[str, dict[str, Any]] = {}
        for metric, at, least, most, mean, unit in rows:
            one = content.setdefault(metric, {"unit": unit, "at": [], "min": [], "max": [], "mean": []})
            for name, value in (("at", at), ("min", least), ("max", most), ("mean", mean)):
                one[name].append(value)
        return await json_response(request, {"width": width, "series": content})

    async def timeline(self, request: web.Request) -> web.Response:
        """Events and alarm events of a device, latest first."""
        values = {
            "device": needed(request, "id"),
            "before": int(number(request, "before", time.time() * 1000 + _DAY_MS)),
            "most": _MOST_ENTRIES,
        }

        def read(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
            result = connection.execute(queries.TIMELINE, values)
            names = [column[0] for column in result.description or []]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

        return await json_response(request, await self._backend.tables.use(read))

    async def raw(self, request: web.Request) -> web.Response:
        """The raw messages that the latest readings were made of, as far as Kafka still holds them."""
        origins = await self._backend.tables.rows(queries.ORIGINS, [needed(request, "id")])
        return await json_response(request, await read_raw(self._backend.reader.client(), origins))

    async def dead_letters(self, request: web.Request) -> web.Response:
        """The latest dead letters of a device."""
        rows = await self._backend.tables.rows(queries.DEAD_LETTERS, [needed(request, "id")])
        return await json_response(request, [row | {"problems": _json(row["problems"])} for row in rows])

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The readings of a range of time as CSV or Parquet."""
        device, (since, until) = needed(request, "id"), _range(request)
        form = request.query.get("format", "csv")
        if form not in _FORMATS:
            raise RequestRefused(400, "invalid_request", f"format: must be one of {', '.join(_FORMATS)}")
        options, content_type = _FORMATS[form]
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", device)
        response = web.StreamResponse(
            headers={
                "Content-Type": content_type,
                "Content-Disposition": f'attachment; filename="{name}.{form}"',
                "Cache-Control": "no-store",
            }
        )
        with tempfile.TemporaryDirectory(prefix="fleetlake-ui-") as folder:
            path = Path(folder) / f"download.{form}"
            values = {"device": device, "since": since, "until": until}
            await self._backend.tables.use(partial(_copy, path, options, values))
            await response.prepare(request)
            with path.open("rb") as file:
                while chunk := await asyncio.to_thread(file.read, _CHUNK):
                    await response.write(chunk)
        return response


def _copy(path: Path, options: str, values: dict[str, Any], connection: duckdb.DuckDBPyConnection) -> None:
    to = str(path).replace("'", "''")
    connection.execute(f"COPY ({queries.DOWNLOAD}) TO '{to}' ({options})", values)


def _range(request: web.Request) -> tuple[int, int]:
    now = time.time() * 1000
    until = int(number(request, "until", now))
    since = int(number(request, "since", until - _DAY_MS))
    if not 0 < until - since <= _LONGEST_MS:
        raise RequestRefused(400, "invalid_request", "since: must be before until, by at most five years")
    return since, until


def _series(
    values: dict[str, Any], connection: duckdb.DuckDBPyConnection
) -> tuple[int, list[tuple[str, int, float, float, float, str | None]]]:
    beginnings = dict(connection.execute(queries.BEGINNINGS, {"device": values["device"]}).fetchall())
    chosen = queries.series(values["since"], values["until"], beginnings)
    return chosen.width, connection.execute(chosen.query, values).fetchall()


def _json(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return text
