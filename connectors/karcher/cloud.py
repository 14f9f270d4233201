"""The REST side of a Kärcher account, and what `fleetlake check` asks of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from connectors.common.connection_state import ConnectionState
from connectors.common.context import utc_now
from connectors.common.http_client import RestClient, VendorError
from connectors.common.oauth2 import TokenSource
from connectors.common.rate_limits import SharedLimiter, shared_limiter
from connectors.common.websocket import WebSocketFeed
from connectors.karcher import protocol
from connectors.karcher.protocol import AnswerError, Machine, Page
from connectors.karcher.settings import KarcherSettings
from runtime.checks import CheckResult
from schemas.device import quote_id
from schemas.timestamps import format_iso

PAGE_SIZE = "100"


@dataclass
class Cloud:
    """One account: requests within the limits of the document, which hold for the whole host."""

    settings: KarcherSettings
    tokens: TokenSource
    rest: RestClient

    async def pages(self, path: str, params: dict[str, str], endpoint: str) -> AsyncIterator[Page]:
        """The pages of a list, one after the other. VendorError, AnswerError."""
        query = {"limit": PAGE_SIZE, **params}
        seen: set[str] = set()
        while True:
            page = protocol.read_page(await self.rest.get(path, query, endpoint))
            yield page
            if page.next_cursor is None or page.next_cursor in seen:  # a cursor that comes again would never end
                return
            seen.add(page.next_cursor)
            query["cursor"] = page.next_cursor

    async def statuses(self, machine_ids: list[str]) -> Page:
        """The statuses of at most ten machines, and what the cloud says of those it does not tell."""
        params = {"machineIds": ",".join(machine_ids)}
        return protocol.read_page(await self.rest.get(self.settings.statuses_path, params, "statuses"))

    def executions(self, machine: Machine) -> AsyncIterator[Page]:
        """A machine's history of commands, newest first."""
        path = self.settings.executions_path.format(
            material=quote_id(machine.material_number), serial=quote_id(machine.serial_number)
        )
        return self.pages(path, {"sort": "desc"}, "commands")

    async def execution(self, execution_id: str) -> bytes:
        """The details of one execution; «5 requests/second on command endpoints» holds for all of them together."""
        return await self.rest.get(
            self.settings.execution_path.format(execution=quote_id(execution_id)), endpoint="commands"
        )


def open_cloud(settings: KarcherSettings, http: aiohttp.ClientSession, state_dir: Path) -> Cloud:
    """The account of these settings. Nothing is requested yet."""
    token_url, api_url, _ = settings.urls
    limit = settings.token_requests_per_10_minutes
    # One second more than ten minutes: two clocks, one network.
    limiter = shared_limiter(state_dir, f"karcher-token-{settings.client_id}", limit, 601)
    tokens = TokenSource(http, token_url, settings.client_id, settings.client_secret, limiter, settings.scope)
    limiters: dict[str, SharedLimiter] = {}

    def limiter_of(endpoint: str) -> SharedLimiter:
        if endpoint not in limiters:
            name = f"karcher-{endpoint}-{settings.client_id}"
            limiters[endpoint] = shared_limiter(state_dir, name, settings.requests_per_second, 1.1)
        return limiters[endpoint]

    async def authorization() -> dict[str, str]:
        return {"Authorization": f"Bearer {await tokens.token()}"}

    def refused(headers: dict[str, str]) -> None:
        tokens.refused(headers["Authorization"].removeprefix("Bearer "))

    return Cloud(settings, tokens, RestClient(http, api_url, authorization, refused, limiter_of))


async def check(settings: KarcherSettings, state_dir: Path | None = None) -> list[CheckResult]:
    """The state of the token and of each endpoint that is read. Costs one token request and one request an endpoint,
    counted against the limits in `state_dir`; opens and closes one WebSocket.
    """
    if state_dir is None:
        with TemporaryDirectory() as folder:
            return await check(settings, Path(folder))
    if not settings.client_id or not settings.client_secret.get_secret_value():
        return [CheckResult("karcher: token", False, "set client_id and client_secret in [karcher]")]
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

        results = [CheckResult("karcher: token", True, "obtained"), await _tried("registry", registry)]
        results += [await _tried(name, ask) for name, ask in _asks(cloud, machines)]
        return results


def _asks(cloud: Cloud, machines: list[Machine]) -> list[tuple[str, Callable[[], Awaitable[str]]]]:
    """What else there is to ask, by the machines of the registry's first page."""
    settings = cloud.settings
    robots = [machine for machine in machines if settings.is_robotic(machine.material_number)]

    async def statuses() -> str:
        page = await cloud.statuses([machine.machine_id for machine in machines[: protocol.MACHINES_A_REQUEST]])
        return f"{len(page.items)} of {len(page.items) + len(page.errors)} machine(s) told"

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

    asks: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("cleaning reports", reports),
        ("notifications", notifications),
    ]
    if machines:
        asks.append(("statuses", statuses))
    if robots and settings.commands_seconds:
        asks.append(("command executions", commands))
    if robots:
        asks.append(("WebSocket", socket))
    return asks


async def _first_page(cloud: Cloud, path: str, params: dict[str, str], endpoint: str) -> Page:
    return protocol.read_page(await cloud.rest.get(path, {"limit": "10", **params}, endpoint))


async def _tried(name: str, ask: Callable[[], Awaitable[str]]) -> CheckResult:
    try:
        return CheckResult(f"karcher: {name}", True, await ask())
    except (VendorError, AnswerError) as error:
        return CheckResult(f"karcher: {name}", False, str(error))


async def _handshake(cloud: Cloud, machine: Machine) -> str:
    """Open a machine's WebSocket and close it again. VendorError says why it cannot be."""
    token = await cloud.tokens.token()

    async def url() -> str:
        return protocol.socket_url(cloud.settings.urls[2], machine.material_number, machine.serial_number, token)

    async def ignore(_: object) -> None:
        return None

    async def refused(status: int) -> None:
        scope = "; the scope external-api/websocket:connect is needed" if status in (401, 403) else ""
        raise VendorError(f"WebSocket: HTTP {status}{scope}", status)

    feed = WebSocketFeed(
        ConnectionState("karcher", "websocket", machine.device_id), url, ignore, ignore, refused, asyncio.Semaphore(1)
    )
    if await feed.probe():
        return f"{machine.device_id} can be listened to"
    raise VendorError("WebSocket: no answer")
