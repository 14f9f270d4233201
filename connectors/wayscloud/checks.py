"""`fleetlake check` for WAYSCloud: each REST endpoint that is read, and the broker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from connectors.common.byte_budget import ByteBudget
from connectors.common.http_client import VendorError
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.logins import Login, logins
from connectors.wayscloud.mqtt_client import V5, V311
from connectors.wayscloud.mqtt_session import MqttSession
from connectors.wayscloud.objects import BrokerAddress
from connectors.wayscloud.protocol import Packet
from connectors.wayscloud.settings import WayscloudSettings
from runtime.checks import CheckResult, unreachable
from runtime.errors import StageError

_ENDPOINTS = ("devices", "datapoints", "alarms", "rules", "groups", "profiles")


async def check(settings: WayscloudSettings, _: Path) -> list[CheckResult]:
    """Check REST, if there is a key, and the broker, with client ids of its own so that no session is taken over."""
    results: list[CheckResult] = []
    address = BrokerAddress(settings.mqtt_host, settings.port)
    if settings.api_key is not None:
        results, named = await _check_rest(settings)
        if not address.host and named is not None:
            address = BrokerAddress(named.host, settings.mqtt_port or named.port)
    if not address.host:
        results.append(CheckResult("wayscloud: MQTT", False, "set mqtt_host, or api_key to ask for it, in [wayscloud]"))
        return results
    for login in logins(_probing(settings), f"{settings.client_id}-check"):
        try:
            results.append(await _check_broker(settings, login, address))
        except StageError as error:  # a certificate's file
            results.append(CheckResult("wayscloud: MQTT", False, str(error)))
    return results


async def _check_rest(settings: WayscloudSettings) -> tuple[list[CheckResult], BrokerAddress | None]:
    """The result of each endpoint, and the broker that the account names."""
    if (why := await unreachable(settings.api_url)) is not None:
        text = f"{why} ({len(_ENDPOINTS) + 1} endpoints)"
        return [CheckResult(f"wayscloud REST {settings.api_url}", False, text)], None
    named: BrokerAddress | None = None
    results: list[CheckResult] = []
    timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
    with TemporaryDirectory() as folder:
        async with aiohttp.ClientSession(timeout=timeout) as http:
            api = WayscloudApi(settings, http, Path(folder))
            api.rest.attempts = 1
            try:
                websockets = settings.mqtt_transport == "websockets"
                named = objects.broker_of(await api.get("credentials"), settings.mqtt_tls, websockets)
                results.append(CheckResult("wayscloud: REST", True, f"the broker is {named.host}:{named.port}"))
            except (VendorError, ValueError) as error:
                results.append(CheckResult("wayscloud: REST", False, str(error)))
            results += [await _check_endpoint(api, endpoint) for endpoint in _ENDPOINTS]
    return results, named


async def _check_endpoint(api: WayscloudApi, endpoint: str) -> CheckResult:
    try:
        await api.get(endpoint)
    except (VendorError, ValueError) as error:
        return CheckResult("wayscloud: REST", False, str(error))
    return CheckResult("wayscloud: REST", True, f"{endpoint} can be read")


def _probing(settings: WayscloudSettings) -> WayscloudSettings:
    """Other client ids, and another share group: a probe must neither end a session nor take a message from it."""
    group = settings.share_group and f"{settings.share_group}-check"
    each = [
        c.model_copy(update={"client_id": f"{c.client_id or c.device_id}-check"}) for c in settings.device_credentials
    ]
    return settings.model_copy(update={"share_group": group, "device_credentials": each})


async def _check_broker(settings: WayscloudSettings, login: Login, address: BrokerAddress) -> CheckResult:
    name = f"wayscloud: MQTT {login.device}" if login.device else "wayscloud: MQTT"
    where = f"{address.host}:{address.port}"
    probe = settings.model_copy(update={"session_expiry_hours": 0.0})
    text = ""
    for version in {"auto": (V5, V311), "5": (V5,), "3.1.1": (V311,)}[settings.mqtt_version]:
        connected = asyncio.Event()

        async def never_acknowledged(_: Packet) -> list[asyncio.Future[None]]:
            return [asyncio.get_running_loop().create_future()]

        async def on_connected(_: bool, connected: asyncio.Event = connected) -> None:
            connected.set()

        run = MqttSession(probe, login, version, ByteBudget()).run(address, never_acknowledged, on_connected)
        session = asyncio.create_task(run)
        waiting = asyncio.create_task(connected.wait())
        await asyncio.wait({session, waiting}, return_when=asyncio.FIRST_COMPLETED)
        for task in (session, waiting):
            task.cancel()
        outcome = (await asyncio.gather(session, waiting, return_exceptions=True))[0]
        if connected.is_set():
            return CheckResult(name, True, f"{where} lets us in")
        text = str(outcome)
    return CheckResult(name, False, f"{where}: {text}")
