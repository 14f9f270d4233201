"""Kärcher's REST for machines: specifications, statuses, notifications, cleaning reports, files."""

import math
from typing import Any

from aiohttp import web

from simulators.karcher import payloads
from simulators.karcher.answers import DEFAULT_REPORT_LIMIT, InvalidParameter, machine_ids, moment, paged
from simulators.karcher.machines import MachineFleet
from simulators.karcher.misbehaviour import Misbehaviour
from simulators.karcher.payloads import Machine
from simulators.net import Clock

MAX_MACHINES = 10
"""Machines that one request of statuses may name."""


class MachineApi:
    """Answers requests about machines. Handlers raise InvalidParameter and NotFound."""

    def __init__(self, fleet: MachineFleet, clock: Clock, misbehaviour: Misbehaviour, history_seconds: float) -> None:
        self._fleet = fleet
        self._clock = clock
        self._misbehaviour = misbehaviour
        self._history_seconds = history_seconds

    async def specifications(self, request: web.Request) -> web.Response:
        """``GET /machines/specifications``."""
        since = request.query.get("registeredSince")
        registered_since = moment(since) if since is not None else -math.inf
        machines = sorted(self._fleet.machines, key=lambda machine: machine.registered_at)
        return paged(request, [payloads.specification(m) for m in machines if m.registered_at >= registered_since])

    async def statuses(self, request: web.Request) -> web.Response:
        """``GET /machines/statuses``."""
        asked = machine_ids(request)
        if asked is None or len(asked) > MAX_MACHINES or self._misbehaviour.poison in asked:
            raise InvalidParameter
        now = self._clock()
        machines = [machine for each in asked if (machine := self._fleet.with_id(each)) is not None]
        known = {machine.machine_id: machine for machine in machines if not machine.retired}
        answer: dict[str, Any] = {"data": [self._status(known[each], now) for each in asked if each in known]}
        errors = [{"machineId": each, "message": "invalidDevice"} for each in asked if each not in known]
        return web.json_response(answer | ({"errors": errors} if errors else {}))

    async def notifications(self, request: web.Request) -> web.Response:
        """``GET /machines/notifications``."""
        asked = machine_ids(request)
        notifications = [
            payloads.notification(machine, job)
            for machine, job in self._fleet.jobs(asked, *self._history())
            if job.number % 3 == 0
        ]
        return paged(request, sorted(notifications, key=lambda each: str(each["receivedAt"])))

    async def cleaning_reports(self, request: web.Request) -> web.Response:
        """``GET /machines/cleaning-reports``."""
        try:
            start, end = moment(request.query["startDate"]), moment(request.query["endDate"])
        except KeyError as error:
            raise InvalidParameter from error
        if end <= start:
            raise InvalidParameter
        machine_id = request.query.get("machineId")
        reports = [
            payloads.cleaning_report(machine, job)
            for machine, job in self._fleet.jobs([machine_id] if machine_id is not None else None, *self._history())
            if start <= job.finished_at <= end
        ]
        return paged(request, sorted(reports, key=lambda each: str(each["finishedAt"])), DEFAULT_REPORT_LIMIT)

    async def file(self, request: web.Request) -> web.Response:
        """``GET /machines/{material}/{serial}/files/{type}/{file}`` and ``…/cleaning-reports-map/{file}``."""
        self._fleet.named(request.match_info["material"], request.match_info["serial"])
        name = "fileId" if "type" in request.match_info else "mapId"
        file = request.match_info["file"]
        return web.json_response({"data": {name: file, "url": f"http://{request.host}/downloads/{file}"}})

    def _status(self, machine: Machine, now: float) -> dict[str, Any]:
        battery = machine.robot.at(now).battery
        planted = self._fleet.faults.get(machine.native_id)
        if planted is not None:
            planted.contact(now)
            battery = planted.applied("battery.level", battery, now)
        return payloads.status(machine, now, battery)

    def _history(self) -> tuple[float, float]:
        now = self._clock()
        return now - self._history_seconds, now
