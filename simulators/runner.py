"""Runs simulators until they are stopped."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack

from schemas.vendors import vendors
from simulators.settings import SimulatorSettings
from simulators.truth import TruthLog
from simulators.world import Running, Start, World

log = logging.getLogger(__name__)


def simulated_vendors() -> list[str]:
    """The vendors that have a simulator."""
    return [name for name, spec in vendors().items() if spec.simulator]


async def run_simulators(
    names: Sequence[str],
    settings: SimulatorSettings,
    stop: asyncio.Event,
    ready: Callable[[dict[str, str]], None] | None = None,
    begin: asyncio.Event | None = None,
) -> None:
    """Run the simulators of the vendors of these ``names`` until ``stop`` is set.

    The clouds serve at once; ``ready`` is then called with their endpoints: ``karcher.token_url``,
    ``karcher.rest_url``, ``karcher.ws_url``, ``ogmen.rest_url``, ``ogmen.ws_url``, ``wayscloud.rest_url``,
    ``wayscloud.mqtt``. Devices that are clients (sensors by MQTT, ClimaSense, Ogmen's alerts) start when ``begin`` is
    set, at once without it.

    Raises ValueError for an unknown vendor or missing setting, OSError where a port is taken.
    """
    simulated = simulated_vendors()
    unknown = set(names) - set(simulated)
    if unknown:
        raise ValueError(f"unknown vendor: {', '.join(sorted(unknown))}; there are {', '.join(simulated)}")
    async with AsyncExitStack() as stack:
        truth = stack.enter_context(TruthLog(settings.truth_file))
        world = World(settings, time.time, truth.record)
        running = [await _start(stack, name, world) for name in names]
        if ready is not None:
            ready({key: url for each in running for key, url in each.endpoints.items()})
        if begin is not None and not await _first(begin, stop):
            return
        for client in [client for each in running for client in each.clients]:
            await stack.enter_async_context(client)
        log.info("simulating %s", ", ".join(names))
        await stop.wait()
    log.info("simulators stopped; planted: %s", truth.counts or "nothing")


async def _start(stack: AsyncExitStack, vendor: str, world: World) -> Running:
    start: Start = vendors()[vendor].load("simulator")
    return await start(stack, world)


async def _first(begin: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for either; whether it was ``begin``."""
    waits = [asyncio.create_task(event.wait()) for event in (begin, stop)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stop.is_set()
