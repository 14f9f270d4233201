"""WAYSCloud's REST API on loopback (``wayscloud.txt``). What is written to it is kept in memory."""

import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from simulators.net import Clock
from simulators.settings import SimulatorSettings
from simulators.wayscloud import payloads
from simulators.wayscloud.payloads import Sensor
from simulators.wayscloud.store import Store
from simulators.wire import rfc3339

DEFAULT_PAGE_SIZE, ALARM_PAGE_SIZE, MAX_PAGE_SIZE = 20, 50, 100
TELEMETRY_STEP = 60.0
"""Seconds between two stored values of a device's telemetry (assumed)."""

BRIEF_DATAPOINT = ("id", "name", "label", "unit", "data_type")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, detail: str) -> web.Response:
    """An error; the shape is assumed."""
    return web.json_response({"detail": detail}, status=status)


class WaysCloud:
    """The REST API as an aiohttp application over the given sensors."""

    def __init__(
        self, settings: SimulatorSettings, clock: Clock, sensors: list[Sensor], store: Store | None = None
    ) -> None:
        """``store``: what the sensors have published; without it, telemetry is made up, a value a minute."""
        self._settings, self._clock, self._store = settings, clock, store
        self.requests = 0
        self.paths: list[str] = []
        self._sensors = {sensor.device_id: sensor for sensor in sensors}
        self._tags = {device: ["production", f"floor-{1 + number % 3}"] for number, device in enumerate(self._sensors)}
        self._groups = {group["id"]: group for group in [payloads.group(settings.seed)]}
        self._profiles = {profile["id"]: profile for profile in [payloads.profile(settings.seed)]}
        self._rules = {rule["id"]: rule for rule in payloads.rules(settings.seed)}
        self._datapoints = {each["id"]: each for each in payloads.datapoint_definitions(settings.seed)}
        self._alarms = {alarm["id"]: alarm for alarm in payloads.alarms(settings.seed, sensors, clock())}

    def endpoints(self, host: str, port: int) -> dict[str, str]:
        """The base URL and where the broker is expected."""
        settings = self._settings.wayscloud
        return {
            "wayscloud.rest_url": f"http://{host}:{port}",
            "wayscloud.mqtt": f"mqtt://{settings.mqtt_host}:{settings.mqtt_port}",
        }

    def app(self) -> web.Application:
        """The application; every route demands the API key."""
        app = web.Application()
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/devices", self._list_devices),
            ("GET", "/devices/{device}", self._of_device(self._device)),
            ("GET", "/devices/{device}/health", self._of_device(payloads.health)),
            ("GET", "/devices/{device}/tags", self._of_device(lambda s, _: {"tags": self._tags[s.device_id]})),
            ("POST", "/devices/{device}/tags", self._add_tags),
            ("DELETE", "/devices/{device}/tags/{tag}", self._remove_tag),
            ("GET", "/devices/{device}/telemetry", self._telemetry),
            ("GET", "/devices/{device}/telemetry/latest", self._of_device(payloads.telemetry)),
            ("GET", "/groups", _listing("groups", self._groups, ("id", "name", "description", "color"))),
            ("GET", "/groups/{id}", _one(self._groups)),
            ("GET", "/profiles", _listing("profiles", self._profiles, ("id", "name", "reporting_interval_seconds"))),
            ("GET", "/profiles/{id}", _one(self._profiles)),
            ("GET", "/rules", _listing("rules", self._rules, ("id", "name", "rule_type", "severity", "is_enabled"))),
            ("GET", "/rules/{id}", _one(self._rules)),
            ("POST", "/rules/{id}/enable", self._switch_rule(enabled=True)),
            ("POST", "/rules/{id}/disable", self._switch_rule(enabled=False)),
            ("GET", "/datapoints", _listing("datapoints", self._datapoints, BRIEF_DATAPOINT)),
            ("GET", "/datapoints/{id}", _one(self._datapoints)),
            ("GET", "/alarms", self._list_alarms),
            ("GET", "/alarms/summary", self._alarm_summary),
            ("GET", "/alarms/{id}", _one(self._alarms)),
            ("GET", "/alarms/{id}/timeline", self._timeline),
            ("POST", "/alarms/{id}/acknowledge", self._change_alarm("acknowledged")),
            ("POST", "/alarms/{id}/resolve", self._change_alarm("resolved")),
            ("POST", "/alarms/{id}/reopen", self._change_alarm("active")),
            ("GET", "/notifications/channels", _fixed({"channels": []})),
            ("GET", "/notifications/policies", _fixed({"policies": []})),
            ("GET", "/notifications/deliveries", self._deliveries),
            ("GET", "/credentials", self._credentials),
            ("GET", "/subscription", self._subscription),
            ("GET", "/usage", self._usage),
            ("GET", "/stats", self._stats),
        )  # fmt: skip
        for method, path, handler in routes:
            app.router.add_route(method, f"/v1/iot{path}", self._guarded(handler))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        key = self._settings.wayscloud.api_key.get_secret_value().encode()

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not hmac.compare_digest(request.headers.get("X-API-Key", "").encode(), key):
                return problem(401, "Invalid API key")
            self.requests += 1
            self.paths.append(request.path_qs)
            every = self._settings.wayscloud.fail_every
            if every and self.requests % every == 0:
                busy = self.requests // every % 2 == 1
                headers = {"Retry-After": "0"} if busy else {}
                return web.json_response({"detail": "not now"}, status=429 if busy else 503, headers=headers)
            return await handler(request)

        return guarded

    # --- devices ---------------------------------------------------------------------------------------------

    def _of_device(self, answer: Callable[[Sensor, float], object]) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            sensor = self._sensors.get(request.match_info["device"])
            return web.json_response(answer(sensor, self._clock())) if sensor else problem(404, "Not found")

        return handler

    def _device(self, sensor: Sensor, now: float) -> dict[str, Any]:
        return payloads.device(sensor, now, self._tags[sensor.device_id])

    async def _list_devices(self, request: web.Request) -> web.Response:
        now = self._clock()
        found = [payloads.brief(each, now) for each in self._sensors.values()]
        return _paged(request, "devices", found, more=True, paging=self._settings.wayscloud.paging)

    async def _add_tags(self, request: web.Request) -> web.Response:
        tags = self._tags.get(request.match_info["device"])
        if tags is None:
            return problem(404, "Not found")
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
        tags = self._tags.get(request.match_info["device"], [])
        if request.match_info["tag"] not in tags:
            return problem(404, "Not found")
        tags.remove(request.match_info["tag"])
        return web.Response(status=204)

    async def _telemetry(self, request: web.Request) -> web.Response:
        sensor = self._sensors.get(request.match_info["device"])
        if sensor is None:
            return problem(404, "Not found")
        now, query = self._clock(), request.query
        earliest = now - self._settings.history_seconds
        try:
            start = max(earliest, _moment(query["start"]) if "start" in query else now - 10 * TELEMETRY_STEP)
            end = min(now, _moment(query["end"]) if "end" in query else now)
        except ValueError:
            return problem(422, "start and end are date-times")
        if self._store is not None:
            stored = self._store.rows(sensor.device_id, start, end)
            chosen = query.get("datapoint")
            return web.json_response([r for r in stored if chosen in (None, r["name"], r["datapoint_id"])])
        first, last = int(-(-start // TELEMETRY_STEP)), int(end // TELEMETRY_STEP)
        found = [row for step in range(first, last + 1) for row in payloads.telemetry(sensor, step * TELEMETRY_STEP)]
        wanted = query.get("datapoint")
        return web.json_response([row for row in found if wanted in (None, row["name"], row["datapoint_id"])])

    # --- rules and alarms ------------------------------------------------------------------------------------

    def _switch_rule(self, *, enabled: bool) -> Handler:
        async def handler(request: web.Request) -> web.Response:
            rule = self._rules.get(request.match_info["id"])
            if rule is None:
                return problem(404, "Not found")
            rule |= {"is_enabled": enabled, "updated_at": rfc3339(self._clock())}
            return web.json_response(rule)

        return handler

    async def _list_alarms(self, request: web.Request) -> web.Response:
        query = request.query
        found = [
            payloads.alarm_brief(alarm)
            for alarm in self._alarms.values()
            if all(query.get(key, alarm[key]) == alarm[key] for key in ("status", "severity", "device_id", "rule_id"))
        ]
        return _paged(request, "alarms", found, size=ALARM_PAGE_SIZE, paging=self._settings.wayscloud.paging)

    async def _alarm_summary(self, request: web.Request) -> web.Response:
        statuses = [alarm["status"] for alarm in self._alarms.values()]
        severities = [alarm["severity"] for alarm in self._alarms.values()]
        by_status = {status: statuses.count(status) for status in ("active", "acknowledged", "resolved")}
        return web.json_response(
            {
                "by_status": by_status,
                "by_severity": {severity: severities.count(severity) for severity in ("critical", "warning", "info")},
                "active_total": by_status["active"] + by_status["acknowledged"],
            }
        )

    async def _timeline(self, request: web.Request) -> web.Response:
        alarm = self._alarms.get(request.match_info["id"])
        return web.json_response(payloads.timeline(alarm)) if alarm else problem(404, "Not found")

    def _change_alarm(self, status: str) -> Handler:
        field = {"acknowledged": "acknowledged_at", "resolved": "resolved_at"}.get(status)

        async def handler(request: web.Request) -> web.Response:
            alarm = self._alarms.get(request.match_info["id"])
            if alarm is None:
                return problem(404, "Not found")
            stamps = {field: rfc3339(self._clock())} if field else {"resolved_at": None}
            alarm |= {"status": status} | stamps
            return web.json_response(alarm)

        return handler

    async def _deliveries(self, request: web.Request) -> web.Response:
        """Not by pages but by limit and offset; they name no device."""
        try:
            limit, offset = int(request.query.get("limit", 50)), int(request.query.get("offset", 0))
        except ValueError:
            return problem(422, "limit and offset are whole numbers")
        found = payloads.deliveries(self._settings.seed, list(self._alarms.values()))
        answer = {"deliveries": found[offset : offset + limit], "total": len(found), "limit": limit, "offset": offset}
        return web.json_response(answer)

    # --- account ---------------------------------------------------------------------------------------------

    async def _credentials(self, request: web.Request) -> web.Response:
        settings = self._settings.wayscloud
        where = {"host": settings.mqtt_host, "port": settings.mqtt_port}
        where |= {"tls_port": settings.mqtt_tls_port, "websocket_port": 8083}
        return web.json_response({"mqtt_broker": where | {"protocol": "mqtt"}})

    async def _subscription(self, request: web.Request) -> web.Response:
        counts = {"device_limit": max(50, len(self._sensors)), "device_count": len(self._sensors)}
        plan = {"plan": "iot-50", "status": "active", "created_at": "2026-01-01T00:00:00Z"}
        return web.json_response(plan | counts)

    async def _usage(self, request: web.Request) -> web.Response:
        today = int(self._clock() % 86_400)
        return web.json_response(
            {
                "messages_today": today,
                "messages_this_month": 142_000 + today,
                "data_points_today": 4 * today,
                "data_points_this_month": 560_000 + 4 * today,
            }
        )

    async def _stats(self, request: web.Request) -> web.Response:
        count = len(self._sensors)
        active = sum(alarm["status"] == "active" for alarm in self._alarms.values())
        devices = {"total_devices": count, "active_devices": count, "connected_now": count}
        return web.json_response(
            devices | {"messages_24h": 62_000, "data_points_24h": 248_000, "active_alarms": active}
        )


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _listing(name: str, items: dict[str, dict[str, Any]], keys: tuple[str, ...]) -> Handler:
    """The brief form of all items, which leaves fields out (a rule's ``config`` among them)."""

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({name: [{key: item[key] for key in keys} for item in items.values()]})

    return handler


def _one(items: dict[str, dict[str, Any]]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        item = items.get(request.match_info["id"])
        return web.json_response(item) if item else problem(404, "Not found")

    return handler


def _fixed(answer: dict[str, Any]) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        return web.json_response(answer)

    return handler


def _paged(
    request: web.Request,
    name: str,
    found: list[dict[str, Any]],
    size: int = DEFAULT_PAGE_SIZE,
    *,
    more: bool = False,
    paging: str = "sound",
) -> web.Response:
    """A page by number; with ``more`` it says ``has_more``, as the list of devices does and that of alarms does not.

    ``paging`` is what is wrong with it (``WaysCloudSimulator.paging``).
    """
    try:
        number = int(request.query.get("page", 1))
        page_size = int(request.query.get("page_size", size))
    except ValueError:
        return problem(422, "page and page_size are whole numbers")
    if number < 1 or not 1 <= page_size <= MAX_PAGE_SIZE:
        return problem(422, "page or page_size is out of range")
    start = 0 if paging == "same_page" else (number - 1) * page_size
    answer: dict[str, Any] = {
        name: found[start : start + page_size],
        "total": 0 if paging == "total_zero" else len(found),
    }
    answer |= {"page": number, "page_size": page_size}
    said = {"has_more_false": False, "total_zero": False, "has_more_true": True}
    has_more = said.get(paging, start + page_size < len(found))
    return web.json_response(answer | ({"has_more": has_more} if more else {}))
