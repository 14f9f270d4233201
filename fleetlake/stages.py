"""The stages that processes run: each a coroutine made from the settings."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import BaseModel

from fleetlake.config import Settings, chosen_vendors
from fleetlake.errors import UserError
from fleetlake.hints import command
from fleetlake.local.broker import find_bootstrap
from runtime.errors import StageError
from runtime.health import Health
from runtime.kafka import KafkaSettings, client_options, declare_topics, wait_for_kafka
from runtime.log import configure_logging
from runtime.private_files import set_umask
from runtime.process import HealthOptions, Stage, run_stage
from runtime.resources import Resources
from runtime.tracing import start_tracing, stop_tracing
from schemas.topics import topic_specs

if TYPE_CHECKING:
    from ui.tools import UiTools

log = logging.getLogger(__name__)


def resolve_kafka(settings: Settings) -> KafkaSettings:
    """Kafka as configured, else the embedded broker that runs on the data folder. UserError where there is none."""
    kafka = settings.kafka
    if kafka.bootstrap_servers:
        return kafka
    bootstrap = find_bootstrap(settings.pipeline.data)
    if bootstrap is None:
        raise UserError(
            "no Kafka: set bootstrap_servers in [kafka], or start "
            f"`{command('broker', '--data', settings.pipeline.data)}` first"
        )
    return kafka.model_copy(update={"bootstrap_servers": bootstrap})


async def topics_ready(kafka: KafkaSettings, stop: asyncio.Event) -> bool:
    """Wait for Kafka and declare the topics that are missing; False if `stop` came first."""
    if not await wait_for_kafka(client_options(kafka), stop):
        return False
    await declare_topics(kafka, topic_specs())
    return True


def _resources(settings: Settings) -> Resources:
    return Resources(settings.pipeline.data, settings.pipeline.buffer_megabytes << 20)


def connect_stage(settings: Settings, names: list[str]) -> Stage:
    """The connectors of the named vendors in one process."""
    from connectors.common.runner import run_connectors

    vendors = chosen_vendors(settings, names)
    sections: Mapping[str, BaseModel] = {name: settings.vendor(name) for name in vendors}
    kafka = resolve_kafka(settings)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        # Concurrently: while Kafka does not answer, the connectors' servers answer 503 rather than not at all.
        declaring = asyncio.create_task(topics_ready(kafka, stop))
        try:
            await run_connectors(sections, kafka, _resources(settings), stop, health)
        finally:
            declaring.cancel()

    return stage


def stream_stage(settings: Settings) -> Stage:
    """One Faust worker."""
    from streams.worker import run_worker

    kafka = resolve_kafka(settings)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        if await topics_ready(kafka, stop):
            await run_worker(settings.stream, kafka, _resources(settings), stop, health)

    return stage


def sink_stage(settings: Settings, names: list[str]) -> Stage:
    """One sink, or both side by side in one process."""
    from sinks.delta.location import LakeLocation
    from sinks.delta.sink import DeltaSink
    from sinks.duckdb.sink import DuckDBSink

    kafka = resolve_kafka(settings) if "delta" in names else settings.kafka
    data = settings.pipeline.data
    lake = LakeLocation.of(data, settings.sink.delta)
    buffer_bytes = _resources(settings).buffer_bytes

    async def delta(stop: asyncio.Event, health: Health) -> None:
        if await topics_ready(kafka, stop):
            await DeltaSink(settings.sink.delta, kafka, data, buffer_bytes=buffer_bytes).run(stop, health)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        async with asyncio.TaskGroup() as group:
            if "delta" in names:
                group.create_task(delta(stop, health))
            if "duckdb" in names:
                group.create_task(DuckDBSink(settings.sink.duckdb, data, lake).run(stop, health))

    return stage


def alarms_stage(settings: Settings) -> Stage:
    """The alarm service."""
    from alarm_service.notify.policies import Memberships
    from alarm_service.service import AlarmServiceConfig, run_alarms

    kafka = resolve_kafka(settings)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        members = Memberships(settings.stream.groups, settings.stream.profiles)
        config = AlarmServiceConfig(settings.alarms, kafka, settings.pipeline.data, settings.notify, members)
        await run_alarms(config, stop, health, partial(topics_ready, kafka, stop))

    return stage


def ui_stage(settings: Settings, tools: UiTools) -> Stage:
    """The live page. It starts without Kafka too, and shows the tables until one answers."""
    from fleetlake.api import connect
    from ui.service import UiConfig, run_ui

    data = settings.pipeline.data

    def find_kafka() -> Mapping[str, Any] | None:
        bootstrap = settings.kafka.bootstrap_servers or find_bootstrap(data)
        if not bootstrap:
            return None
        return client_options(settings.kafka.model_copy(update={"bootstrap_servers": bootstrap}))

    options = settings.sink.delta.options() or None
    config = UiConfig(
        settings.ui,
        settings.alarms,
        data,
        partial(connect, data, options),
        find_kafka,
        settings.stream.groups,
        tools,
    )

    async def stage(stop: asyncio.Event, health: Health) -> None:
        await run_ui(config, stop, health)

    return stage


def sql_stage(settings: Settings) -> Stage:
    """The SQL server. It needs no Kafka, and starts before anything is published."""
    from fleetlake.api import connect
    from sql_server.server import SqlServerConfig, run_sql_server

    data = settings.pipeline.data
    opened = partial(connect, data, settings.sink.delta.options() or None)
    config = SqlServerConfig(settings.sql, settings.alarms, data, opened)

    async def stage(stop: asyncio.Event, health: Health) -> None:
        await run_sql_server(config, stop, health)

    return stage


def simulate_stage(settings: Settings, vendor: str) -> Stage:
    """The simulated clouds of one vendor or of all."""
    from simulators.runner import run_simulators, simulated_vendors

    known = simulated_vendors()
    if vendor != "all" and vendor not in known:
        raise UserError(f"unknown vendor {vendor!r}; known are {', '.join(known)} and all")
    vendors = known if vendor == "all" else [vendor]

    def ready(endpoints: dict[str, str]) -> None:
        for name, url in endpoints.items():
            log.info("simulator: %s at %s", name, url)

    async def stage(stop: asyncio.Event, _: Health) -> None:
        await run_simulators(vendors, settings.simulate, stop, ready)

    return stage


def run_and_exit(settings: Settings, name: str, stage: Stage) -> NoReturn:
    """Run a stage as this process, then exit with its status."""
    pipeline = settings.pipeline
    set_umask(pipeline.umask)
    configure_logging(settings.log_options, name)
    options = HealthOptions(pipeline.health_host, pipeline.health_port, pipeline.watchdog_seconds)
    try:
        start_tracing(settings.tracing, name)
    except StageError as error:
        raise UserError(str(error)) from error
    code = run_stage(name, stage, options)
    stop_tracing()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)  # client libraries leave threads that would keep a failed process alive
