"""Ogmen's robots post alerts to a webhook, each until it is acknowledged."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from runtime.backoff import Backoff
from simulators.net import Clock
from simulators.ogmen import payloads
from simulators.ogmen.payloads import OroRobot
from simulators.ogmen.robots import RobotFleet
from simulators.settings import SimulatorSettings
from simulators.wire import encode

log = logging.getLogger(__name__)

ALERT_ATTEMPTS, FIRST_WAIT, LONGEST_WAIT = 12, 0.5, 15.0


class AlertPoster:
    """Posts the alerts of all robots."""

    def __init__(self, fleet: RobotFleet, settings: SimulatorSettings, clock: Clock) -> None:
        self._fleet = fleet
        self._settings = settings.ogmen
        self._clock = clock

    @asynccontextmanager
    async def posting(self) -> AsyncIterator[None]:
        """Post alerts while the block lasts, if there is a webhook to post to."""
        if self._settings.webhook_url is None:
            yield
            return
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._run(oro, session)) for oro in self._fleet.robots]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def _run(self, oro: OroRobot, session: aiohttp.ClientSession) -> None:
        every = self._settings.alert_seconds
        started = self._clock()
        for number in itertools.count(int(started // every)):
            moment = payloads.alert_time(oro, number, every)
            if moment >= started:
                await asyncio.sleep(max(0.0, moment - self._clock()))
                await self._post(oro, payloads.alert(oro, number, every), session)

    async def _post(self, oro: OroRobot, alert: dict[str, Any], session: aiohttp.ClientSession) -> None:
        """Post an alert until it is acknowledged: the same body, the same uuid."""
        body, backoff = self._body(oro, alert), Backoff(FIRST_WAIT, LONGEST_WAIT)
        for attempt in range(1, ALERT_ATTEMPTS + 1):
            if await self._is_accepted(session, oro, body):
                detail = {key: alert[key] for key in ("uuid", "severity", "source", "header")}
                self._fleet.faults[oro.device_id].note("alert", self._clock(), attempts=attempt, **detail)
                if self._settings.alert_repeats:
                    await self._is_accepted(session, oro, self._body(oro, alert | {"uuid": alert["uuid"].upper()}))
                return
            await asyncio.sleep(backoff.next(random=1.0))
        log.warning("alert %s of %s was never acknowledged", alert["uuid"], oro.device_id)

    def _body(self, oro: OroRobot, alert: dict[str, Any]) -> bytes:
        return encode(self._fleet.with_leaks(oro, alert))

    async def _is_accepted(self, session: aiohttp.ClientSession, oro: OroRobot, body: bytes) -> bool:
        url = str(self._settings.webhook_url).replace("{device_id}", quote(oro.device_id, safe=""))
        headers = {
            "X-Webhook-Secret": self._settings.webhook_secret.get_secret_value(),
            "Content-Type": "application/json",
        }
        try:
            async with session.post(url, data=body, headers=headers) as response:
                return 200 <= response.status < 300
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False
