"""The alarm service as a process: the database, topic ingest, the HTTP server and notifications."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alarm_service.action_publisher import ActionPublisher
from alarm_service.api.app import AlarmApi
from alarm_service.api.backend import Backend
from alarm_service.api.notifications import NotificationEndpoints
from alarm_service.notify.delivery_planner import DeliveryPlanner
from alarm_service.notify.dispatcher import Dispatcher
from alarm_service.notify.outbox import Outbox
from alarm_service.notify.policies import Memberships
from alarm_service.notify.settings import NotifySettings
from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import AlarmDatabase, alarm_database
from alarm_service.topic_ingest import NEW_TOPIC_ADVICE, TopicIngest
from runtime.errors import StageError
from runtime.health import Health
from runtime.http_server import serving
from runtime.kafka import KafkaSettings, client_options
from runtime.topic_ids import topic_states
from runtime.topic_watch import TopicWatch, Watcher
from schemas.topics import ALARMS, RULES

_log = logging.getLogger(__name__)

SERVED = "alarms"
TopicsReady = Callable[[], Awaitable[bool]]
"""Waits until Kafka answers and the topics exist; False if the process is to end instead."""

_FORGET_SECONDS = 3600.0
_WATCHER = Watcher("the alarm service", StageError, NEW_TOPIC_ADVICE, "starting again to read the new ones")


async def topics_exist() -> bool:
    """The `TopicsReady` of whoever has declared the topics already."""
    return True


@dataclass(frozen=True)
class AlarmServiceConfig:
    """What the service is configured with. `data` is the data folder."""

    settings: AlarmsSettings
    kafka: KafkaSettings
    data: Path
    notify: NotifySettings = field(default_factory=NotifySettings)
    members: Memberships = field(default_factory=Memberships)


async def run_alarms(
    config: AlarmServiceConfig, stop: asyncio.Event, health: Health, topics_ready: TopicsReady = topics_exist
) -> None:
    """Serve and notify until `stop`. The topics are read once `topics_ready` answers true.

    Until then, and whenever Kafka does not answer, requests are answered from the database, and changes are refused
    with 503. StageError where the port is taken, the database cannot be used, or Kafka's log does not match it. Any
    other failure ends the process; the next one continues where the database is.
    """
    settings, client = config.settings, client_options(config.kafka)
    planner = DeliveryPlanner(config.notify, config.members, _now)
    database = await asyncio.to_thread(alarm_database, settings, config.data, planner.add)
    publisher, ingest = ActionPublisher(client, settings.action_seconds), TopicIngest(client, database)
    try:
        dispatcher = Dispatcher(Outbox(database.engine, config.notify, _now), config.notify)
        health.ready.append(ingest.problem)
        backend = Backend(database, ingest, publisher, settings.action_seconds)
        notifications = NotificationEndpoints(config.notify, database.engine).handlers()
        app = AlarmApi(backend, notifications, settings.max_body_bytes).app()
        async with serving(app, settings.host, settings.port, SERVED, settings) as port, asyncio.TaskGroup() as group:
            _log.info("alarms: %s://%s:%d/v1/iot/alarms", settings.scheme, settings.host, port)
            tasks = [
                group.create_task(_ingest(ingest, publisher, config.kafka, topics_ready)),
                group.create_task(dispatcher.run()),
                group.create_task(_wake(ingest, dispatcher)),
                group.create_task(_forget(database, timedelta(days=settings.keep_days))),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        await ingest.stop()
        await publisher.stop()
        database.close()


async def _ingest(
    ingest: TopicIngest, publisher: ActionPublisher, kafka: KafkaSettings, topics_ready: TopicsReady
) -> None:
    if not await topics_ready():
        return
    await publisher.start()
    states = await topic_states(kafka, [ALARMS, RULES])
    await ingest.check_topic(states[ALARMS].id)
    watch = TopicWatch(client_options(kafka), states, _WATCHER)
    async with asyncio.TaskGroup() as group:
        group.create_task(watch.run())
        group.create_task(ingest.run({topic: await publisher.partitions(topic) for topic in (ALARMS, RULES)}))


async def _wake(ingest: TopicIngest, dispatcher: Dispatcher) -> None:
    while True:
        await ingest.wait_until_stored(60)
        dispatcher.wake()


async def _forget(database: AlarmDatabase, keep: timedelta) -> None:
    while True:
        count = await asyncio.to_thread(database.alarms.forget_resolved, _now() - keep)
        if count:
            _log.info("alarms: deleted %d alarms that were resolved more than %d days ago", count, keep.days)
        await asyncio.sleep(_FORGET_SECONDS)


def _now() -> datetime:
    return datetime.now(UTC)
