"""Runs simulators until told to stop."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from schemas.topics import VENDORS
from simulators.climasense import ClimaSenseFleet, write_keys
from simulators.faults import Record
from simulators.karcher import KarcherCloud
from simulators.net import Clock, serve
from simulators.ogmen import OgmenCloud
from simulators.settings import SimulatorSettings
from simulators.truth import TruthLog
from simulators.wayscloud import SensorFleet, WaysCloud, run_mqtt_broker

log = logging.getLogger(__name__)


async def run_simulators(
    vendors: Sequence[str],
    settings: SimulatorSettings,
    stop: asyncio.Event,
    ready: Callable[[dict[str, str]], None] | None = None,
    begin: asyncio.Event | None = None,
    clock: Clock = time.time,
) -> None:
    """Run the simulators of ``vendors`` until ``stop`` is set.

    The clouds serve at once; ``ready`` is then called with their endpoints: ``karcher.token_url``,
    ``karcher.rest_url``, ``karcher.ws_url``, ``ogmen.rest_url``, ``ogmen.ws_url``, ``wayscloud.rest_url``,
    ``wayscloud.mqtt``. Devices that are clients (sensors by MQTT, ClimaSense, Ogmen's alerts) start when ``begin`` is
    set, at once without it. Sensors on the embedded broker also wait for its first subscriber, so that nothing is
    published that nobody hears.

    Raises ValueError for an unknown vendor or missing setting, OSError where a port is taken.
    """
    unknown = set(vendors) - set(VENDORS)
    if unknown:
        raise ValueError(f"unknown vendor: {', '.join(sorted(unknown))}; there are {', '.join(VENDORS)}")
    if "climasense" in vendors and settings.climasense.url is None:
        raise ValueError("ClimaSense devices need climasense.url, the server they post to")
    async with AsyncExitStack() as stack:
        truth = stack.enter_context(TruthLog(settings.truth_file))
        clients, endpoints = await _serve_clouds(stack, vendors, settings, clock, truth.record)
        if ready is not None:
            ready(endpoints)
        if begin is not None and not await _first(begin, stop):
            return
        for client in clients:
            await stack.enter_async_context(client)
        log.info("simulating %s", ", ".join(vendors))
        await stop.wait()
    log.info("simulators stopped; planted: %s", truth.counts or "nothing")


async def _serve_clouds(
    stack: AsyncExitStack, vendors: Sequence[str], settings: SimulatorSettings, clock: Clock, record: Record
) -> tuple[list[AbstractAsyncContextManager[None]], dict[str, str]]:
    """Start what serves; what is left to start (the clients), and the endpoints."""
    clients: list[AbstractAsyncContextManager[None]] = []
    endpoints: dict[str, str] = {}
    if "karcher" in vendors:
        karcher = KarcherCloud(settings, clock, record)
        port = await stack.enter_async_context(serve(karcher.app(), settings.host, settings.karcher.port))
        endpoints |= karcher.endpoints(settings.host, port)
    if "ogmen" in vendors:
        ogmen = OgmenCloud(settings, clock, record)
        port = await stack.enter_async_context(serve(ogmen.app(), settings.host, settings.ogmen.port))
        endpoints |= ogmen.endpoints(settings.host, port)
        clients.append(ogmen.alerting())
    if "wayscloud" in vendors:
        settings, heard = await _with_broker(stack, settings)
        sensors = SensorFleet(settings, clock, record, heard)
        wayscloud = WaysCloud(settings, clock, sensors.sensors, sensors.store)
        port = await stack.enter_async_context(serve(wayscloud.app(), settings.host, settings.wayscloud.port))
        endpoints |= wayscloud.endpoints(settings.host, port)
        clients.append(sensors.publishing())
    if "climasense" in vendors:
        if settings.climasense.keys_file is not None:
            write_keys(settings.climasense.keys_file, settings.climasense.devices, settings.seed)
        clients.append(ClimaSenseFleet(settings, clock, record).posting())
    return clients, endpoints


async def _with_broker(
    stack: AsyncExitStack, settings: SimulatorSettings
) -> tuple[SimulatorSettings, asyncio.Event | None]:
    """Start the embedded broker, if one is wanted; the settings with its port, and when it has a subscriber."""
    wayscloud = settings.wayscloud
    if not wayscloud.embedded_broker:
        return settings, None
    secret = wayscloud.mqtt_password
    password = secret.get_secret_value() if secret is not None else None
    heard = asyncio.Event()
    port = await stack.enter_async_context(
        run_mqtt_broker(wayscloud.mqtt_host, wayscloud.mqtt_port, wayscloud.mqtt_username, password, heard)
    )
    return settings.model_copy(update={"wayscloud": wayscloud.model_copy(update={"mqtt_port": port})}), heard


async def _first(begin: asyncio.Event, stop: asyncio.Event) -> bool:
    """Wait for either; whether it was ``begin``."""
    waits = [asyncio.create_task(event.wait()) for event in (begin, stop)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return not stop.is_set()
