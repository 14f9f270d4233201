"""Ogmen on loopback: a relayed socket per device, and the REST logs."""

import asyncio
from collections import Counter

from aiohttp import web

from simulators.faults import Record
from simulators.net import Clock
from simulators.ogmen.alerts import AlertPoster
from simulators.ogmen.answers import Handler, problem
from simulators.ogmen.rest_api import RestApi
from simulators.ogmen.robots import RobotFleet
from simulators.ogmen.sockets import RobotSockets
from simulators.settings import SimulatorSettings


class OgmenCloud:
    """Ogmen's REST and sockets as one aiohttp application; ``record`` takes what is planted, and every alert.

    ``fleet``, ``sockets`` and ``alerts`` are the parts that a test uses while the cloud runs.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._settings = settings.ogmen
        self.fleet = RobotFleet(settings, record)
        self.sockets = RobotSockets(self.fleet, settings, clock)
        self.alerts = AlertPoster(self.fleet, settings, clock)
        self._rest = RestApi(self.fleet, settings, clock)
        self.refusing: int | None = None
        """The HTTP status with which all requests are refused, sockets too; None refuses nobody."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for, without ids."""

    def endpoints(self, host: str, port: int) -> dict[str, str]:
        """The URLs a connector needs; the socket's holds ``{device_id}``."""
        at = f"{host}:{port}"
        return {"ogmen.rest_url": f"http://{at}", "ogmen.ws_url": f"ws://{at}{self._settings.socket_path}"}

    def app(self) -> web.Application:
        """The application: sockets and REST."""
        app = web.Application()
        app.router.add_get(self._settings.socket_path, self._guarded(self.sockets.connect))
        for path, handler in self._rest.routes():
            app.router.add_get(path, self._guarded(handler))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.requests[request.path.split("/")[1]] += 1
            if handler == self.sockets.connect:
                self.sockets.handshakes.append(asyncio.get_running_loop().time())
            if self.refusing is not None:
                return problem(self.refusing, "Come back later.")
            token = self._settings.token
            if token is not None and request.headers.get("Authorization") != f"Bearer {token.get_secret_value()}":
                return problem(401, "Unauthorized")
            return await handler(request)

        return guarded
