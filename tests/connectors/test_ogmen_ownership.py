"""Several processes share Ogmen's robots: real consumer groups, sockets and REST."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from connectors.common.context import Context
from connectors.common.ownership_leases import OwnershipLeases
from connectors.common.publisher import Publisher
from connectors.ogmen.connector import OgmenConnector
from connectors.ogmen.settings import OgmenSettings
from runtime.kafka import KafkaSettings
from simulators.ogmen.payloads import Privacy
from tests.connectors.ogmen import cloud
from tests.connectors.ownership import of_its_own
from tests.support.tails import RawTail
from tests.support.waiting import eventually


@asynccontextmanager
async def process(
    settings: OgmenSettings, publisher: Publisher, kafka: KafkaSettings, folder: Path
) -> AsyncIterator[OgmenConnector]:
    ownership = OwnershipLeases("ogmen", kafka, folder)
    connector = OgmenConnector(settings, Context(publisher, folder, ownership=ownership))
    tasks = [asyncio.create_task(ownership.run()), asyncio.create_task(connector.run())]
    try:
        yield connector
    finally:
        for task in reversed(tasks):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_each_robot_is_held_once_and_its_privacy_is_honoured_by_all(
    publisher: Publisher, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    kafka = of_its_own(kafka_settings)
    async with cloud(devices=16, rate=1) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        ogmen.fleet.privacy |= {ids[0]: Privacy(True, 0.0)}
        settings = OgmenSettings(devices=ids, webhook_port=-1, state_seconds=0.5, **urls)

        def held() -> set[int]:
            return set(ogmen.sockets.channels.listeners().values())

        async with process(settings, publisher, kafka, tmp_path) as first:
            await eventually(lambda: held() == {1})
            async with process(settings, publisher, kafka, tmp_path) as second:
                await eventually(lambda: held() == {1} and 2 < len(second.registry.robots) < 14)
                assert not first.registry.robots.keys() & second.registry.robots.keys()
                # An alert may come to any process. One that does not hold the robot cannot tell, so it counts as on.
                await eventually(lambda: not all(each.registry.is_private(ids[1]) for each in (first, second)))
                assert first.registry.is_private(ids[0]) and second.registry.is_private(ids[0])
                assert not first.registry.is_private("a stranger")
            await eventually(lambda: held() == {1} and len(first.registry.robots) == 16)


async def test_the_first_reading_of_logs_does_not_miss_the_owned_robots(
    publisher: Publisher, kafka_settings: KafkaSettings, raw_tail: RawTail, tmp_path: Path
) -> None:
    raw = await raw_tail("ogmen")
    async with cloud(devices=2, rate=1) as (ogmen, urls):
        ids = [robot.device_id for robot in ogmen.fleet.robots]
        settings = OgmenSettings(devices=ids, webhook_port=-1, log_seconds=600, slow_seconds=600, **urls)
        async with process(settings, publisher, of_its_own(kafka_settings), tmp_path):
            await raw.envelopes(
                lambda found: (
                    {e.device_id for e in found if e.type == "ogmen.activity.log"} == {f"ogmen:{i}" for i in ids}
                )
            )
