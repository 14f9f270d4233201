"""Ogmen on loopback: a relayed socket per device, the REST logs, and robots that post alerts to a webhook."""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
from aiohttp import WSMsgType, web

from simulators import faults
from simulators.faults import DeviceFaults, Fault, Record, Target
from simulators.fleet import random_for
from simulators.net import Channel, Clock, ticks
from simulators.ogmen import payloads
from simulators.ogmen.payloads import OroRobot
from simulators.settings import SimulatorSettings
from simulators.wire import digest, encode, rfc3339

log = logging.getLogger(__name__)

MAX_MESSAGE = 4 << 20
ALERT_ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 12, 0.5, 15.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Snapshot = Callable[[OroRobot, float], dict[str, Any]]
LogEntry = Callable[[OroRobot, int, float], dict[str, Any]]


def problem(status: int, message: str) -> web.Response:
    """The standard shape ``{code, status, message, data}``."""
    body = {"code": status, "status": "error", "message": message, "data": None}
    return web.json_response(body, status=status)


class OgmenCloud:
    """Ogmen's REST and sockets as one aiohttp application; ``record`` takes what is planted and every alert."""

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._settings, self._clock = settings, clock
        self.robots = payloads.build_fleet(settings.seed, settings.ogmen.devices, settings.cycle_seconds)
        self._by_id = {oro.device_id: oro for oro in self.robots}
        self._by_dog = {oro.dog_id: oro for oro in self.robots}
        metrics = ("battery.level",) if settings.ogmen.cross_battery else ()
        targets = [Target(oro.device_id, metrics) for oro in self.robots]
        plans = faults.plan(settings.seed, "ogmen", targets, settings.faults)
        self._faults = {
            oro.device_id: DeviceFaults("ogmen", f"ogmen:{oro.device_id}", plans[oro.device_id], record)
            for oro in self.robots
        }
        self._channels = {oro.device_id: Channel(self._pump(oro)) for oro in self.robots}
        self._rng = random_for(settings.seed, "odd answers")
        self.privacy: dict[str, payloads.Privacy] = {}
        """Privacy modes that are set by hand; the others follow ``privacy_seconds``."""
        self.refusing: int | None = None
        """The HTTP status with which everybody is sent away, sockets too; None: nobody is."""
        self.requests: Counter[str] = Counter()
        """How often each path was asked for, without ids."""
        self.handshakes: list[float] = []
        """When each socket was asked for, by the loop's clock."""

    @property
    def listening(self) -> set[str]:
        """The robots that somebody listens to."""
        return {device for device, channel in self._channels.items() if len(channel)}

    def drop(self, device_id: str) -> None:
        """Cut a robot's sockets without a goodbye."""
        self._channels[device_id].drop()

    def drop_all(self) -> None:
        """Cut all sockets at once."""
        for device_id in self._channels:
            self.drop(device_id)

    async def say(self, device_id: str, payload: bytes) -> None:
        """Send any bytes on a robot's channel, as soon as somebody listens."""
        while not len(self._channels[device_id]):
            await asyncio.sleep(0.02)
        await self._channels[device_id].send(payload)

    def forget(self, device_id: str) -> str:
        """The robot belongs to nobody any more."""
        self.robots = [oro for oro in self.robots if oro.device_id != device_id]
        return device_id

    def endpoints(self, host: str, port: int) -> dict[str, str]:
        """The URLs a connector needs; the socket's holds ``{device_id}``."""
        at = f"{host}:{port}"
        return {"ogmen.rest_url": f"http://{at}", "ogmen.ws_url": f"ws://{at}{self._settings.ogmen.socket_path}"}

    def app(self) -> web.Application:
        """The application: sockets and REST."""
        app = web.Application()
        app.router.add_get(self._settings.ogmen.socket_path, self._guarded(self._socket))
        enveloped: dict[str, Snapshot] = {
            "device_settings": lambda oro, now: payloads.device_settings(oro, now, self._privacy(oro, now)),
            "battery_status": self._battery_status,
            "treat_bin": payloads.treat_bin,
            "cam_head": payloads.cam_head,
            "privacy_mode": lambda oro, now: payloads.privacy_mode(oro, now, self._privacy(oro, now)),
            "volume": _only(payloads.device_settings, "volume"),
            "display_brightness": _only(payloads.device_settings, "display_brightness"),
            "status_light_brightness": _only(payloads.device_settings, "status_light_brightness"),
        }
        bare: dict[str, Snapshot] = {
            "devices": payloads.device,
            "storage": payloads.storage,
            "network": payloads.network,
            "dogs": payloads.dog,
            "users": lambda oro, now: payloads.account(oro),
            "subscriptions": lambda oro, now: payloads.subscription(oro),
            "pets": lambda oro, now: payloads.pet_profile(oro),
        }
        for name, snapshot in enveloped.items():
            app.router.add_get(f"/{name}/{{device_id}}", self._guarded(self._answer(snapshot, name)))
        for name, snapshot in bare.items():
            app.router.add_get(f"/{name}/{{device_id}}", self._guarded(self._answer(snapshot, None)))
        for path, handler in (
            ("/device_activity/{device_id}", self._log(payloads.activity, "no_of_activities", _as_array)),
            ("/connectivity_logs/{device_id}", self._log(payloads.connectivity, "no_of_logs", _as_envelopes)),
            ("/location_logs/{device_id}", self._log(payloads.location, "no_of_logs", _as_envelope)),
            ("/system_usage_logs/{device_id}", self._log(payloads.system_usage, "no_of_logs", _as_bare)),
            ("/dog_insights/{dog_id}", self._log(payloads.insight, "no_of_insights", _as_array)),
            ("/accounts/{account_id}/devices", self._devices_of_account),
            ("/maps/{device_id}", self._answer(lambda oro, now: [payloads.active_map(oro, now)], "maps")),
            ("/maps/{device_id}/active", self._answer(payloads.active_map, "active map")),
        ):
            app.router.add_get(path, self._guarded(handler))
        return app

    # --- REST ------------------------------------------------------------------------------------------------

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            name = request.path.split("/")[1]
            self.requests[name] += 1
            if handler == self._socket:
                self.handshakes.append(asyncio.get_running_loop().time())
            if self.refusing is not None:
                return problem(self.refusing, "Come back later.")
            token = self._settings.ogmen.token
            if token is not None and request.headers.get("Authorization") != f"Bearer {token.get_secret_value()}":
                return problem(401, "Unauthorized")
            return await handler(request)

        return guarded

    def _answer(self, snapshot: Callable[[OroRobot, float], object], name: str | None) -> Handler:
        """Where ``name`` is given the answer comes in an envelope, else bare."""

        async def answer(request: web.Request) -> web.Response:
            oro = self._by_id.get(request.match_info["device_id"])
            if oro is None:
                return problem(404, "Device not found.")
            data = snapshot(oro, self._clock())
            if isinstance(data, dict):
                data = self._leaking(oro, data)
            message = f"{name} retrieved successfully."
            answer = payloads.envelope(message, data) if name is not None else data
            return web.json_response(self._odd(answer, data))

        return answer

    def _log(self, entry: LogEntry, count: str, shape: Callable[[list[dict[str, Any]]], object]) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            info = request.match_info
            oro = self._by_dog.get(info["dog_id"]) if "dog_id" in info else self._by_id.get(info["device_id"])
            if oro is None:
                return problem(404, "Device not found.")
            try:
                wanted = int(request.query[count])
            except (KeyError, ValueError):
                return problem(422, f"{count} must be a whole number.")
            if wanted < 1 and wanted != -1:
                return problem(422, f"{count} must be positive, or -1 for all.")
            now = self._clock()
            numbers = payloads.log_entries(now, self._settings.history_seconds)
            numbers = numbers if wanted == -1 else numbers[:wanted]
            found = [self._leaking(oro, entry(oro, number, now)) for number in numbers]
            return web.json_response(self._odd(shape(found), found))

        return answer

    def _privacy(self, oro: OroRobot, now: float) -> payloads.Privacy:
        return self.privacy.get(oro.device_id) or payloads.privacy_at(now, self._settings.ogmen.privacy_seconds)

    def _leaking(self, oro: OroRobot, message: dict[str, Any]) -> dict[str, Any]:
        return payloads.with_account(oro, message) if self._settings.ogmen.account_leaks else message

    def _odd(self, usual: object, data: object) -> object:
        """The answer in one of the shapes the document has somewhere."""
        if not self._settings.ogmen.odd_answers:
            return usual
        entries = data if isinstance(data, list) else [data]
        shapes: tuple[Callable[[], object], ...] = (
            lambda: usual,
            lambda: entries,
            lambda: {"code": 200, "status": "SUCCESS", "message": "ok", "data": entries},
            lambda: [payloads.envelope("ok", entry) for entry in entries],
            lambda: {"code": 200, "status": "success", "message": "ok", "data": "null"},
            lambda: {"status": "success", "data": entries},
            lambda: {"code": 200, "status": "success", "message": "ok", "data": encode(entries).decode()},
            lambda: {"code": 200, "status": "success", "message": "ok", "data": None},
        )
        return self._rng.choice(shapes)()

    def _battery_status(self, oro: OroRobot, now: float) -> dict[str, Any]:
        planted = self._faults[oro.device_id]
        planted.contact(now)
        return payloads.battery_status(oro, now, planted.applied("battery.level", oro.robot.at(now).battery, now))

    async def _devices_of_account(self, request: web.Request) -> web.Response:
        account = request.match_info["account_id"]
        return web.json_response(
            [payloads.device(oro, self._clock()) for oro in self.robots if oro.account_id == account]
        )

    # --- WebSocket -------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        oro = self._by_id.get(request.match_info["device_id"])
        if oro is None:
            return problem(404, "Device not found.")
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE)
        await socket.prepare(request)
        self._faults[oro.device_id].contact(self._clock())
        try:
            for latched in (payloads.greeting(oro), payloads.tf_static(oro, self._clock()), self._map(oro)):
                await socket.send_frame(encode(latched), WSMsgType.TEXT)
        except ConnectionError:
            return socket
        channel = self._channels[oro.device_id]
        async with channel.joined(socket, request):
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await channel.send(message.data.encode(), besides=socket)
        return socket

    def _map(self, oro: OroRobot) -> dict[str, Any]:
        return payloads.occupancy_map(oro, self._clock(), self._settings.ogmen.map_cells)

    def _pump(self, oro: OroRobot) -> Callable[[Channel], Awaitable[None]]:
        async def pump(channel: Channel) -> None:
            planted, turn, last = self._faults[oro.device_id], 0, b""
            mapped = self._clock()
            chatter_every = self._settings.ogmen.chatter_every
            async for _ in ticks(self._settings.ogmen.rate):
                now = self._clock()
                for fault in planted.due(now):
                    await self._carry_out(fault, oro, channel, planted, last)
                if now - mapped >= self._settings.ogmen.map_seconds:
                    mapped = now
                    await channel.send(encode(self._map(oro)))
                if turn % chatter_every == chatter_every - 1:
                    await channel.send(encode(self._leaking(oro, payloads.chatter(oro, turn // chatter_every))))
                last = encode(payloads.odom(oro, now) if turn % 2 == 0 else payloads.tf(oro, now))
                await channel.send(last)
                turn += 1

        return pump

    async def _carry_out(
        self, fault: Fault, oro: OroRobot, channel: Channel, planted: DeviceFaults, last: bytes
    ) -> None:
        now = self._clock()
        match fault.kind:
            case "malformed":
                wrong, missing = payloads.odom_of_wrong_type(oro, now), payloads.odom_without_pose(oro, now)
                payload = faults.spoil(fault.malformation, payloads.odom(oro, now), wrong, missing)
                await channel.send(payload)
                planted.note_malformed(fault, payload, now)
            case "duplicate" if last:
                await channel.send(last)
                planted.note("duplicate", now, sha256=digest(last))
            case "late":
                then = now - self._settings.faults.late_by
                payload = encode(payloads.odom(oro, then))
                await channel.send(payload)
                planted.note("late", now, observed_at=rfc3339(then), sha256=digest(payload))
            case "disconnect":
                planted.note("disconnect", now, by="cloud")
                channel.drop()

    # --- alerts ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def alerting(self) -> AsyncIterator[None]:
        """Robots post alerts while the block lasts, if there is a webhook to post to."""
        if self._settings.ogmen.webhook_url is None:
            yield
            return
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._alert(oro, session)) for oro in self.robots]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _alert(self, oro: OroRobot, session: aiohttp.ClientSession) -> None:
        every = self._settings.ogmen.alert_seconds
        started = self._clock()
        for number in itertools.count(int(started // every)):
            moment = payloads.alert_time(oro, number, every)
            if moment >= started:
                await asyncio.sleep(max(0.0, moment - self._clock()))
                await self._post_alert(oro, payloads.alert(oro, number, every), session)

    async def _post_alert(self, oro: OroRobot, alert: dict[str, Any], session: aiohttp.ClientSession) -> None:
        """Posts until acknowledged: the same body, the same uuid."""
        settings = self._settings.ogmen
        url = str(settings.webhook_url).replace("{device_id}", quote(oro.device_id, safe=""))
        headers = {
            "X-Webhook-Secret": settings.webhook_secret.get_secret_value(),
            "Content-Type": "application/json",
        }
        body, wait = encode(self._leaking(oro, alert)), FIRST_WAIT
        for attempt in range(1, ALERT_ATTEMPTS + 1):
            if await _accepted(session, url, body, headers):
                detail = {key: alert[key] for key in ("uuid", "severity", "source", "header")}
                self._faults[oro.device_id].note("alert", self._clock(), attempts=attempt, **detail)
                if settings.alert_repeats:
                    again = self._leaking(oro, alert | {"uuid": alert["uuid"].upper()})
                    await _accepted(session, url, encode(again), headers)
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_WAIT)
        log.warning("alert %s of %s was never acknowledged", alert["uuid"], oro.device_id)


async def _accepted(session: aiohttp.ClientSession, url: str, body: bytes, headers: dict[str, str]) -> bool:
    try:
        async with session.post(url, data=body, headers=headers) as response:
            return 200 <= response.status < 300
    except (aiohttp.ClientError, TimeoutError, OSError):
        return False


def _only(snapshot: Snapshot, field: str) -> Snapshot:
    def part(oro: OroRobot, now: float) -> dict[str, Any]:
        return {"device_id": oro.device_id, field: snapshot(oro, now)[field]}

    return part


def _as_array(entries: list[dict[str, Any]]) -> object:
    return entries


def _as_envelopes(entries: list[dict[str, Any]]) -> object:
    return [payloads.envelope("Connectivity logs retrieved successfully.", entry) for entry in entries]


def _as_envelope(entries: list[dict[str, Any]]) -> object:
    data: object = entries[0] if len(entries) == 1 else entries
    return payloads.envelope("Location logs retrieved successfully.", data)


def _as_bare(entries: list[dict[str, Any]]) -> object:
    return entries[0] if len(entries) == 1 else entries
