"""The live page as a process: it reads the published tables, follows the topics, and serves browsers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alarm_service.settings import AlarmsSettings
from alarm_service.store.database import AlarmDatabase, alarm_database
from runtime.errors import StageError
from runtime.health import Health
from runtime.http_limits import ServerLimits
from runtime.http_server import serving
from sinks.duckdb.confinement import QueryLimits
from ui.app import LOOPBACK, make_app
from ui.ask.processes import QueryProcesses
from ui.backend import Backend
from ui.live.hub import Hub
from ui.live.reader import FindKafka, TopicReader
from ui.live.stream import LiveStream
from ui.sessions import Sessions, Viewer
from ui.settings import UiSettings
from ui.stages import Stages
from ui.tables import Connect, PublishedTables
from ui.tools import UiTools

_log = logging.getLogger(__name__)

SERVED = "ui"


@dataclass(frozen=True)
class UiConfig:
    """What the page is configured with. `connect` opens the published tables of the data folder."""

    settings: UiSettings
    alarms: AlarmsSettings
    data: Path
    connect: Connect
    find_kafka: FindKafka
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tools: UiTools = field(default_factory=UiTools)


async def run_ui(config: UiConfig, stop: asyncio.Event, health: Health) -> None:
    """Serve until `stop`. StageError where the port is taken, the keys cannot be read, or sign-in must be on."""
    settings = config.settings
    if not settings.sign_in and settings.host not in LOOPBACK:
        raise StageError(f"[ui] sign_in = false needs a loopback address as host, not {settings.host}")
    keys = await asyncio.to_thread(alarm_database, config.alarms, config.data) if settings.sign_in else None
    hub = Hub()
    reader = TopicReader(config.find_kafka, hub, settings.action_seconds)
    tables = PublishedTables(config.connect, config.data / "fleet.duckdb")
    query_limits = QueryLimits(settings.query_seconds, settings.query_rows, settings.query_megabytes)
    queries = QueryProcesses(config.connect, config.data, query_limits)
    stream = LiveStream(hub, reader, tables)
    backend = Backend(settings, tables, hub, reader, Stages(config.data), queries, config.groups, config.tools)
    app = make_app(backend, Sessions(_FindKey(keys), settings.session_hours * 3600), stream)
    limits = ServerLimits(certificate_file=settings.certificate_file, key_file=settings.key_file)
    try:
        async with serving(app, settings.host, settings.port, SERVED, limits) as port, asyncio.TaskGroup() as group:
            _log.info("ui: open %s", settings.url(port))
            tasks = [group.create_task(reader.run()), group.create_task(stream.run())]
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        queries.close()
        tables.close()
        if keys is not None:
            keys.close()


class _FindKey:
    """Looks keys up in the alarm service's database, in a thread."""

    def __init__(self, keys: AlarmDatabase | None) -> None:
        self._keys = keys

    async def __call__(self, key: str) -> Viewer | None:
        if self._keys is None:
            return None
        info = await asyncio.to_thread(self._keys.keys.find, key)
        return None if info is None else Viewer(info.name, info.role)
