"""Kärcher's REST for commands: which there are, sending and cancelling them, and their executions."""

from aiohttp import web

from simulators.karcher import payloads
from simulators.karcher.answers import InvalidParameter, paged
from simulators.karcher.executions import Execution, Executions
from simulators.karcher.machine_api import MAX_MACHINES
from simulators.karcher.machines import MachineFleet
from simulators.karcher.misbehaviour import Misbehaviour
from simulators.karcher.payloads import Machine
from simulators.net import Clock

COMMANDS = {"kira": ("missionPause", "missionResume", "scheduleAdd"), "cv50": ("cv50_set",)}
"""Names of the commands by family."""

_STAMP = "2025-04-22T02:04:49.770Z"


class CommandApi:
    """Answers requests about commands. Handlers raise InvalidParameter and NotFound."""

    def __init__(self, fleet: MachineFleet, executions: Executions, clock: Clock, misbehaviour: Misbehaviour) -> None:
        self._fleet = fleet
        self._executions = executions
        self._clock = clock
        self._misbehaviour = misbehaviour

    async def commands(self, request: web.Request) -> web.Response:
        """``GET /machines/commands``."""
        asked = [each for each in request.query.get("machineTypes", "").split(",") if each]
        if not 1 <= len(asked) <= MAX_MACHINES:
            raise InvalidParameter
        schema = payloads.text({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"})
        known = {machine.material: machine for machine in self._fleet.machines if machine.family != "other"}
        commands = [
            {
                "machineType": material,
                "name": name,
                "parametersSchema": schema,
                "description": f"{name} command",
                "createdAt": _STAMP,
                "updatedAt": _STAMP,
            }
            for material in asked
            if material in known
            for name in COMMANDS[known[material].family]
        ]
        return web.json_response({"data": commands})

    async def send(self, request: web.Request) -> web.Response:
        """``POST /machines/{material}/{serial}/commands``."""
        machine = self._machine(request)
        try:
            body = await request.json()
            name, parameters = body["commandName"], body["commandParameters"]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidParameter from error
        if not isinstance(name, str) or not isinstance(parameters, dict):
            raise InvalidParameter
        execution = self._executions.send(machine, name, parameters)
        return web.json_response(execution.fields("commandName", "commandParameters", "createdAt", "executionId"))

    async def history(self, request: web.Request) -> web.Response:
        """``GET /machines/{material}/{serial}/command-executions``."""
        names = ("executionId", "deviceId", "commandName", "commandParameters", "createdAt")
        return paged(request, [each.fields(*names) for each in self._executions.of_machine(self._machine(request))])

    async def execution(self, request: web.Request) -> web.Response:
        """``GET /machines/command-execution/{execution}``."""
        execution = self._execution(request)
        details = {
            **execution.fields("executionId", "commandName", "commandParameters", "createdAt"),
            "executionRequester": "7sup7pd",
            "executionEvents": self._events(execution),
        }
        return web.json_response(details if self._misbehaviour.bare_details else {"data": details})

    async def cancel(self, request: web.Request) -> web.Response:
        """``DELETE /machines/command-execution/{execution}``."""
        execution = self._execution(request)
        if self._events(execution)[0]["status"] not in ("QUEUED", "IN_PROGRESS"):
            raise InvalidParameter
        self._executions.cancel(execution.execution_id)
        return web.Response(status=204)

    def _machine(self, request: web.Request) -> Machine:
        return self._fleet.named(request.match_info["material"], request.match_info["serial"])

    def _execution(self, request: web.Request) -> Execution:
        return self._executions.named(request.match_info["execution"])

    def _events(self, execution: Execution) -> list[dict[str, str]]:
        """The document spells a cancellation in two ways; the second comes with the details' other shape."""
        return execution.events(self._clock(), "CANCELED" if self._misbehaviour.bare_details else "CANCELLED")
