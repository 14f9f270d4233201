"""The server that ClimaSense devices call: its life cycle, and its work beside answering."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from connectors.climasense.api import ClimaSenseApi, Stored
from connectors.climasense.command_events import CommandEvents
from connectors.climasense.delivery import Delivery
from connectors.climasense.keys import KeyRing
from connectors.climasense.protocol import VENDOR, device_record
from connectors.climasense.settings import ClimasenseSettings
from connectors.climasense.store.store import Store, open_store
from connectors.climasense.store.threads import StoreThreads
from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.state_file import StateFile
from runtime.http_server import serving
from runtime.metrics import CONNECTED
from schemas.timestamps import EPOCH
from schemas.wire import Device, encode

_log = logging.getLogger(__name__)

_CONNECTED_SECONDS = 300.0
"""How long a device counts as connected after a call."""
_COUNT_EVERY_SECONDS = 5.0
_AT_ONCE = 500
"""Records that are published together."""


class ClimasenseConnector:
    """Serves the devices' API (`connectors.climasense.api`) until cancelled.

    It also keeps the keys current, and publishes each device's record when the server starts and when an operator
    changed it.
    """

    def __init__(self, settings: ClimasenseSettings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._published: dict[str, bytes] = {}
        self._devices_changed = asyncio.Event()
        self.port = 0

    async def run(self) -> None:
        """Serve until cancelled; StageError where the port is taken or the database cannot be used."""
        store = StoreThreads(await asyncio.to_thread(store_of, self._settings, self._context.state_dir))
        try:
            keys = KeyRing(store.store, self._settings.keys_file)
            await self._refresh_keys(keys)
            self._context.health.ready.append(lambda: keys.problem and f"climasense: {keys.problem}")
            self._context.health.ready.append(lambda: store.problem)
            await self._serve(store, keys)
        finally:
            store.close()

    async def _serve(self, store: StoreThreads, keys: KeyRing) -> None:
        settings = self._settings
        delivery = Delivery(self._context.publisher, settings.ack_timeout_seconds, self._devices_changed.set)
        file = StateFile(self._context.state_dir / "climasense-commands.json")
        events = CommandEvents(store, self._context.publisher, file)
        api = ClimaSenseApi(settings, delivery, Stored(store, keys, events))
        async with (
            serving(api.app(), settings.host, settings.port, VENDOR, settings) as self.port,
            asyncio.TaskGroup() as group,
        ):
            _log.info(
                "climasense: devices may post to %s://%s:%d/v1/telemetry", settings.scheme, settings.host, self.port
            )
            group.create_task(self._listen(delivery.listening))
            group.create_task(self._keep_keys_current(keys))
            group.create_task(self._publish_devices(store))
            group.create_task(events.run(settings.keys_seconds))
            group.create_task(_count_connected(api))

    async def _listen(self, listening: asyncio.Event) -> None:
        await self._context.coverage.listening()
        listening.set()

    async def _keep_keys_current(self, keys: KeyRing) -> None:
        while True:
            await asyncio.sleep(self._settings.keys_seconds)
            await self._refresh_keys(keys)

    async def _refresh_keys(self, keys: KeyRing) -> None:
        if await asyncio.to_thread(keys.refresh, utc_now()):
            self._devices_changed.set()

    async def _publish_devices(self, store: StoreThreads) -> None:
        """Publish the records of devices that changed since they were published. Only this task waits for Kafka."""
        while True:
            await self._devices_changed.wait()
            self._devices_changed.clear()
            try:
                devices = await store.run(store.store.devices.all)
            except SQLAlchemyError:
                await asyncio.sleep(self._settings.keys_seconds)
                self._devices_changed.set()
                continue
            now = utc_now()
            changed = [record for device in devices if self._has_changed(record := device_record(device, now))]
            for first in range(0, len(changed), _AT_ONCE):
                some = changed[first : first + _AT_ONCE]
                await asyncio.gather(*(self._context.publisher.publish_device(record) for record in some))

    def _has_changed(self, record: Device) -> bool:
        """Whether the record differs from the one published last; the next comparison is with this one."""
        content = encode(msgspec.structs.replace(record, updated_at=EPOCH))
        if self._published.get(record.device_id) == content:
            return False
        self._published[record.device_id] = content
        return True


async def _count_connected(api: ClimaSenseApi) -> None:
    """Show how many devices called in the last minutes as the number of connected devices."""
    while True:
        now = time.monotonic()
        for device in [device for device, at in api.last_call.items() if now - at >= _CONNECTED_SECONDS]:
            del api.last_call[device]
        CONNECTED.labels(VENDOR).set(len(api.last_call))
        await asyncio.sleep(_COUNT_EVERY_SECONDS)


def store_of(settings: ClimasenseSettings, state_dir: Path) -> Store:
    """Open the configured store. StageError where it cannot be opened."""
    url = settings.database_url
    return open_store(url.get_secret_value() if url is not None else None, state_dir)
