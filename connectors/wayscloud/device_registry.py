"""The account's devices, read by REST: registry records, untimed values, health."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.http_client import VendorError
from connectors.common.read_message import ReadMessage
from connectors.common.vanished_devices import VanishedDevices
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.objects import VENDOR
from connectors.wayscloud.settings import WayscloudSettings
from schemas.device import device_id, split_device_id
from schemas.wire import Device, encode

_log = logging.getLogger(__name__)

_NEVER = float("-inf")


class DeviceRegistry:
    """Reads the account's devices, and publishes what changed since it was published last.

    The methods run periodically. Each raises VendorError or ValueError where the API does not answer as documented.
    """

    def __init__(
        self,
        settings: WayscloudSettings,
        context: Context,
        api: WayscloudApi,
        on_listed: Callable[[set[str]], None],
    ) -> None:
        """`on_listed` is called with the native ids of all devices whenever the list was read."""
        self._settings = settings
        self._context = context
        self._api = api
        self._on_listed = on_listed
        self._fields: dict[str, dict[str, Any]] = {}
        """All known members of each listed device, by native id."""
        self._read_at: dict[str, float] = {}
        """When each device was last read in full, on the loop's clock."""
        self._published_values: dict[str, dict[str, Any]] = {}
        self._published_records: dict[str, bytes] = {}
        self._memberships: dict[str, dict[str, Any]] = {}
        self._uncovered_topics: list[str] = []
        self._vanished = VanishedDevices(VENDOR, context)

    async def read_memberships(self) -> None:
        """Read groups and profiles, and publish the devices whose membership changed."""
        groups = await self._api.items("groups")
        profiles = [p | await self._api.read("profiles", str(p["id"])) for p in await self._api.items("profiles")]
        settings = self._settings
        self._memberships = objects.memberships(groups, profiles, settings.groups, settings.profiles)
        uncovered = objects.uncovered_topics(profiles, settings.topics)
        if uncovered and uncovered != self._uncovered_topics:
            _log.warning("wayscloud: no topic filter covers these topics of profiles: %s", ", ".join(uncovered))
        self._uncovered_topics = uncovered
        for native in list(self._fields):
            await self._publish_record(native)

    async def read_list(self) -> None:
        """Read the list of devices. One that it no longer holds, and that is not there, is registered no more."""
        items = await self._api.items("devices", "device_id")
        for item in items:
            await self._update(str(item["device_id"]), item)
        self._fields = {native: self._fields[native] for native in (str(item["device_id"]) for item in items)}
        self._on_listed(set(self._fields))
        for name in await self._vanished.publish({device_id(VENDOR, native) for native in self._fields}, self._is_gone):
            self._published_records.pop(split_device_id(name)[1], None)

    async def _is_gone(self, device: Device) -> bool:
        """Whether a device that the list lacks is gone. A list may be incomplete: it is paged while devices change."""
        try:
            await self._api.get("devices", split_device_id(device.device_id)[1])
        except VendorError as error:
            if error.status != 404:
                raise
            return True
        return False

    async def read_due_devices(self) -> None:
        """Read each device that was not read in full for `device_seconds`. The first problem is raised at the end."""
        now = asyncio.get_running_loop().time()
        due = [d for d in self._fields if now - self._read_at.get(d, _NEVER) >= self._settings.device_seconds]
        problem: Exception | None = None
        for native in due:
            try:
                await self._read_device(native)
            except (VendorError, ValueError) as error:
                if not isinstance(error, VendorError) or error.status != 404:  # deleted since it was listed
                    problem = problem or error
            self._read_at[native] = now
        if problem is not None:
            raise problem

    async def _read_device(self, native: str) -> None:
        fields = await self._api.read("devices", native)
        if not isinstance(fields.get("tags"), list):
            fields["tags"] = objects.tags(await self._api.get("devices", native, "tags"))
        await self._update(native, fields)
        device = device_id(VENDOR, native)
        health = await self._api.parsed(
            lambda body: objects.health(body, device, utc_now()), "devices", native, "health"
        )
        await self._context.settle(VENDOR, ReadMessage([health]))

    async def _update(self, native: str, fields: dict[str, Any]) -> None:
        """Merge a device object, brief or in full, and publish what it changes."""
        self._fields[native] = self._fields.get(native, {}) | fields | {"device_id": native}
        await self._publish_record(native)
        published = self._published_values.setdefault(native, {})
        if changed := objects.changed_values(fields, published):
            envelope = objects.device_values(changed, device_id(VENDOR, native), utc_now())
            await self._context.settle(VENDOR, ReadMessage([envelope]))
            published.update(changed)

    async def _publish_record(self, native: str) -> None:
        device = objects.device_record(self._fields[native], self._memberships.get(native, {}), utc_now())
        content = encode([device.name, device.model, device.firmware_version, device.attributes])
        if self._published_records.get(native) != content:
            await self._context.publisher.publish_device(device)
            self._published_records[native] = content
            self._vanished.note(device)
