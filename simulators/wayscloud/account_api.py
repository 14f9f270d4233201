"""WAYSCloud's REST for the account: groups, profiles, datapoint definitions, credentials, usage."""

from collections.abc import Iterator

from aiohttp import web

from simulators.net import Clock
from simulators.settings import WaysCloudSimulator
from simulators.wayscloud.account import Account
from simulators.wayscloud.answers import Handler, listing, one

_BRIEF_GROUP = ("id", "name", "description", "color")
_BRIEF_PROFILE = ("id", "name", "reporting_interval_seconds")
_BRIEF_DATAPOINT = ("id", "name", "label", "unit", "data_type")


class AccountApi:
    """Answers requests about the account."""

    def __init__(self, account: Account, settings: WaysCloudSimulator, clock: Clock) -> None:
        self._account = account
        self._settings = settings
        self._clock = clock

    def routes(self) -> Iterator[tuple[str, str, Handler]]:
        """Method, path and handler of each operation."""
        account = self._account
        yield "GET", "/groups", listing("groups", account.groups, _BRIEF_GROUP)
        yield "GET", "/groups/{id}", one(account.groups)
        yield "GET", "/profiles", listing("profiles", account.profiles, _BRIEF_PROFILE)
        yield "GET", "/profiles/{id}", one(account.profiles)
        yield "GET", "/datapoints", listing("datapoints", account.datapoints, _BRIEF_DATAPOINT)
        yield "GET", "/datapoints/{id}", one(account.datapoints)
        yield "GET", "/credentials", self._credentials
        yield "GET", "/subscription", self._subscription
        yield "GET", "/usage", self._usage
        yield "GET", "/stats", self._stats

    async def _credentials(self, request: web.Request) -> web.Response:
        settings = self._settings
        broker = {
            "host": settings.mqtt_host,
            "port": settings.mqtt_port,
            "tls_port": settings.mqtt_tls_port,
            "websocket_port": 8083,
            "protocol": "mqtt",
        }
        return web.json_response({"mqtt_broker": broker})

    async def _subscription(self, request: web.Request) -> web.Response:
        count = len(self._account.sensors)
        plan = {"plan": "iot-50", "status": "active", "created_at": "2026-01-01T00:00:00Z"}
        return web.json_response(plan | {"device_limit": max(50, count), "device_count": count})

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
        count = len(self._account.sensors)
        return web.json_response(
            {
                "total_devices": count,
                "active_devices": count,
                "connected_now": count,
                "messages_24h": 62_000,
                "data_points_24h": 248_000,
                "active_alarms": sum(alarm["status"] == "active" for alarm in self._account.alarms.values()),
            }
        )
