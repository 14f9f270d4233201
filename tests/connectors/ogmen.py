"""A simulated Ogmen cloud, a connector that runs against it, and a client of its webhook."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.ogmen.connector import OgmenConnector
from connectors.ogmen.endpoints import ENDPOINTS
from connectors.ogmen.settings import OgmenSettings
from simulators.faults import FaultSettings
from simulators.net import serve
from simulators.ogmen import OgmenCloud
from simulators.settings import OgmenSimulator, SimulatorSettings
from tests.support.waiting import eventually

SECRET = "a shared secret"
EVERYTHING = {
    "volume_path": "/volume/{device_id}",
    "display_brightness_path": "/display_brightness/{device_id}",
    "status_light_brightness_path": "/status_light_brightness/{device_id}",
}
KINDS = {f"ogmen.{endpoint.name}.log" for endpoint in ENDPOINTS}


def settings_for(**options: Any) -> OgmenSettings:
    return OgmenSettings(webhook_port=0, **{"webhook_secret": SecretStr(SECRET)} | options)


@asynccontextmanager
async def running(settings: OgmenSettings, publisher: Publisher, folder: Path) -> AsyncIterator[OgmenConnector]:
    connector = OgmenConnector(settings, Context(publisher, folder))
    task = asyncio.create_task(connector.run())
    try:
        await eventually(lambda: connector.webhook_port > 0 or task.done())
        yield connector
        assert not task.done(), task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Clock:
    """The clouds' clock: real time, and some more."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@asynccontextmanager
async def cloud(
    clock: Callable[[], float] = time.time, **options: Any
) -> AsyncIterator[tuple[OgmenCloud, dict[str, str]]]:
    options = {"devices": 3, "rate": 20, "map_seconds": 1} | options
    simulator = SimulatorSettings(
        faults=FaultSettings.none(),
        ogmen=OgmenSimulator(**options),
    )
    ogmen = OgmenCloud(simulator, clock, lambda line: None)
    async with serve(ogmen.app(), "127.0.0.1", 0) as port:
        urls = ogmen.endpoints("127.0.0.1", port)
        yield ogmen, {"socket_url": urls["ogmen.ws_url"], "api_url": urls["ogmen.rest_url"]}


async def polled(ogmen: OgmenCloud, times: int, *paths: str) -> None:
    """Wait until every robot was asked for each path so often again, and what it answered has been dealt with.

    A robot's path is asked for again when the answer before has been dealt with, so one more request shows that.
    """
    wanted = {path: ogmen.requests[path] + (times + 1) * len(ogmen.fleet.robots) for path in paths}
    await eventually(
        lambda: all(ogmen.requests[path] >= count for path, count in wanted.items()),
        what=lambda: (wanted, ogmen.requests),
    )


def alert(**fields: Any) -> dict[str, Any]:
    return {
        "timestamp": "2019-08-24T14:15:22Z",
        "uuid": str(uuid.uuid4()),
        "source": "string",
        "severity": 1,
        "header": "string",
        "body": "string",
        "action_required": "string",
    } | fields


@asynccontextmanager
async def webhook(publisher: Publisher, folder: Path, **options: Any) -> AsyncIterator[Callable[..., Any]]:
    async with running(settings_for(**options), publisher, folder) as connector:
        base = f"http://127.0.0.1:{connector.webhook_port}"
        async with aiohttp.ClientSession(base) as http:

            async def post(
                body: object, device: str = "robot-1", secret: str | None = SECRET
            ) -> tuple[int, dict[str, Any]]:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                headers = {"X-Webhook-Secret": secret} if secret is not None else {}
                async with http.post(f"/alerts/{device}", data=data, headers=headers) as response:
                    return response.status, await response.json()

            yield post
