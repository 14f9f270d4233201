"""The pages «Fleet» and «Map»: all devices at once."""

from __future__ import annotations

from typing import Any

import duckdb
import msgspec
from aiohttp import web

from ui import queries
from ui.answers import body_response, json_bytes, json_response
from ui.backend import Backend


class FleetEndpoints:
    """All devices, and the trails of those that move."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def fleet(self, request: web.Request) -> web.Response:
        """All devices with what the page shows of each. Encoded once per published file."""
        return await body_response(request, await self._backend.tables.kept("fleet", self._encoded_fleet))

    async def trails(self, request: web.Request) -> web.Response:
        """The positions of the last minutes, by device."""
        rows = await self._backend.tables.rows(queries.TRAILS)
        return await json_response(request, {row["device_id"]: row["points"] for row in rows})

    def _encoded_fleet(self, connection: duckdb.DuckDBPyConnection) -> bytes:
        result = connection.execute(queries.FLEET)
        names = [column[0] for column in result.description or []]
        devices = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        member_of = self._groups()
        for device in devices:
            device["metrics"] = msgspec.Raw(device["metrics"].encode()) if device["metrics"] else {}
            device["groups"] = member_of.get(device["device_id"], [])
        [published] = connection.execute("SELECT epoch_ms(max(published_at)) FROM published").fetchall()
        content: dict[str, Any] = {
            "devices": devices,
            "published": published[0],
            "online_ms": self._backend.settings.online_seconds * 1000,
        }
        return json_bytes(content)

    def _groups(self) -> dict[str, list[str]]:
        member_of: dict[str, list[str]] = {}
        for group, devices in self._backend.groups.items():
            for device in devices:
                member_of.setdefault(device, []).append(group)
        return member_of
