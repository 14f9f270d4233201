"""Starts the simulated WAYSCloud: the MQTT broker if it is to be embedded, the REST API, and the sensors."""

import asyncio
from contextlib import AsyncExitStack

from simulators.net import serve
from simulators.settings import SimulatorSettings
from simulators.wayscloud.broker import BrokerOptions, run_mqtt_broker
from simulators.wayscloud.cloud import WaysCloud
from simulators.wayscloud.publisher import SensorFleet
from simulators.world import Running, World


async def start(stack: AsyncExitStack, world: World) -> Running:
    """See `simulators.world.Start`.

    Sensors on the embedded broker also wait for its first subscriber, so that nothing is published that nobody
    receives.
    """
    settings, subscribed = await _with_broker(stack, world.settings)
    sensors = SensorFleet(settings, world.clock, world.record, subscribed)
    cloud = WaysCloud(settings, world.clock, sensors.sensors, sensors.store)
    port = await stack.enter_async_context(serve(cloud.app(), settings.host, settings.wayscloud.port))
    return Running(cloud.endpoints(settings.host, port), [sensors.publishing()])


async def _with_broker(
    stack: AsyncExitStack, settings: SimulatorSettings
) -> tuple[SimulatorSettings, asyncio.Event | None]:
    """Start the embedded broker, if one is wanted; the settings with its port, and when it has a subscriber."""
    wayscloud = settings.wayscloud
    if not wayscloud.embedded_broker:
        return settings, None
    secret = wayscloud.mqtt_password
    password = secret.get_secret_value() if secret is not None else None
    subscribed = asyncio.Event()
    port = await stack.enter_async_context(
        run_mqtt_broker(
            BrokerOptions(wayscloud.mqtt_host, wayscloud.mqtt_port, wayscloud.mqtt_username, password), subscribed
        )
    )
    return settings.model_copy(update={"wayscloud": wayscloud.model_copy(update={"mqtt_port": port})}), subscribed
