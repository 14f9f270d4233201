"""What `fleetlake check` asks of Ogmen's cloud and of our webhook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import aiohttp

from connectors.common.http_client import VendorError
from connectors.ogmen import protocol
from connectors.ogmen.cloud import loggable, rest_client
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.settings import OgmenSettings
from connectors.ogmen.webhook import WEBHOOK_NAME
from runtime.checks import CheckResult, unreachable
from runtime.http_server import check_port


async def check(settings: OgmenSettings, _: Path) -> list[CheckResult]:
    """Check devices, webhook and each REST endpoint. The WebSocket is not opened, since other clients could notice."""
    known = len(settings.devices), len(settings.accounts)
    results = [
        CheckResult("ogmen: devices", any(known), f"{known[0]} devices, {known[1]} accounts in [ogmen]"),
        await _check_socket(settings.socket_url),
    ]
    if settings.webhook_port >= 0:
        has_secret = settings.webhook_secret is not None or settings.signature_secret is not None
        results.append(CheckResult("ogmen: webhook secret", has_secret, "" if has_secret else "set webhook_secret"))
        results.append(await check_port("ogmen: webhook", settings.webhook_host, settings.webhook_port, WEBHOOK_NAME))
    if settings.api_url:
        results += await _check_rest(settings)
    return results


async def _check_socket(url: str) -> CheckResult:
    if not url:
        return CheckResult("ogmen: WebSocket", False, "set socket_url in [ogmen]")
    why = await unreachable(url)
    return CheckResult(f"ogmen: WebSocket {url}", why is None, why or "the host answers; no socket was opened")


async def _check_rest(settings: OgmenSettings) -> list[CheckResult]:
    """Check each endpoint, for the first device, dog and account of the configuration."""
    if (why := await unreachable(settings.api_url)) is not None:
        count = len(list(_paths_to_check(settings)))
        return [CheckResult(f"ogmen REST {settings.api_url}", False, f"{why} ({count} endpoints)")]
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
                results.append(CheckResult(f"ogmen: REST, {name}", False, loggable(error)))
    return results


def _paths_to_check(settings: OgmenSettings) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, path and parameters of each endpoint that can be read with the configured ids."""
    ids = {"device_id": settings.devices[:1], "dog_id": list(settings.dogs)[:1], "account_id": settings.accounts[:1]}
    templates = [(e.name, getattr(settings, e.path_setting), {e.count: "1"} if e.count else {}) for e in ENDPOINTS]
    for name, template, params in [*templates, ("account_devices", settings.account_devices_path, {})]:
        known = {field: values[0] for field, values in ids.items() if values}
        if template and any(f"{{{field}}}" in template for field in known):
            yield name, protocol.fill(template, **known), params
