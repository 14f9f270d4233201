"""Starts the simulated Kärcher cloud."""

from contextlib import AsyncExitStack

from simulators.karcher.cloud import KarcherCloud
from simulators.net import serve
from simulators.world import Running, World


async def start(stack: AsyncExitStack, world: World) -> Running:
    """See `simulators.world.Start`."""
    settings = world.settings
    cloud = KarcherCloud(settings, world.clock, world.record)
    port = await stack.enter_async_context(serve(cloud.app(), settings.host, settings.karcher.port))
    return Running(cloud.endpoints(settings.host, port))
