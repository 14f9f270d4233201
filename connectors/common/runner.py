"""Runs the connectors of the chosen vendors side by side in one process."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, Protocol

from pydantic import BaseModel

from connectors.common.byte_budget import ByteBudget
from connectors.common.clock import utc_now
from connectors.common.connection_log import connection_summaries
from connectors.common.context import Context
from connectors.common.coverage import CoverageReporter
from connectors.common.device_ownership import DeviceOwnership
from connectors.common.ownership_leases import OwnershipLeases
from connectors.common.publisher import Publisher
from connectors.common.registry_topic import KafkaRegistryTopic
from runtime.backoff import Backoff
from runtime.errors import StageError
from runtime.health import Health
from runtime.kafka import KafkaSettings
from runtime.locks import lowest_free_number
from runtime.resources import Resources
from schemas.redact import mask
from schemas.vendors import RegistrationError, vendors

_log = logging.getLogger(__name__)

_STABLE_SECONDS = 60.0


class Connector(Protocol):
    """A vendor's connector. `run` goes on until it is cancelled and raises only what it cannot handle itself."""

    async def run(self) -> None:
        """Go on until cancelled."""


def make_connector(vendor: str, settings: BaseModel, context: Context) -> Connector:
    """The connector of a vendor; KeyError for an unknown one, RegistrationError where it cannot be loaded."""
    connector: Connector = vendors()[vendor].load("connector")(settings, context)
    return connector


async def run_connectors(
    vendor_settings: Mapping[str, BaseModel],
    kafka: KafkaSettings,
    resources: Resources,
    stop: asyncio.Event,
    health: Health,
) -> None:
    """Connect the vendors to the raw topics until `stop`.

    A connector that fails is restarted with back-off and stops no other. Raises only where a defect ends publishing;
    while Kafka is merely away, the connectors wait. On `stop`, the sources are closed first; then the messages taken
    from them are delivered.

    Half of the bytes that the process may hold are for messages before they are read, a quarter for those on their way
    to Kafka; the rest is for reading them.
    """
    state_dir = resources.data_dir / "state"
    publisher = Publisher(kafka, max_buffered_bytes=resources.buffer_bytes // 4)
    intake = ByteBudget(resources.buffer_bytes // 2)
    health.ready.append(lambda: publisher.problem)
    health.live.append(lambda: publisher.defect)
    health.details["connections"] = connection_summaries
    await publisher.start()
    tasks, services = [], []
    with ExitStack() as names:
        for vendor, settings in vendor_settings.items():
            ownership = DeviceOwnership()
            if vendors()[vendor].owned_devices:
                ownership = OwnershipLeases(vendor, kafka, state_dir)
                services.append(asyncio.create_task(ownership.run(), name=f"{vendor} ownership"))
            number = names.enter_context(lowest_free_number(state_dir, f"coverage-{vendor}"))
            coverage = CoverageReporter(vendor, f"{socket.gethostname()}-{number}", publisher, kafka, utc_now)
            services.append(asyncio.create_task(coverage.run(), name=f"{vendor} coverage"))
            registry = KafkaRegistryTopic(kafka)
            context = Context(publisher, state_dir, Health(vendor), ownership, registry, coverage, intake)
            health.ready.append(partial(_problems, context.health))
            health.ready.append(partial(_ownership_problem, vendor, ownership))
            tasks.append(asyncio.create_task(_supervise(vendor, settings, context), name=vendor))
        waiting = asyncio.create_task(stop.wait())
        broken = asyncio.create_task(publisher.broken())
        try:
            done, _ = await asyncio.wait({waiting, broken, *tasks, *services}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(*tasks, waiting, broken)
            await _cancel(*services)  # leaves the groups: only now may others connect to the devices
            await publisher.stop()


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ownership_problem(vendor: str, ownership: DeviceOwnership) -> str | None:
    return None if ownership.is_known else f"{vendor}: waiting to learn which devices this process owns"


def _problems(health: Health) -> str | None:
    return "; ".join(health.ready_problems()) or None


async def _supervise(vendor: str, settings: BaseModel, context: Context) -> None:
    """Run a vendor's connector and restart it whenever it fails. The same failure is logged once."""
    backoff = Backoff(base=1.0, cap=60.0)
    last = ""
    while True:
        started = time.monotonic()
        context.health.ready.clear()
        try:
            await make_connector(vendor, settings, context).run()
        except Exception as error:  # whatever it is, it concerns this vendor only
            text = _explain(error)
            if text != last:
                _log.error("%s: the connector failed and is restarted: %s", vendor, text)
            last = text
        context.coverage.stopped()
        context.health.ready[:] = [lambda: f"{vendor}: the connector failed and waits for its restart"]
        if time.monotonic() - started > _STABLE_SECONDS:
            backoff.reset()
            last = ""
        await asyncio.sleep(backoff.next(random.random()))


def _explain(error: BaseException) -> str:
    """A sentence for a known reason, a masked traceback for a defect. Texts of exceptions may contain URLs, and
    Kärcher's URLs contain the token.
    """
    known = error
    while isinstance(known, BaseExceptionGroup) and len(known.exceptions) == 1:
        known = known.exceptions[0]
    if isinstance(known, StageError | RegistrationError):
        return str(known)
    return mask("".join(traceback.format_exception(error)))
