"""Devices that are registered and that their vendor no longer lists."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection

import msgspec
from aiokafka.errors import KafkaError

from connectors.common.clock import utc_now
from connectors.common.context import Context
from schemas.wire import Device

_log = logging.getLogger(__name__)


class VanishedDevices:
    """Publishes as unregistered the owned devices that are registered and that their vendor no longer lists.

    The registered devices are read from the topic at the start, and whenever the owned devices change, so that a device
    that vanished while nobody looked is noticed. Where the topic cannot be read, that is done with the next list.
    """

    def __init__(self, vendor: str, context: Context) -> None:
        self._vendor = vendor
        self._context = context
        self._registered: dict[str, Device] = {}
        self._noted: dict[str, Device] = {}
        """Devices that were published since the last reading of the topic, which it may not have shown."""
        self._version: int | None = None
        """The version of the ownership at the last reading of the topic."""
        self._lock = asyncio.Lock()

    def note(self, device: Device) -> None:
        """Take note of a device that was published as registered."""
        self._registered[device.device_id] = self._noted[device.device_id] = device

    async def publish(
        self, listed: Collection[str], is_gone: Callable[[Device], Awaitable[bool]] | None = None
    ) -> list[str]:
        """Publish the registered devices that are not among `listed`, as unregistered; their ids.

        `is_gone` has the last word on each, and may raise: then the device stays registered for now.
        """
        async with self._lock:
            await self._read_topic()
            gone = []
            for device in [each for name, each in self._registered.items() if name not in listed]:
                name = device.device_id
                if not self._context.ownership.owns(name) or (is_gone is not None and not await is_gone(device)):
                    continue
                unregistered = msgspec.structs.replace(device, registered=False, updated_at=utc_now())
                await self._context.publisher.publish_device(unregistered)
                del self._registered[name]
                self._noted.pop(name, None)
                gone.append(name)
                _log.info("%s: %s is registered no more: %s does not list it", self._vendor, name, self._vendor)
            return gone

    async def _read_topic(self) -> None:
        version = self._context.ownership.version
        if version == self._version:
            return
        try:
            registered = await self._context.registry.registered(self._vendor)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.warning("%s: the registry topic cannot be read yet: %r", self._vendor, error)
            return
        self._registered = registered | self._noted
        self._noted = {}
        self._version = version
