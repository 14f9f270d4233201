"""The service's life: the store, what feeds it, the server that answers from it, and who is notified."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alarm_service.action_publisher import Publisher
from alarm_service.api import Api
from alarm_service.notify.dispatcher import Dispatcher
from alarm_service.notify.http import NotifyApi
from alarm_service.notify.outbox import Outbox
from alarm_service.notify.policies import Memberships
from alarm_service.notify.settings import NotifySettings
from alarm_service.settings import AlarmsSettings
from alarm_service.store import Store, open_store
from alarm_service.topic_ingest import Feed
from runtime.health import Health
from runtime.http_server import serving
from runtime.kafka import KafkaSettings, client_options
from schemas.topics import ALARMS, RULES

_log = logging.getLogger(__name__)

DATABASE = Path("state") / "alarms.db"
"""Where the database is in the data folder, unless `database_url` names another."""
SERVED = "alarms"
TopicsReady = Callable[[], Awaitable[bool]]
"""Waits until Kafka answers and the topics are there; False where the process is to end instead."""

_FORGET_SECONDS = 3600.0


async def run_alarms(
    settings: AlarmsSettings,
    kafka: KafkaSettings,
    data: Path,
    stop: asyncio.Event,
    health: Health,
    notify: NotifySettings | None = None,
    members: Memberships | None = None,
    topics_ready: TopicsReady | None = None,
) -> None:
    """Serve, and notify, until `stop`. Topics are read once `topics_ready` is true; without it they must exist.

    Until then, and whenever Kafka is away, what the store knows is told, and what takes Kafka is refused with 503.
    StageError where the port is taken, the database cannot be used, or Kafka's log does not go with it. Whatever else
    fails ends the process; the next one goes on where the store is.
    """
    client, notify = client_options(kafka), notify or NotifySettings()
    store = await asyncio.to_thread(store_of, settings, data)
    publisher, feed = Publisher(client, settings.action_seconds), Feed(client, store)
    try:
        outbox = outbox_of(store, notify, members)
        dispatcher = Dispatcher(outbox, notify)
        health.ready.append(feed.problem)
        app = Api(settings, store, feed, publisher, NotifyApi(notify, outbox).handlers()).app()
        async with serving(app, settings.host, settings.port, SERVED) as port, asyncio.TaskGroup() as group:
            _log.info("alarms: http://%s:%d/v1/iot/alarms", settings.host, port)
            tasks = [
                group.create_task(_follow(feed, publisher, topics_ready)),
                group.create_task(dispatcher.run()),
                group.create_task(_wake(feed, dispatcher)),
                group.create_task(_forget(store, timedelta(days=settings.keep_days))),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        await feed.stop()
        await publisher.stop()
        store.close()


async def _follow(feed: Feed, publisher: Publisher, topics_ready: TopicsReady | None) -> None:
    if topics_ready is not None and not await topics_ready():
        return
    await publisher.start()
    await feed.run({topic: await publisher.partitions(topic) for topic in (ALARMS, RULES)})


def store_of(settings: AlarmsSettings, data: Path) -> Store:
    """The store as configured. StageError where it cannot be opened."""
    url = settings.database_url
    return open_store(url.get_secret_value() if url is not None else None, data / DATABASE)


def outbox_of(store: Store, notify: NotifySettings, members: Memberships | None = None) -> Outbox:
    """The outbox beside the store's alarms, which from now on fills it."""
    outbox = Outbox(store.engine, notify, members or Memberships(), lambda: datetime.now(UTC))
    store.on_events = outbox.add
    return outbox


async def _wake(feed: Feed, dispatcher: Dispatcher) -> None:
    while True:
        await feed.wait_for_news(60)
        dispatcher.wake()


async def _forget(store: Store, keep: timedelta) -> None:
    while True:
        count = await asyncio.to_thread(store.forget_resolved, datetime.now(UTC) - keep)
        if count:
            _log.info("alarms: %d alarms resolved more than %d days ago are forgotten", count, keep.days)
        await asyncio.sleep(_FORGET_SECONDS)
