"""The connector of Ogmen's robots: WebSockets, alert webhook, states and logs by REST."""

from __future__ import annotations

import asyncio
import logging

import aiohttp

from connectors.common.connection_state import Gap
from connectors.common.context import Context
from connectors.ogmen.accounts import AccountReader
from connectors.ogmen.cloud import Cloud
from connectors.ogmen.endpoint_reader import EndpointReader
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.polling import RestPoller, WithoutRest
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.settings import OgmenSettings
from connectors.ogmen.sockets import RobotSockets
from connectors.ogmen.webhook import WEBHOOK_NAME, AlertWebhook
from runtime.http_limits import ServerLimits
from runtime.http_server import serving

_log = logging.getLogger(__name__)


class OgmenConnector:
    """Keeps the robots' sockets, the webhook and the REST readings going until cancelled.

    Delivery: see `RobotSockets`, `AlertWebhook` and `EndpointReader`.
    """

    def __init__(self, settings: OgmenSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self.registry = RobotRegistry(settings, context)
        self.webhook_port = -1
        """The port of the webhook once it listens."""

    async def run(self) -> None:
        """Run until cancelled. StageError where the webhook's port is taken."""
        settings, context = self._settings, self._context
        timeout = aiohttp.ClientTimeout(total=settings.request_timeout_seconds)
        async with aiohttp.ClientSession(timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            if settings.webhook_port >= 0:
                tasks.create_task(self._serve_webhook())
            await context.ownership.until_known()  # so that the first round of REST reads the owned robots
            if settings.api_url:
                await self._run_with_rest(http, tasks)
            else:
                rest = WithoutRest(self.registry)
                sockets = RobotSockets(settings, context, self.registry, tasks, rest)
                await self._follow_ownership(sockets, rest)

    async def _run_with_rest(self, http: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        settings, context, registry = self._settings, self._context, self.registry
        cloud = Cloud(settings, http, self._publish_gap)
        failing = FailingEndpoints()
        reader = EndpointReader(settings, context, cloud, registry, failing)
        rest = RestPoller(settings, cloud, registry, reader)
        sockets = RobotSockets(settings, context, registry, tasks, rest)
        accounts = AccountReader(settings, cloud, registry, failing, sockets.reconcile)
        tasks.create_task(self._follow_ownership(sockets, rest))
        tasks.create_task(accounts.run())
        await rest.run()

    async def _follow_ownership(self, sockets: RobotSockets, rest: RestPoller | WithoutRest) -> None:
        """Take up the owned robots whenever they change, until cancelled."""
        ownership = self._context.ownership
        while True:
            version = ownership.version
            self.registry.update()
            sockets.reconcile()
            await self._context.coverage.listening()
            await rest.ownership_changed()
            await self.registry.publish_vanished()
            await ownership.changed(version)

    async def _publish_gap(self, gap: Gap) -> None:
        """The whole API was away, which concerns every robot."""
        robots = self.registry.robots.values()
        await self._context.publisher.publish_all([gap.envelope(robot.device) for robot in robots])

    async def _serve_webhook(self) -> None:
        settings = self._settings
        if settings.webhook_secret is None and settings.signature_secret is None:
            _log.warning("ogmen: neither webhook_secret nor signature_secret in [ogmen]: every alert is refused")
        app = AlertWebhook(settings, self._context, self.registry.is_private).app()
        files = {"certificate_file": settings.webhook_certificate_file, "key_file": settings.webhook_key_file}
        limits = ServerLimits.model_validate(files)
        where = settings.webhook_host, settings.webhook_port
        async with serving(app, *where, WEBHOOK_NAME, limits) as self.webhook_port:
            _log.info(
                "ogmen: robots may post to %s://%s:%d%s",
                limits.scheme,
                settings.webhook_host,
                self.webhook_port,
                settings.webhook_path,
            )
            await asyncio.Event().wait()
