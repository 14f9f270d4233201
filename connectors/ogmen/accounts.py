"""The robots of the configured accounts."""

from __future__ import annotations

from collections.abc import Callable

from connectors.common.clock import utc_now
from connectors.common.http_client import VendorError
from connectors.common.unusable_answers import UnusableAnswers
from connectors.ogmen import protocol
from connectors.ogmen.account_data import unusable
from connectors.ogmen.cloud import Cloud, loggable
from connectors.ogmen.failing_endpoints import FailingEndpoints
from connectors.ogmen.polling import repeat
from connectors.ogmen.protocol import AnswerError
from connectors.ogmen.registry import RobotRegistry
from connectors.ogmen.settings import OgmenSettings
from schemas.wire import Problem

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
        """Dead letters of the accounts' answers go to the registry's publisher."""
        self._settings = settings
        self._cloud = cloud
        self._registry = registry
        self._failing = failing
        self._on_change = on_change
        self._unusable = UnusableAnswers(protocol.VENDOR, registry.publisher, unusable)

    async def run(self) -> None:
        """Read the accounts until cancelled."""
        if self._settings.accounts:
            await repeat(self._settings.account_seconds, self._read)

    async def _read(self) -> None:
        for number, account in enumerate(self._settings.accounts):
            name = f"account {number + 1}"  # its id must not be logged
            try:
                entries = await self._entries(account, name)
            except (VendorError, ValueError) as error:
                self._failing.failed(_ENDPOINT, name, loggable(error))
                continue
            self._failing.succeeded(_ENDPOINT, name)
            await self._take_over(account, entries)
        await self._registry.publish_vanished()

    async def _entries(self, account: str, name: str) -> list[bytes]:
        """The entries of an account's list. VendorError, or AnswerError and a dead letter."""
        path = protocol.fill(self._settings.account_devices_path, account_id=account)
        body = await self._cloud.get(path, _ENDPOINT)
        try:
            entries = protocol.entries(body)
        except AnswerError as error:
            await self._unusable.answer(_ENDPOINT, name, body, error)
            raise
        self._unusable.usable(name)
        return entries

    async def _take_over(self, account: str, entries: list[bytes]) -> None:
        """Take over an account's robots. Where an entry names none, it may be any of those that are missing."""
        by_robot: dict[str, bytes] = {}
        is_whole = True
        for entry in entries:
            if (native_id := protocol.native_id_of(entry)) is not None:
                by_robot[native_id] = entry
                continue
            is_whole = False
            await self._unusable.entry(_ENDPOINT, entry, Problem("device_id", "missing", "no device_id"))
        self._registry.set_account(account, by_robot.keys(), is_whole)
        self._on_change()
        for native_id, entry in by_robot.items():
            if (robot := self._registry.robots.get(native_id)) is not None:
                await self._registry.publish(robot, [entry], utc_now())
