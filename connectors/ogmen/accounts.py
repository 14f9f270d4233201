"""The robots of the configured accounts."""

from __future__ import annotations

from collections.abc import Callable

from connectors.common.context import utc_now
from connectors.common.http_client import VendorError
from connectors.ogmen import protocol
from connectors.ogmen.cloud import Cloud, loggable
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.polling import repeat
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.settings import OgmenSettings

_ENDPOINT = "account_devices"


class AccountReader:
    """Reads which robots each account has. An account that cannot be read keeps its robots, and stops no other.

    `on_change` is called after the registry has taken over the robots of an account.
    """

    def __init__(
        self,
        settings: OgmenSettings,
        cloud: Cloud,
        registry: RobotRegistry,
        failing: FailingEndpoints,
        on_change: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._cloud = cloud
        self._registry = registry
        self._failing = failing
        self._on_change = on_change

    async def run(self) -> None:
        """Read the accounts until cancelled."""
        if self._settings.accounts:
            await repeat(self._settings.account_seconds, self._read)

    async def _read(self) -> None:
        for number, account in enumerate(self._settings.accounts):
            name = f"account {number + 1}"  # its id must not be logged
            path = protocol.fill(self._settings.account_devices_path, account_id=account)
            try:
                entries = protocol.entries(await self._cloud.get(path, _ENDPOINT))
            except (VendorError, ValueError) as error:
                self._failing.failed(_ENDPOINT, name, loggable(error))
                continue
            self._failing.succeeded(_ENDPOINT, name)
            await self._take_over(account, entries)
        await self._registry.publish_vanished()

    async def _take_over(self, account: str, entries: list[bytes]) -> None:
        by_robot = {n: entry for entry in entries if (n := protocol.native_id_of(entry)) is not None}
        self._registry.set_account(account, by_robot.keys())
        self._on_change()
        for native_id, entry in by_robot.items():
            if (robot := self._registry.robots.get(native_id)) is not None:
                await self._registry.publish(robot, [entry], utc_now())
