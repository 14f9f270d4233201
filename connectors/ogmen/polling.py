"""When the states and logs of the robots are read."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable

from connectors.ogmen.cloud import Cloud
from connectors.ogmen.endpoint_reader import EndpointReader
from connectors.ogmen.endpoints import BATTERY, INSIGHT, LOGS, PRIVACY, SLOW_STATES, Endpoint
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings


class RestPoller:
    """Reads every robot's states and logs until cancelled.

    A reading that fails stops no other. While the API does not answer at all, it is probed with single requests.
    """

    def __init__(self, settings: OgmenSettings, cloud: Cloud, registry: RobotRegistry, reader: EndpointReader) -> None:
        self._settings = settings
        self._cloud = cloud
        self._registry = registry
        self._reader = reader
        self._requests = asyncio.Semaphore(settings.concurrent_requests)
        self._locks: dict[str, asyncio.Lock] = {}
        self._missed: set[str] = set()
        self._missed_some = asyncio.Event()

    async def run(self) -> None:
        """Read until cancelled."""
        settings = self._settings
        logs, slow = (*LOGS, INSIGHT), SLOW_STATES
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(settings.state_seconds, lambda: self._read_all((PRIVACY, BATTERY))))
            tasks.create_task(repeat(settings.log_seconds, lambda: self._read_all(logs)))
            tasks.create_task(repeat(settings.slow_seconds, lambda: self._read_all(slow)))
            tasks.create_task(self._run_resynchronisation())

    async def ownership_changed(self) -> None:
        """Nothing to do: the next readings are those of the owned robots."""

    def resynchronise(self, robot: Robot) -> None:
        """Have a robot's states and logs read at once, because its messages may have been missed."""
        self._missed.add(robot.native_id)
        self._missed_some.set()

    async def read_privacy(self, robot: Robot) -> None:
        """Read a robot's privacy mode unless it is known, before its first position is taken."""
        if robot.gate.on is None:
            await self._read_robot(robot, (PRIVACY,))

    async def _run_resynchronisation(self) -> None:
        while True:
            await self._missed_some.wait()
            self._missed_some.clear()
            missed, self._missed = self._missed, set()
            robots = [self._registry.robots[n] for n in missed if n in self._registry.robots]
            await self._read_each(robots, (PRIVACY, BATTERY, *LOGS))

    async def _read_all(self, endpoints: Iterable[Endpoint]) -> None:
        await self._read_each(list(self._registry.robots.values()), tuple(endpoints))

    async def _read_each(self, robots: list[Robot], endpoints: tuple[Endpoint, ...]) -> None:
        if self._cloud.is_down and robots:
            await self._read_robot(random.choice(robots), endpoints[:1], probing=True)
        await asyncio.gather(*(self._read_robot(robot, endpoints) for robot in robots))

    async def _read_robot(self, robot: Robot, endpoints: tuple[Endpoint, ...], probing: bool = False) -> None:
        """Read one robot's endpoints in turn. Readings of a robot never overlap, or both would publish the same."""
        lock = self._locks.setdefault(robot.native_id, asyncio.Lock())
        async with lock, self._requests:
            if robot.gate.on is None and PRIVACY not in endpoints:
                endpoints = (PRIVACY, *endpoints)
            for endpoint in endpoints:
                if self._cloud.is_down and not probing:
                    break
                await self._reader.read(robot, endpoint)
            await robot.save()


class WithoutRest:
    """Stands in for `RestPoller` where no REST API is configured."""

    def __init__(self, registry: RobotRegistry) -> None:
        self._registry = registry

    async def ownership_changed(self) -> None:
        """Publish the owned robots: without REST, the configuration is the registry."""
        await self._registry.publish_configured()

    def resynchronise(self, robot: Robot) -> None:
        """There is nothing to read."""

    async def read_privacy(self, robot: Robot) -> None:
        """There is nothing to read; `RobotRegistry` takes the privacy mode for off."""


async def repeat(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work until cancelled, every `seconds` from one beginning to the next, with 5 % jitter."""
    while True:
        started = time.monotonic()
        await work()
        due = started + seconds * (0.95 + random.random() / 10)
        await asyncio.sleep(max(0.05 * seconds, due - time.monotonic()))
