"""Starts the simulated ClimaSense devices, which post to a server of ours once it listens."""

from contextlib import AsyncExitStack

from simulators.climasense.devices import ClimaSenseFleet, write_keys
from simulators.world import Running, World


async def start(_: AsyncExitStack, world: World) -> Running:
    """See `simulators.world.Start`."""
    settings = world.settings
    if settings.climasense.url is None:
        raise ValueError("ClimaSense devices need climasense.url, the server they post to")
    if settings.climasense.keys_file is not None:
        write_keys(settings.climasense.keys_file, settings.climasense.devices, settings.seed)
    return Running(clients=[ClimaSenseFleet(settings, world.clock, world.record).posting()])
