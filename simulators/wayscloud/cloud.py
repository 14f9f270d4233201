"""WAYSCloud's REST API on loopback, as in its API document. What is written to it is kept in memory."""

import hmac

from aiohttp import web

from simulators.net import Clock
from simulators.settings import SimulatorSettings
from simulators.wayscloud.account import Account
from simulators.wayscloud.account_api import AccountApi
from simulators.wayscloud.alarm_api import AlarmApi
from simulators.wayscloud.answers import Handler, problem
from simulators.wayscloud.device_api import DeviceApi
from simulators.wayscloud.payloads import Sensor
from simulators.wayscloud.store import TelemetryStore


class WaysCloud:
    """The REST API as an aiohttp application over the given sensors; ``account`` may be changed while it runs."""

    def __init__(
        self, settings: SimulatorSettings, clock: Clock, sensors: list[Sensor], store: TelemetryStore | None = None
    ) -> None:
        """``store`` holds what the sensors published; without it, telemetry is made up, one value per minute."""
        self._settings = settings.wayscloud
        self.account = Account.of(settings.seed, sensors, clock())
        self._apis = (
            DeviceApi(self.account, settings, clock, store),
            AlarmApi(self.account, settings, clock),
            AccountApi(self.account, settings.wayscloud, clock),
        )
        self.requests = 0
        """How many requests had the right API key."""
        self.paths: list[str] = []
        """Path and query of each of them."""

    def endpoints(self, host: str, port: int) -> dict[str, str]:
        """The base URL and where the broker is expected."""
        return {
            "wayscloud.rest_url": f"http://{host}:{port}",
            "wayscloud.mqtt": f"mqtt://{self._settings.mqtt_host}:{self._settings.mqtt_port}",
        }

    def app(self) -> web.Application:
        """The application; every route demands the API key."""
        app = web.Application()
        for api in self._apis:
            for method, path, handler in api.routes():
                app.router.add_route(method, f"/v1/iot{path}", self._guarded(handler))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        key = self._settings.api_key.get_secret_value().encode()

        async def guarded(request: web.Request) -> web.StreamResponse:
            if not hmac.compare_digest(request.headers.get("X-API-Key", "").encode(), key):
                return problem(401, "Invalid API key")
            self.requests += 1
            self.paths.append(request.path_qs)
            return self._failure() or await handler(request)

        return guarded

    def _failure(self) -> web.Response | None:
        """Every ``fail_every``-th request fails, with 429 and 503 in turns."""
        every = self._settings.fail_every
        if not every or self.requests % every:
            return None
        busy = self.requests // every % 2 == 1
        headers = {"Retry-After": "0"} if busy else {}
        return web.json_response({"detail": "not now"}, status=429 if busy else 503, headers=headers)
