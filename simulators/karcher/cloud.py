"""Kärcher's cloud on loopback: OAuth2 token, REST and WebSocket on one port."""

from collections import Counter

from aiohttp import web

from simulators.faults import Record
from simulators.karcher import payloads
from simulators.karcher.answers import Handler, InvalidParameter, NotFound, problem
from simulators.karcher.command_api import CommandApi
from simulators.karcher.executions import Executions
from simulators.karcher.machine_api import MachineApi
from simulators.karcher.machines import MachineFleet
from simulators.karcher.misbehaviour import Misbehaviour
from simulators.karcher.sockets import MachineSockets
from simulators.karcher.tokens import TokenServer
from simulators.net import Clock, RateLimit
from simulators.settings import SimulatorSettings

BASE_PATH = "/external/v1"


class KarcherCloud:
    """Kärcher's three hosts as one aiohttp application; ``record`` takes what is planted.

    ``requests`` counts what was asked, by endpoint and status. ``misbehaviour``, ``fleet``, ``executions``, ``tokens``
    and ``sockets`` are the parts that a test changes while the cloud runs.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.misbehaviour = Misbehaviour()
        self.fleet = MachineFleet(settings, record)
        self.tokens = TokenServer(settings, clock, self.misbehaviour)
        self.executions = Executions(settings.seed, clock)
        self.sockets = MachineSockets(self.fleet, settings, clock, self.requests)
        self._machines = MachineApi(self.fleet, clock, self.misbehaviour, settings.history_seconds)
        self._commands = CommandApi(self.fleet, self.executions, clock, self.misbehaviour)
        self._clock = clock
        self._limit = RateLimit(settings.karcher.rest_limit, 1.0)
        self._send_pins()

    def endpoints(self, host: str, port: int) -> dict[str, str]:
        """The URLs a connector needs."""
        at = f"{host}:{port}"
        return {
            "karcher.token_url": f"http://{at}/oauth2/token",
            "karcher.rest_url": f"http://{at}{BASE_PATH}",
            "karcher.ws_url": f"ws://{at}/",
        }

    def app(self) -> web.Application:
        """The application: token, REST, socket."""
        app = web.Application()
        app.router.add_post("/oauth2/token", self._token)
        app.router.add_get("/", self._socket)
        machines, commands = self._machines, self._commands
        machine = "/machines/{material}/{serial}"
        execution = "/machines/command-execution/{execution}"
        for method, path, handler in (
            ("GET", "/machines/specifications", machines.specifications),
            ("GET", "/machines/statuses", machines.statuses),
            ("GET", "/machines/notifications", machines.notifications),
            ("GET", "/machines/cleaning-reports", machines.cleaning_reports),
            ("GET", "/machines/commands", commands.commands),
            ("GET", execution, commands.execution),
            ("DELETE", execution, commands.cancel),
            ("POST", f"{machine}/commands", commands.send),
            ("GET", f"{machine}/command-executions", commands.history),
            ("GET", machine + "/cleaning-reports-map/{file}", machines.file),
            ("GET", machine + "/files/{type}/{file}", machines.file),
        ):
            app.router.add_route(method, BASE_PATH + path, self._guarded(path, handler))
        return app

    async def _token(self, request: web.Request) -> web.Response:
        response = await self.tokens.answer(request)
        self.requests["token", response.status] += 1
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if (response := self._refused_socket(request)) is None:
            response = await self.sockets.connect(request)
        if response.status != 101:
            self.requests["socket", response.status] += 1
        return response

    def _refused_socket(self, request: web.Request) -> web.StreamResponse | None:
        if (misbehaved := self.misbehaviour.answer("socket")) is not None:
            return misbehaved
        return None if self.tokens.accepts(request.query.get("accessToken", "")) else problem(401, "unauthorized")

    def _guarded(self, endpoint: str, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            response = await answer(request)
            self.requests[endpoint, response.status] += 1
            return response

        async def answer(request: web.Request) -> web.StreamResponse:
            if not self.tokens.accepts(request.headers.get("Authorization", "").removeprefix("Bearer ")):
                return problem(401, "unauthorized")
            wait = self._limit.wait(f"{request.method} {endpoint}", self._clock())
            if wait:
                return problem(429, "too_many_requests", wait)
            if (misbehaved := self.misbehaviour.answer(endpoint)) is not None:
                return misbehaved
            try:
                return await handler(request)
            except InvalidParameter:
                return problem(400, "invalid_parameter")
            except NotFound:
                return problem(404, "not_found")

        return guarded

    def _send_pins(self) -> None:
        """Give a CV50 a PIN, and another one as JSON in a string: a history with secrets in it."""
        for machine in self.fleet.machines:
            if machine.family == "cv50":
                self.executions.send(machine, "cv50_set", {"keys": [{"settings.lockcode": {"code": 4711}}]})
                text = payloads.text({"settings.lockcode": {"code": 4712}})
                self.executions.send(machine, "cv50_set", {"keys": [text]})
                return
