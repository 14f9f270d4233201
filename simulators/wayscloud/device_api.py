"""WAYSCloud's REST for devices: registry, health, tags, stored telemetry."""

from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from simulators.net import Clock
from simulators.settings import SimulatorSettings
from simulators.wayscloud import payloads
from simulators.wayscloud.account import Account
from simulators.wayscloud.answers import Handler, Paging, moment, not_found, problem
from simulators.wayscloud.payloads import Sensor
from simulators.wayscloud.store import TelemetryStore

TELEMETRY_STEP = 60.0
"""Seconds between two stored values of a device's telemetry (assumed)."""


class DeviceApi:
    """Answers requests about devices. Without a store, telemetry is made up, one value per minute."""

    def __init__(
        self, account: Account, settings: SimulatorSettings, clock: Clock, store: TelemetryStore | None
    ) -> None:
        self._account = account
        self._clock = clock
        self._store = store
        self._history_seconds = settings.history_seconds
        self._paging = Paging("devices", has_more=True, flaw=settings.wayscloud.paging)

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Method, path and handler of each operation."""
        yield "GET", "/devices", self._list
        yield "GET", "/devices/{device}", self._of_device(self._device)
        yield "GET", "/devices/{device}/health", self._of_device(payloads.health)
        yield "GET", "/devices/{device}/tags", self._of_device(self._tags)
        yield "POST", "/devices/{device}/tags", self._add_tags
        yield "DELETE", "/devices/{device}/tags/{tag}", self._remove_tag
        yield "GET", "/devices/{device}/telemetry", self._telemetry
        yield "GET", "/devices/{device}/telemetry/latest", self._of_device(payloads.telemetry)

    def _of_device(self, answer: Callable[[Sensor, float], object]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            sensor = self._account.sensors.get(request.match_info["device"])
            return web.json_response(answer(sensor, self._clock())) if sensor else not_found()

        return handler

    def _device(self, sensor: Sensor, now: float) -> dict[str, Any]:
        details = payloads.device(sensor, now, self._account.tags[sensor.device_id])
        return {k: v for k, v in details.items() if k != "tags"} if self._account.details_without_tags else details

    def _tags(self, sensor: Sensor, now: float) -> dict[str, Any]:
        return {"tags": self._account.tags[sensor.device_id]}

    async def _list(self, request: web.Request) -> web.Response:
        now = self._clock()
        return self._paging.answer(request, [payloads.brief(each, now) for each in self._account.sensors.values()])

    async def _add_tags(self, request: web.Request) -> web.Response:
        tags = self._account.tags.get(request.match_info["device"])
        if tags is None:
            return not_found()
        try:
            given = await request.json()
        except ValueError:
            given = None
        if not isinstance(given, list) or not all(isinstance(tag, str) for tag in given):
            return problem(422, "a list of tags is required")
        added = [tag for tag in given if tag not in tags]
        tags.extend(added)
        return web.json_response({"added": added})

    async def _remove_tag(self, request: web.Request) -> web.Response:
        tags = self._account.tags.get(request.match_info["device"], [])
        if request.match_info["tag"] not in tags:
            return not_found()
        tags.remove(request.match_info["tag"])
        return web.Response(status=204)

    async def _telemetry(self, request: web.Request) -> web.Response:
        sensor = self._account.sensors.get(request.match_info["device"])
        if sensor is None:
            return not_found()
        now, query = self._clock(), request.query
        earliest = now - self._history_seconds
        try:
            start = max(earliest, moment(query["start"]) if "start" in query else now - 10 * TELEMETRY_STEP)
            end = min(now, moment(query["end"]) if "end" in query else now)
        except ValueError:
            return problem(422, "start and end are date-times")
        rows = self._rows(sensor, start, end)
        wanted = query.get("datapoint")
        return web.json_response([row for row in rows if wanted in (None, row["name"], row["datapoint_id"])])

    def _rows(self, sensor: Sensor, start: float, end: float) -> list[dict[str, Any]]:
        if self._store is not None:
            return self._store.rows(sensor.device_id, start, end)
        first, last = int(-(-start // TELEMETRY_STEP)), int(end // TELEMETRY_STEP)
        return [row for step in range(first, last + 1) for row in payloads.telemetry(sensor, step * TELEMETRY_STEP)]
