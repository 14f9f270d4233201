"""The robots of the configuration and of its accounts; those that this process owns, with what is known of them."""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import datetime

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.publisher import Publisher
from connectors.common.vanished_devices import VanishedDevices
from connectors.ogmen import protocol
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.robot import Robot
from connectors.ogmen.settings import OgmenSettings
from schemas.device import device_id
from schemas.json_reading import NotJson
from schemas.wire import Device, encode

_CONFIGURATION = ""
"""Stands for the configuration among the accounts."""


class RobotRegistry:
    """Takes up the robots that this process owns, and lets go those that it owns no more or that no account has."""

    def __init__(self, settings: OgmenSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._by_account: dict[str, Set[str]] = {_CONFIGURATION: set(settings.devices)}
        self._partial: set[str] = set()
        """Accounts whose list has an entry that names no robot."""
        self._vanished = VanishedDevices(VENDOR, context)
        self._lapsed: dict[str, datetime] = {}
        self.robots: dict[str, Robot] = {}
        """The owned robots by their native id."""

    @property
    def publisher(self) -> Publisher:
        """Where the robots' records go."""
        return self._context.publisher

    def set_account(self, account: str, native_ids: Set[str], is_whole: bool = True) -> None:
        """Take over which robots an account has now. Where its list is not whole, no robot is missing in it."""
        self._by_account[account] = native_ids if is_whole else native_ids | self._by_account.get(account, set())
        (self._partial.discard if is_whole else self._partial.add)(account)
        self.update()

    def update(self) -> None:
        """Adjust `robots` to the accounts and to the owned devices."""
        ownership = self._context.ownership
        known = set().union(*self._by_account.values())
        owned = {native_id for native_id in known if ownership.owns(device_id(VENDOR, native_id))}
        lapsed = ownership.take_lapsed()
        for native_id in owned - self.robots.keys():
            self.robots[native_id] = self._load(native_id)
            if (until := lapsed.get(ownership.partition(device_id(VENDOR, native_id)))) is not None:
                self._lapsed[native_id] = until
        for native_id in self.robots.keys() - owned:
            del self.robots[native_id]

    def take_lapsed(self, native_id: str) -> datetime | None:
        """Until when another process, or the one before this, held a robot; asked once, before it is connected."""
        return self._lapsed.pop(native_id, None)

    def is_private(self, native_id: str) -> bool:
        """Whether a robot's privacy mode is on. That of another process's robot cannot be known here: it counts as on
        where privacy modes are read at all.
        """
        robot = self.robots.get(native_id)
        if robot is None and any(native_id in known for known in self._by_account.values()):
            robot = self._load(native_id)
        return robot is not None and robot.gate.hides()

    async def publish_configured(self) -> None:
        """Publish the owned robots by their ids only: without REST, the configuration is the registry."""
        for robot in list(self.robots.values()):
            device = Device(device_id=robot.device, vendor=VENDOR, updated_at=utc_now())
            await self._context.publisher.publish_device(device)
            self._vanished.note(device)

    async def publish(self, robot: Robot, entries: Iterable[bytes], received_at: datetime) -> None:
        """Publish what the entries say about the robot, where that has changed."""
        for entry in entries:
            try:
                device = protocol.device_record(entry, robot.native_id, received_at)
            except NotJson:  # the reader of the endpoint made a dead letter of it
                continue
            content = encode([device.model, device.serial_number, device.firmware_version, device.attributes])
            if robot.registered != content:
                await self._context.publisher.publish_device(device)
                robot.registered = content
                self._vanished.note(device)

    async def publish_vanished(self) -> None:
        """Publish as unregistered the owned robots that neither the configuration nor an account has any more.

        Nothing is known of that before each account was read once, or while a list is not whole.
        """
        if not self._partial and all(account in self._by_account for account in self._settings.accounts):
            known = set().union(*self._by_account.values())
            await self._vanished.publish({device_id(VENDOR, native_id) for native_id in known})

    def _load(self, native_id: str) -> Robot:
        robot = Robot.load(native_id, self._settings.sampling, self._context.state_dir)
        if not (self._settings.api_url and self._settings.privacy_path):
            robot.gate.observe(False, utc_now())  # there is no way to read the privacy mode
        return robot
