"""Ogmen's robots: one WebSocket a robot, the alert webhook, states and logs by REST."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

import aiohttp

from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.context import Context, utc_now
from connectors.common.device_ownership import DeviceTasks
from connectors.common.http_client import RestClient, VendorError
from connectors.common.rate_limits import FloodGuard
from connectors.common.websocket import WebSocketFeed
from connectors.ogmen import protocol
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.rest import RestPoller, said
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings
from connectors.ogmen.webhook import AlertWebhook
from runtime.checks import CheckResult
from runtime.http_server import check_port, serving
from schemas.device import device_id
from schemas.wire import Device

_log = logging.getLogger(__name__)
_WEBHOOK = "ogmen webhook"


@dataclass
class Pace:
    """At most so many a second, one after the other: a fleet that fell together comes back in a row."""

    per_second: float
    _next: float = 0.0

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = time.monotonic()
        self._next = max(now, self._next + 1 / self.per_second)
        await asyncio.sleep(self._next - now)


class OgmenConnector:
    """Keeps the robots' sockets, the webhook and the polls going until cancelled.

    Delivery: sockets have no replay; an outage leaves a gap record, and what REST tells is read again at once. Alerts
    are acknowledged after Kafka has them. Log entries are read with overlap and told once (see `RestPoller`).
    Nothing is ever sent on a device's channel: what one client says there, the robot and all others would hear.
    """

    def __init__(self, settings: OgmenSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._handshakes = asyncio.Semaphore(settings.concurrent_handshakes)
        self._pace = Pace(settings.handshakes_per_second)
        self._robots: dict[str, Robot] = {}
        self._by_account: dict[str, set[str]] = {"": set(settings.devices)}
        self._since: dict[str, datetime] = {}
        """Until when another process, or the one before us, held a robot that we are to hold."""
        self._rest: RestPoller | None = None
        self.webhook_port = -1

    async def run(self) -> None:
        """Until cancelled; `StageError` where the webhook's port is taken."""
        settings = self._settings
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            if settings.webhook_port >= 0:
                tasks.create_task(self._serve_webhook())
            if settings.api_url:
                rest = rest_client(settings, http)
                self._rest = RestPoller(settings, self._context, rest, self._robots, self._account_has)
            self._sockets = DeviceTasks(tasks)
            await self._context.ownership.until_known()  # REST's first round is about robots that we know are ours
            tasks.create_task(self._follow_share())
            if self._rest is not None:
                tasks.create_task(self._rest.run())

    # which robots there are

    async def _follow_share(self) -> None:
        ownership = self._context.ownership
        while True:
            version = ownership.version
            self._take_share()
            if self._rest is None:
                await self._register()
            await ownership.changed(version)

    def _account_has(self, account: str, native_ids: set[str]) -> None:
        """These are an account's robots now."""
        self._by_account[account] = native_ids
        self._take_share()

    def _take_share(self) -> None:
        """Take up the robots that are ours and new; let go those that no account has or that are another process's."""
        ownership = self._context.ownership
        known = set().union(*self._by_account.values())
        wanted = {native_id for native_id in known if ownership.owns(device_id(VENDOR, native_id))}
        interrupted = ownership.take_lapsed()
        for native_id in wanted - self._robots.keys():
            self._robots[native_id] = self._take_up(native_id)
            if (until := interrupted.get(ownership.partition(device_id(VENDOR, native_id)))) is not None:
                self._since[native_id] = until
        for native_id in self._robots.keys() - wanted:
            del self._robots[native_id]
        if self._settings.socket_url:
            self._sockets.keep({n: partial(self._listen, robot) for n, robot in self._robots.items()})

    def _take_up(self, native_id: str) -> Robot:
        robot = Robot.load(native_id, self._settings.sampling, self._context.state_dir)
        if not (self._settings.api_url and self._settings.privacy_path):
            robot.gate.observe(False, utc_now())  # nobody can be asked
        return robot

    async def _register(self) -> None:
        """Without REST the configuration is the registry."""
        for robot in list(self._robots.values()):
            device = Device(device_id=robot.device, vendor=VENDOR, updated_at=utc_now())
            await self._context.publisher.publish_device(device)

    # webhook

    async def _serve_webhook(self) -> None:
        settings = self._settings
        if settings.webhook_secret is None and settings.signature_secret is None:
            _log.warning("ogmen: neither webhook_secret nor signature_secret in [ogmen]: every alert is refused")
        app = AlertWebhook(settings, self._context, self._is_private).app()
        async with serving(app, settings.webhook_host, settings.webhook_port, _WEBHOOK) as self.webhook_port:
            _log.info(
                "ogmen: robots may post to http://%s:%d%s",
                settings.webhook_host,
                self.webhook_port,
                settings.webhook_path,
            )
            await asyncio.Event().wait()

    def _is_private(self, native_id: str) -> bool:
        robot = self._robots.get(native_id)
        if robot is None and any(native_id in known for known in self._by_account.values()):
            robot = self._take_up(native_id)  # another process holds it: as nobody can tell here, it counts as on
        return robot is not None and robot.gate.hides()

    # WebSocket

    async def _listen(self, robot: Robot) -> None:
        if self._rest is not None and robot.gate.on is None:
            await self._rest.read_privacy(robot)  # before the first position is taken
        channel = robot.channel
        link = ConnectionState(VENDOR, "websocket", robot.device)
        if (since := self._since.pop(robot.native_id, None)) is not None:
            link.interrupted(since, "held by no process, or handed over")
        token = self._settings.token.get_secret_value() if self._settings.token else ""

        async def url() -> str:
            await self._pace.turn()
            return protocol.fill(self._settings.socket_url, device_id=robot.native_id)

        async def on_message(payload: bytes) -> None:
            await self._context.forward(VENDOR, channel.message(payload, utc_now()))

        async def on_gap(gap: Gap) -> None:
            await self._context.publisher.publish_soon(gap.envelope(robot.device))
            if self._rest is not None:
                self._rest.resynchronise(robot.native_id)

        async def on_status(status: int) -> None:
            if status in (400, 401, 403, 404):  # nothing that another try soon would change
                await asyncio.sleep(60 * (0.5 + random.random()))

        feed = WebSocketFeed(
            link=link,
            url=url,
            on_message=on_message,
            on_gap=on_gap,
            on_status=on_status,
            handshakes=self._handshakes,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            max_bytes=self._settings.max_frame_bytes,
            flood=FloodGuard(robot.device, rate := self._settings.messages_per_second, burst=10 * rate),
        )
        await feed.run()


def rest_client(settings: OgmenSettings, http: aiohttp.ClientSession) -> RestClient:
    """The client of the REST API, with the token where there is one."""
    headers = {"Authorization": f"Bearer {settings.token.get_secret_value()}"} if settings.token else {}

    async def authorization() -> dict[str, str]:
        return headers

    return RestClient(http, settings.api_url.rstrip("/"), authorization, refused=lambda _: None)


async def check(settings: OgmenSettings, _: Path) -> list[CheckResult]:
    """Devices, REST, webhook. The WebSocket is not opened: what one client sends, others of the device would get."""
    known = len(settings.devices), len(settings.accounts)
    results = [
        CheckResult("ogmen: devices", any(known), f"{known[0]} devices, {known[1]} accounts in [ogmen]"),
        CheckResult("ogmen: WebSocket", bool(settings.socket_url), settings.socket_url or "set socket_url in [ogmen]"),
    ]
    if settings.webhook_port >= 0:
        has_secret = settings.webhook_secret is not None or settings.signature_secret is not None
        results.append(CheckResult("ogmen: webhook secret", has_secret, "" if has_secret else "set webhook_secret"))
        results.append(await check_port("ogmen: webhook", settings.webhook_host, settings.webhook_port, _WEBHOOK))
    if settings.api_url:
        results += await _check_rest(settings)
    return results


async def _check_rest(settings: OgmenSettings) -> list[CheckResult]:
    """Each endpoint, for the first device, dog, and account of the configuration."""
    results = []
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        rest = rest_client(settings, http)
        rest.attempts = 1
        for name, path, params in _paths_to_check(settings):
            try:
                protocol.entries(await rest.get(path, params, endpoint=name))
                results.append(CheckResult(f"ogmen: REST, {name}", True, "answers"))
            except (VendorError, ValueError) as error:
                results.append(CheckResult(f"ogmen: REST, {name}", False, said(error)))
    return results


def _paths_to_check(settings: OgmenSettings) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, path and parameters of what can be asked for."""
    ids = {"device_id": settings.devices[:1], "dog_id": list(settings.dogs)[:1], "account_id": settings.accounts[:1]}
    templates = [(e.name, getattr(settings, e.path_setting), {e.count: "1"} if e.count else {}) for e in ENDPOINTS]
    for name, template, params in [*templates, ("account_devices", settings.account_devices_path, {})]:
        known = {field: found[0] for field, found in ids.items() if found}
        if template and any(f"{{{field}}}" in template for field in known):
            yield name, protocol.fill(template, **known), params
