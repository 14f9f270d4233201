"""Kärcher's cloud on loopback: OAuth2 token, REST and WebSocket on one port."""

import base64
import hashlib
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web

from simulators import faults
from simulators.faults import DeviceFaults, Fault, Record, Target
from simulators.fleet import Job
from simulators.karcher import payloads
from simulators.karcher.payloads import Machine
from simulators.net import Channel, Clock, RateLimit, page, ticks
from simulators.settings import SimulatorSettings
from simulators.wire import digest, encode, rfc3339

BASE_PATH = "/external/v1"
TOKEN_WINDOW = 600.0
DEFAULT_LIMIT, DEFAULT_REPORT_LIMIT, MAX_LIMIT = 10, 15, 100
MAX_MACHINES = 10

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def problem(status: int, message: str, retry_after: float | None = None) -> web.Response:
    """The documented shape of an error."""
    headers = {"Retry-After": str(math.ceil(retry_after))} if retry_after is not None else None
    return web.json_response({"status": status, "message": message}, status=status, headers=headers)


class InvalidParameter(ValueError):
    """A request parameter is missing or wrong; becomes ``400 invalid_parameter``."""


class NotFound(LookupError):
    """There is no such machine or execution; becomes ``404 not_found``."""


@dataclass
class Moods:
    """What the cloud does wrong on purpose, as its document warns; may be changed while it runs."""

    answers: dict[str, int] = field(default_factory=dict)
    """HTTP status by endpoint, in place of an answer: ``token``, ``socket``, or a REST path below the base path."""
    retry_after: float | None = None
    """``Retry-After`` of these answers."""
    poison: str | None = None
    """A machine id for which a whole request of statuses is refused with 400."""
    bare_details: bool = False
    """Details of executions without ``data`` around them; the document shows both."""
    refuse_tokens: bool = False
    """Every token is refused with 401, however fresh."""


class KarcherCloud:
    """Kärcher's three hosts as one aiohttp application; ``record`` takes what is planted.

    ``moods`` make it misbehave; ``requests`` counts what was asked, by endpoint and status.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._settings, self._clock = settings, clock
        self.moods = Moods()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.machines = payloads.build_fleet(settings.seed, settings.karcher.devices, settings.cycle_seconds)
        self._by_id = {machine.machine_id: machine for machine in self.machines}
        self._by_name = {(machine.material, machine.serial): machine for machine in self.machines}
        self._tokens: dict[str, float] = {}
        self._token_limit = RateLimit(settings.karcher.token_limit, TOKEN_WINDOW)
        self._rest_limit = RateLimit(settings.karcher.rest_limit, 1.0)
        self._executions: list[dict[str, Any]] = []
        self._remember_a_pin()
        robots = [machine for machine in self.machines if machine.family != "other" and not machine.retired]
        plans = faults.plan(
            settings.seed,
            "karcher",
            [Target(machine.native_id, ("battery.level",)) for machine in robots],
            settings.faults,
        )
        self._faults = {
            machine.native_id: DeviceFaults("karcher", f"karcher:{machine.native_id}", plans[machine.native_id], record)
            for machine in robots
        }
        self._channels = {machine.native_id: Channel(self._pump(machine)) for machine in robots}

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
        machine = "/machines/{material}/{serial}"
        execution = "/machines/command-execution/{execution}"
        for method, path, handler in (
            ("GET", "/machines/specifications", self._specifications),
            ("GET", "/machines/statuses", self._statuses),
            ("GET", "/machines/notifications", self._notifications),
            ("GET", "/machines/cleaning-reports", self._cleaning_reports),
            ("GET", "/machines/commands", self._commands),
            ("GET", execution, self._execution),
            ("DELETE", execution, self._cancel),
            ("POST", f"{machine}/commands", self._send_command),
            ("GET", f"{machine}/command-executions", self._history),
            ("GET", machine + "/cleaning-reports-map/{file}", self._file),
            ("GET", machine + "/files/{type}/{file}", self._file),
        ):
            app.router.add_route(method, BASE_PATH + path, self._guarded(path, handler))
        return app

    # --- token -----------------------------------------------------------------------------------------------

    async def _token(self, request: web.Request) -> web.Response:
        response = self._in_a_mood("token") or await self._token_answer(request)
        self.requests["token", response.status] += 1
        return response

    def _in_a_mood(self, endpoint: str) -> web.Response | None:
        status = self.moods.answers.get(endpoint)
        message = {400: "invalid_parameter", 403: "forbidden"}.get(status or 0, "internal_error")
        return None if status is None else problem(status, message, self.moods.retry_after)

    async def _token_answer(self, request: web.Request) -> web.Response:
        settings = self._settings.karcher
        form = await request.post()
        wait = self._token_limit.wait(str(form.get("client_id")), self._clock())
        if wait:
            return problem(429, "too_many_requests", wait)
        if request.query or form.get("grant_type") != "client_credentials":
            return problem(400, "invalid_request")
        secret = settings.client_secret.get_secret_value()
        if (form.get("client_id"), form.get("client_secret")) != (settings.client_id, secret):
            return problem(401, "invalid_client")
        token = self._issue()
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": settings.token_seconds})

    def _issue(self) -> str:
        digest = hashlib.sha256(f"{self._settings.seed}/{len(self._tokens)}/{self._clock()}".encode()).digest()
        token = "eyJhbGciOiJSUzI1NiJ9." + base64.urlsafe_b64encode(digest).decode().rstrip("=")
        self._tokens[token] = self._clock() + self._settings.karcher.token_seconds
        return token

    def _authorised(self, token: str) -> bool:
        return self._tokens.get(token, 0.0) > self._clock() and not self.moods.refuse_tokens

    def expire_tokens(self) -> None:
        """Every token issued so far is refused from now on."""
        self._tokens = dict.fromkeys(self._tokens, 0.0)

    # --- REST ------------------------------------------------------------------------------------------------

    def _guarded(self, endpoint: str, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            response = await answer(request)
            self.requests[endpoint, response.status] += 1
            return response

        async def answer(request: web.Request) -> web.StreamResponse:
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if not self._authorised(token):
                return problem(401, "unauthorized")
            wait = self._rest_limit.wait(f"{request.method} {endpoint}", self._clock())
            if wait:
                return problem(429, "too_many_requests", wait)
            if (bad := self._in_a_mood(endpoint)) is not None:
                return bad
            try:
                return await handler(request)
            except InvalidParameter:
                return problem(400, "invalid_parameter")
            except NotFound:
                return problem(404, "not_found")

        return guarded

    async def _specifications(self, request: web.Request) -> web.Response:
        since = request.query.get("registeredSince")
        registered_since = _moment(since) if since is not None else -math.inf
        machines = sorted(self.machines, key=lambda machine: machine.registered_at)
        found = [payloads.specification(each) for each in machines if each.registered_at >= registered_since]
        return _paged(request, found, DEFAULT_LIMIT)

    async def _statuses(self, request: web.Request) -> web.Response:
        asked = _machine_ids(request)
        if asked is None or len(asked) > MAX_MACHINES or self.moods.poison in asked:
            raise InvalidParameter
        now = self._clock()
        known = [self._by_id[each] for each in asked if each in self._by_id and not self._by_id[each].retired]
        ids = {machine.machine_id for machine in known}
        answer: dict[str, Any] = {"data": [self._status(machine, now) for machine in known]}
        errors = [{"machineId": each, "message": "invalidDevice"} for each in asked if each not in ids]
        return web.json_response(answer | ({"errors": errors} if errors else {}))

    def _status(self, machine: Machine, now: float) -> dict[str, Any]:
        battery = machine.robot.at(now).battery
        planted = self._faults.get(machine.native_id)
        if planted is not None:
            planted.contact(now)
            battery = planted.applied("battery.level", battery, now)
        return payloads.status(machine, now, battery)

    async def _notifications(self, request: web.Request) -> web.Response:
        asked = _machine_ids(request)
        found = [payloads.notification(machine, job) for machine, job in self._jobs(asked) if job.number % 3 == 0]
        found.sort(key=lambda each: str(each["receivedAt"]))
        return _paged(request, found, DEFAULT_LIMIT)

    async def _cleaning_reports(self, request: web.Request) -> web.Response:
        try:
            start, end = _moment(request.query["startDate"]), _moment(request.query["endDate"])
        except KeyError as error:
            raise InvalidParameter from error
        if end <= start:
            raise InvalidParameter
        machine = request.query.get("machineId")
        found = [
            payloads.cleaning_report(each, job)
            for each, job in self._jobs([machine] if machine is not None else None)
            if start <= job.finished_at <= end
        ]
        found.sort(key=lambda each: str(each["finishedAt"]))
        return _paged(request, found, DEFAULT_REPORT_LIMIT)

    def _jobs(self, machine_ids: Sequence[str] | None) -> list[tuple[Machine, Job]]:
        now = self._clock()
        since = now - self._settings.history_seconds
        return [
            (machine, job)
            for machine in self.machines
            if machine.native_id in self._faults and (machine_ids is None or machine.machine_id in machine_ids)
            for job in machine.robot.jobs(since, now)
        ]

    async def _file(self, request: web.Request) -> web.Response:
        self._named(request)
        name = "fileId" if "type" in request.match_info else "mapId"
        file = request.match_info["file"]
        return web.json_response({"data": {name: file, "url": f"http://{request.host}/downloads/{file}"}})

    # --- commands --------------------------------------------------------------------------------------------

    def _remember_a_pin(self) -> None:
        """A CV50 was once given a PIN, and another one by JSON in a string: a history with secrets in it."""
        for machine in self.machines:
            if machine.family == "cv50":
                self._new_execution(machine, "cv50_set", {"keys": [{"settings.lockcode": {"code": 4711}}]})
                text = payloads.text({"settings.lockcode": {"code": 4712}})
                self._new_execution(machine, "cv50_set", {"keys": [text]})
                return

    def command(self, machine: Machine, name: str, parameters: dict[str, Any]) -> str:
        """Somebody sends a command to a machine; its execution's id."""
        return str(self._new_execution(machine, name, parameters)["executionId"])

    def cancel(self, execution_id: str) -> None:
        """Somebody cancels an execution."""
        next(e for e in self._executions if e["executionId"] == execution_id)["cancelled"] = self._clock()

    # --- the fleet changes -----------------------------------------------------------------------------------

    def register(self, machine: Machine) -> None:
        """A machine is added to the account. No faults are planted on it."""
        self.machines.append(machine)
        self._by_id[machine.machine_id] = machine
        self._by_name[machine.material, machine.serial] = machine
        self._faults[machine.native_id] = DeviceFaults(
            "karcher", f"karcher:{machine.native_id}", faults.DevicePlan(), lambda line: None
        )
        self._channels[machine.native_id] = Channel(self._pump(machine))

    def unregister(self, machine: Machine) -> None:
        """A machine is taken out of the account; an open socket stays open, as nothing is said of that."""
        self.machines.remove(machine)
        del self._by_id[machine.machine_id], self._by_name[machine.material, machine.serial]

    def listeners(self, machine: Machine) -> int:
        """Open sockets of a machine."""
        return len(self._channels[machine.native_id])

    async def flood(self, machine: Machine, messages: int) -> None:
        """A machine says much at once."""
        for number in range(messages):
            state = payloads.message({"robotStatus": f"Idle {number}"}, self._clock())
            await self._channels[machine.native_id].send(encode(state))

    def _new_execution(self, machine: Machine, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        now = self._clock()
        execution = {
            "executionId": payloads.base58_id(self._settings.seed, "command", len(self._executions)),
            "deviceId": machine.machine_id,
            "commandName": name,
            "commandParameters": parameters,
            "createdAt": rfc3339(now),
            "created": now,
            "cancelled": None,
        }
        self._executions.append(execution)
        return execution

    async def _send_command(self, request: web.Request) -> web.Response:
        machine = self._named(request)
        try:
            body = await request.json()
            name, parameters = body["commandName"], body["commandParameters"]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidParameter from error
        if not isinstance(name, str) or not isinstance(parameters, dict):
            raise InvalidParameter
        execution = self._new_execution(machine, name, parameters)
        keys = ("commandName", "commandParameters", "createdAt", "executionId")
        return web.json_response({key: execution[key] for key in keys})

    async def _history(self, request: web.Request) -> web.Response:
        machine = self._named(request)
        keys = ("executionId", "deviceId", "commandName", "commandParameters", "createdAt")
        mine = [each for each in self._executions if each["deviceId"] == machine.machine_id]
        return _paged(request, [{key: each[key] for key in keys} for each in mine], DEFAULT_LIMIT)

    async def _execution(self, request: web.Request) -> web.Response:
        execution = self._execution_named(request)
        keys = ("executionId", "commandName", "commandParameters", "createdAt")
        data = {key: execution[key] for key in keys} | {"executionRequester": "7sup7pd"}
        details = data | {"executionEvents": self._events(execution)}
        return web.json_response(details if self.moods.bare_details else {"data": details})

    async def _cancel(self, request: web.Request) -> web.Response:
        execution = self._execution_named(request)
        if self._events(execution)[0]["status"] not in ("QUEUED", "IN_PROGRESS"):
            raise InvalidParameter
        execution["cancelled"] = self._clock()
        return web.Response(status=204)

    def _execution_named(self, request: web.Request) -> dict[str, Any]:
        wanted = request.match_info["execution"]
        for execution in self._executions:
            if execution["executionId"] == wanted:
                return execution
        raise NotFound

    def _events(self, execution: dict[str, Any]) -> list[dict[str, str]]:
        """Newest first, as documented: requested, queued after a second, done after five."""
        now, created, cancelled = self._clock(), execution["created"], execution["cancelled"]
        steps = [("REQUESTED", created), ("QUEUED", created + 1), ("SUCCEEDED", created + 5)]
        if cancelled is not None:
            steps = [*steps[:2], ("CANCELED" if self.moods.bare_details else "CANCELLED", cancelled)]
        past = [{"status": name, "updatedAt": rfc3339(at)} for name, at in steps if at <= now]
        return past[::-1]

    async def _commands(self, request: web.Request) -> web.Response:
        asked = [each for each in request.query.get("machineTypes", "").split(",") if each]
        if not 1 <= len(asked) <= MAX_MACHINES:
            raise InvalidParameter
        stamp = "2025-04-22T02:04:49.770Z"
        schema = payloads.text({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"})
        known = {machine.material: machine for machine in self.machines if machine.family != "other"}
        names = {"kira": ("missionPause", "missionResume", "scheduleAdd"), "cv50": ("cv50_set",)}
        found = [
            {
                "machineType": material,
                "name": name,
                "parametersSchema": schema,
                "description": f"{name} command",
                "createdAt": stamp,
                "updatedAt": stamp,
            }
            for material in asked
            if material in known
            for name in names[known[material].family]
        ]
        return web.json_response({"data": found})

    def _named(self, request: web.Request) -> Machine:
        try:
            return self._by_name[request.match_info["material"], request.match_info["serial"]]
        except KeyError as error:
            raise NotFound from error

    # --- WebSocket -------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        response = self._in_a_mood("socket") or await self._joined(request)
        if response.status != 101:
            self.requests["socket", response.status] += 1
        return response

    async def _joined(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        if not self._authorised(query.get("accessToken", "")):
            return problem(401, "unauthorized")
        native_id = f"{query.get('materialNumber')}/{query.get('serialNumber')}"
        channel = self._channels.get(native_id)
        if channel is None:
            return problem(400, "invalid_parameter")
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        self.requests["socket", 101] += 1
        self._faults[native_id].contact(self._clock())
        async with channel.joined(socket, request):
            async for _ in socket:
                pass  # the document gives clients nothing to say
        return socket

    def _pump(self, machine: Machine) -> Callable[[Channel], Awaitable[None]]:
        async def pump(channel: Channel) -> None:
            planted, seen, turn, last = self._faults[machine.native_id], self._clock(), 0, b""
            async for _ in ticks(self._settings.karcher.rate):
                now = self._clock()
                for fault in planted.due(now):
                    await self._carry_out(fault, machine, channel, planted, last)
                for job in machine.robot.jobs(seen, now):
                    report = payloads.cleaning_report(machine, job)
                    await channel.send(encode(payloads.message({"cleaningReport": report}, now)))
                last = encode(payloads.datapoints(machine, turn, now))
                await channel.send(last)
                seen, turn = now, turn + 1

        return pump

    async def _carry_out(
        self, fault: Fault, machine: Machine, channel: Channel, planted: DeviceFaults, last: bytes
    ) -> None:
        now = self._clock()
        match fault.kind:
            case "malformed":
                good = payloads.datapoints(machine, 0, now)
                missing = {"type": "datapoints", "timestamp": good["timestamp"]}
                payload = faults.spoil(fault.malformation, good, payloads.wrong_type(machine, now), missing)
                await channel.send(payload)
                planted.note_malformed(fault, payload, now)
            case "duplicate" if last:
                await channel.send(last)
                planted.note("duplicate", now, sha256=digest(last))
            case "late":
                then = now - self._settings.faults.late_by
                payload = encode(payloads.datapoints(machine, 0, then))
                await channel.send(payload)
                planted.note("late", now, observed_at=rfc3339(then), sha256=digest(payload))
            case "disconnect":
                planted.note("disconnect", now, by="cloud")
                channel.drop()


def _machine_ids(request: web.Request) -> list[str] | None:
    given = request.query.get("machineIds")
    return [each for each in given.split(",") if each] if given else None


def _moment(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise InvalidParameter from error


def _paged(request: web.Request, found: Sequence[Any], default_limit: int) -> web.Response:
    """A page of what was found in ascending order; the direction is the default's, ``asc``, unless asked otherwise."""
    try:
        limit = int(request.query.get("limit", default_limit))
        if not 1 <= limit <= MAX_LIMIT or request.query.get("sort", "asc") not in ("asc", "desc"):
            raise InvalidParameter
        ordered = found if request.query.get("sort", "asc") == "asc" else found[::-1]
        data, info = page(ordered, limit, request.query.get("cursor"))
    except ValueError as error:
        raise InvalidParameter from error
    return web.json_response({"data": list(data), "pageInfo": info})
