"""Starts the simulated Ogmen cloud; its robots post alerts once the product listens."""

from contextlib import AsyncExitStack

from simulators.net import serve
from simulators.ogmen.cloud import OgmenCloud
from simulators.world import Running, World


async def start(stack: AsyncExitStack, world: World) -> Running:
    """See `simulators.world.Start`."""
    settings = world.settings
    cloud = OgmenCloud(settings, world.clock, world.record)
    port = await stack.enter_async_context(serve(cloud.app(), settings.host, settings.ogmen.port))
    return Running(cloud.endpoints(settings.host, port), [cloud.alerts.posting()])
