"""A simulated Kärcher cloud, and a connector that runs against it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from connectors.karcher.connector import KarcherConnector
from connectors.karcher.settings import KarcherSettings
from simulators.faults import FaultSettings
from simulators.karcher.cloud import KarcherCloud
from simulators.net import serve
from simulators.settings import KarcherSimulator, SimulatorSettings


@asynccontextmanager
async def cloud(**options: object) -> AsyncIterator[tuple[KarcherCloud, KarcherSettings]]:
    simulator = SimulatorSettings(
        faults=FaultSettings(enabled=False),
        karcher=KarcherSimulator(**{"devices": 6, "rate": 10, **options}),  # type: ignore[arg-type]
    )
    karcher = KarcherCloud(simulator, time.time, lambda line: None)
    async with serve(karcher.app(), "127.0.0.1", 0) as port:
        urls = karcher.endpoints("127.0.0.1", port)
        yield (
            karcher,
            KarcherSettings(
                token_url=urls["karcher.token_url"],
                api_url=urls["karcher.rest_url"],
                socket_url=urls["karcher.ws_url"],
                client_id="fleetlake-demo",
                client_secret=SecretStr("karcher-demo-secret"),
                status_seconds=1,
            ),
        )


@asynccontextmanager
async def running(connector: KarcherConnector) -> AsyncIterator[None]:
    task = asyncio.create_task(connector.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
