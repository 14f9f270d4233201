"""Ogmen's REST: snapshots of each robot's state, its logs, and the devices of an account."""

from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

from simulators.fleet import random_for
from simulators.net import Clock
from simulators.ogmen import payloads
from simulators.ogmen.answers import Handler, OddShapes, Shape, as_array, as_bare, as_envelope, as_envelopes, problem
from simulators.ogmen.payloads import OroRobot
from simulators.ogmen.robots import RobotFleet
from simulators.settings import SimulatorSettings

Snapshot = Callable[[OroRobot, float], dict[str, Any]]
LogEntry = Callable[[OroRobot, int, float], dict[str, Any]]


class RestApi:
    """Answers requests about the robots of a fleet."""

    def __init__(self, fleet: RobotFleet, settings: SimulatorSettings, clock: Clock) -> None:
        self._fleet = fleet
        self._clock = clock
        self._history_seconds = settings.history_seconds
        self._odd = OddShapes(random_for(settings.seed, "odd answers")) if settings.ogmen.odd_answers else None

    def routes(self) -> Iterator[tuple[str, Handler]]:
        """The path of each resource, and what answers it."""
        for name, snapshot in self._enveloped().items():
            yield f"/{name}/{{device_id}}", self._answer(snapshot, name)
        for name, snapshot in self._bare().items():
            yield f"/{name}/{{device_id}}", self._answer(snapshot, None)
        yield "/device_activity/{device_id}", self._log(payloads.activity, "no_of_activities", as_array)
        yield "/connectivity_logs/{device_id}", self._log(payloads.connectivity, "no_of_logs", as_envelopes)
        yield "/location_logs/{device_id}", self._log(payloads.location, "no_of_logs", as_envelope)
        yield "/system_usage_logs/{device_id}", self._log(payloads.system_usage, "no_of_logs", as_bare)
        yield "/dog_insights/{dog_id}", self._log(payloads.insight, "no_of_insights", as_array)
        yield "/accounts/{account_id}/devices", self._devices_of_account
        yield "/maps/{device_id}", self._answer(lambda oro, now: [payloads.active_map(oro, now)], "maps")
        yield "/maps/{device_id}/active", self._answer(payloads.active_map, "active map")

    def _enveloped(self) -> dict[str, Snapshot]:
        privacy_of = self._fleet.privacy_of
        return {
            "device_settings": lambda oro, now: payloads.device_settings(oro, now, privacy_of(oro, now)),
            "battery_status": self._battery_status,
            "treat_bin": payloads.treat_bin,
            "cam_head": payloads.cam_head,
            "privacy_mode": lambda oro, now: payloads.privacy_mode(oro, now, privacy_of(oro, now)),
            "volume": _only(payloads.device_settings, "volume"),
            "display_brightness": _only(payloads.device_settings, "display_brightness"),
            "status_light_brightness": _only(payloads.device_settings, "status_light_brightness"),
        }

    @staticmethod
    def _bare() -> dict[str, Snapshot]:
        return {
            "devices": payloads.device,
            "storage": payloads.storage,
            "network": payloads.network,
            "dogs": payloads.dog,
            "users": lambda oro, now: payloads.account(oro),
            "subscriptions": lambda oro, now: payloads.subscription(oro),
            "pets": lambda oro, now: payloads.pet_profile(oro),
        }

    def _answer(self, snapshot: Callable[[OroRobot, float], object], name: str | None) -> Handler:
        """A handler for a snapshot: in an envelope if it has a ``name``, else bare."""

        async def answer(request: web.Request) -> web.Response:
            oro = self._fleet.by_id.get(request.match_info["device_id"])
            if oro is None:
                return problem(404, "Device not found.")
            data = snapshot(oro, self._clock())
            if isinstance(data, dict):
                data = self._fleet.with_leaks(oro, data)
            usual = payloads.envelope(f"{name} retrieved successfully.", data) if name is not None else data
            return self._shaped(usual, data)

        return answer

    def _log(self, entry: LogEntry, count: str, shape: Shape) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            oro = self._owner_of_log(request)
            if oro is None:
                return problem(404, "Device not found.")
            try:
                wanted = int(request.query[count])
            except (KeyError, ValueError):
                return problem(422, f"{count} must be a whole number.")
            if wanted < 1 and wanted != -1:
                return problem(422, f"{count} must be positive, or -1 for all.")
            now = self._clock()
            numbers = payloads.log_entries(now, self._history_seconds)
            numbers = numbers if wanted == -1 else numbers[:wanted]
            entries = [self._fleet.with_leaks(oro, entry(oro, number, now)) for number in numbers]
            return self._shaped(shape(entries), entries)

        return answer

    def _owner_of_log(self, request: web.Request) -> OroRobot | None:
        names = request.match_info
        if "dog_id" in names:
            return self._fleet.by_dog.get(names["dog_id"])
        return self._fleet.by_id.get(names["device_id"])

    def _shaped(self, usual: object, data: object) -> web.Response:
        return web.json_response(usual if self._odd is None else self._odd.of(usual, data))

    def _battery_status(self, oro: OroRobot, now: float) -> dict[str, Any]:
        planted = self._fleet.faults[oro.device_id]
        planted.contact(now)
        return payloads.battery_status(oro, now, planted.applied("battery.level", oro.robot.at(now).battery, now))

    async def _devices_of_account(self, request: web.Request) -> web.Response:
        account, now = request.match_info["account_id"], self._clock()
        return web.json_response([payloads.device(o, now) for o in self._fleet.robots if o.account_id == account])


def _only(snapshot: Snapshot, field: str) -> Snapshot:
    def part(oro: OroRobot, now: float) -> dict[str, Any]:
        return {"device_id": oro.device_id, field: snapshot(oro, now)[field]}

    return part
