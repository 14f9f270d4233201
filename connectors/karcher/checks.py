"""What `fleetlake check` asks of a Kärcher account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from connectors.common.clock import utc_now
from connectors.common.connection_state import ConnectionState, Gap
from connectors.common.http_client import VendorError
from connectors.common.websocket import WebSocketReader
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud, open_cloud
from connectors.karcher.protocol import AnswerError, Machine, Page
from connectors.karcher.settings import KarcherSettings
from runtime.checks import CheckResult, unreachable
from schemas.timestamps import format_iso


async def check(settings: KarcherSettings, state_dir: Path | None = None) -> list[CheckResult]:
    """Check the token and each endpoint that the connector reads.

    Costs one token request and one request per endpoint, counted against the limits in `state_dir`. Opens and closes
    one WebSocket.
    """
    if state_dir is None:
        with TemporaryDirectory() as folder:
            return await check(settings, Path(folder))
    if not settings.client_id or not settings.client_secret.get_secret_value():
        return [CheckResult("karcher: token", False, "set client_id and client_secret in [karcher]")]
    for what, url in zip(("token", "REST", "WebSocket"), settings.urls, strict=True):
        if (why := await unreachable(url)) is not None:
            return [CheckResult(f"karcher {what} {url}", False, f"{why} (nothing else was asked)")]
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        cloud = open_cloud(settings, http, state_dir)
        try:
            await cloud.tokens.token()
        except VendorError as error:
            return [CheckResult("karcher: token", False, str(error))]
        machines: list[Machine] = []

        async def registry() -> str:
            page = await _first_page(cloud, settings.specifications_path, {}, "specifications")
            machines.extend(protocol.read_machine(item, utc_now()) for item in page.items)
            return f"{len(page.items)} machine(s) on the first page"

        results = [CheckResult("karcher: token", True, "obtained"), await _result("registry", registry)]
        results += [await _result(name, request) for name, request in _requests(cloud, machines)]
        return results


def _requests(cloud: Cloud, machines: list[Machine]) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
    """The other requests, as far as the machines of the registry's first page allow them."""
    settings = cloud.settings
    robots = [machine for machine in machines if settings.is_robotic(machine.material_number)]

    async def statuses() -> str:
        page = await cloud.statuses([machine.machine_id for machine in machines[: protocol.MACHINES_PER_REQUEST]])
        return f"{len(page.items)} of {len(page.items) + len(page.errors)} machine(s) have one"

    async def reports() -> str:
        now = utc_now()
        window = {"startDate": format_iso(now.replace(hour=0, minute=0, second=0)), "endDate": format_iso(now)}
        page = await _first_page(cloud, settings.reports_path, window, "cleaning-reports")
        return f"{len(page.items)} today on the first page"

    async def notifications() -> str:
        page = await _first_page(cloud, settings.notifications_path, {}, "notifications")
        return f"{len(page.items)} on the first page"

    async def commands() -> str:
        pages = cloud.executions(robots[0])
        return f"{len((await anext(pages)).items)} of {robots[0].device_id} on the first page"

    async def socket() -> str:
        return await _handshake(cloud, robots[0])

    requests: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("cleaning reports", reports),
        ("notifications", notifications),
    ]
    if machines:
        requests.append(("statuses", statuses))
    if robots and settings.commands_seconds:
        requests.append(("command executions", commands))
    if robots:
        requests.append(("WebSocket", socket))
    return requests


async def _first_page(cloud: Cloud, path: str, params: dict[str, str], endpoint: str) -> Page:
    return protocol.read_page(await cloud.rest.get(path, {"limit": "10", **params}, endpoint))


async def _result(name: str, request: Callable[[], Awaitable[str]]) -> CheckResult:
    try:
        return CheckResult(f"karcher: {name}", True, await request())
    except (VendorError, AnswerError) as error:
        return CheckResult(f"karcher: {name}", False, str(error))


async def _handshake(cloud: Cloud, machine: Machine) -> str:
    """Open a machine's WebSocket and close it again. VendorError says why it cannot be opened."""
    connection = ConnectionState("karcher", "websocket", machine.device_id)
    if await WebSocketReader(connection, _Probe(cloud, machine), asyncio.Semaphore(1)).probe():
        return f"{machine.device_id}: the WebSocket opens"
    raise VendorError("WebSocket: no answer")


@dataclass(frozen=True)
class _Probe:
    """A `SocketHandler` that only opens the socket."""

    cloud: Cloud
    machine: Machine

    async def url(self) -> str:
        token = await self.cloud.tokens.token()
        base = self.cloud.settings.urls.socket
        return protocol.socket_url(base, self.machine.material_number, self.machine.serial_number, token)

    async def on_message(self, payload: bytes) -> None:
        """Not called: nothing is read."""

    async def on_gap(self, gap: Gap) -> None:
        """Not called: nothing is read."""

    async def on_refused(self, status: int) -> None:
        scope = "; the scope external-api/websocket:connect is needed" if status in (401, 403) else ""
        raise VendorError(f"WebSocket: HTTP {status}{scope}", status)
