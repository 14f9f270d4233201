"""Reading telemetry back by REST after an outage; what is still to be read survives a restart."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from connectors.common.context import Context, utc_now
from connectors.common.decoded import Decoded
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.cloud import Cloud
from connectors.wayscloud.objects import VENDOR
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from schemas.device import device_id
from schemas.envelope import BackfillWindow
from schemas.timestamps import format_iso, parse_iso

_log = logging.getLogger(__name__)

_OFTEN = 20
"""Devices after which the progress is written down."""


class Backfill:
    """Works off the outages one after the other, device by device.

    Delivery: at least once; a device is done when Kafka has its telemetry. Both sides of an outage are read with
    an overlap, so a reading may come by MQTT and by REST: the normaliser tells it once (docs/vendors/wayscloud.md).
    """

    def __init__(self, settings: WayscloudSettings, context: Context, file: StateFile) -> None:
        self._settings = settings
        self._context = context
        self._file = file
        self._windows: list[dict[str, Any]] = [w for w in file.read().get("windows", []) if _is_window(w)]
        self._wanted = asyncio.Event()
        self._complained = False

    def add(self, start: datetime, end: datetime, devices: Iterable[str]) -> None:
        """Have the telemetry of these devices (native ids) read back; it is remembered from now on."""
        settings = self._settings
        overlap = timedelta(seconds=settings.backfill_overlap_seconds)
        unnoticed = timedelta(seconds=1.5 * settings.keepalive_seconds)  # so long a dead connection looks alive
        read = BackfillWindow(
            max(start - overlap - unnoticed, end - timedelta(hours=settings.backfill_hours)),
            end + overlap,
            settings.backfill_reach_seconds,
        )
        # All of it has to be stored by then, and all that came live has to be in Kafka.
        ready = read.end + read.context + timedelta(seconds=settings.backfill_delay_seconds)
        window = {**read.attributes(), "ready": format_iso(ready), "devices": sorted(devices)}
        if window["devices"]:
            self._windows.append(window)
            self._write()
            self._wanted.set()

    async def run(self, cloud: Cloud) -> None:
        """Until cancelled."""
        while True:
            self._wanted.clear()
            while self._windows:
                await self._read(cloud, self._windows[0])
                self._windows.pop(0)
                self._write()
            await self._wanted.wait()

    async def _read(self, cloud: Cloud, window: dict[str, Any]) -> None:
        read = BackfillWindow.of(window)
        await asyncio.sleep(max(0.0, (parse_iso(window["ready"]) - utc_now()).total_seconds()))
        waiting: list[str] = window["devices"]
        _log.info("wayscloud: reading back telemetry of %d devices since %s", len(waiting), window["readfrom"])
        while waiting:
            await self._read_device(cloud, waiting[0], read)
            waiting.pop(0)
            if len(waiting) % _OFTEN == 0:
                self._write()

    async def _read_device(self, cloud: Cloud, native: str, read: BackfillWindow) -> None:
        """Until it is done; a device that the cloud does not know is."""
        backoff = Backoff(base=2.0, cap=60.0)
        while True:
            try:
                await self._publish(cloud, native, read)
            except (VendorError, ValueError) as error:
                if isinstance(error, VendorError) and error.status in (400, 404, 410, 422):
                    _log.warning("wayscloud: no telemetry of %s can be read back (%s)", native, error)
                    return
                if not self._complained:
                    _log.warning("wayscloud: cannot read telemetry back (%s); trying again", error)
                self._complained = True
                await asyncio.sleep(backoff.next(random.random()))
            else:
                if self._complained:
                    _log.info("wayscloud: reading telemetry back again")
                self._complained = False
                return

    async def _publish(self, cloud: Cloud, native: str, read: BackfillWindow) -> None:
        settings, device = self._settings, device_id(VENDOR, native)
        for since, until in objects.steps(read.start, read.end, timedelta(minutes=settings.backfill_step_minutes)):
            step = BackfillWindow(since, until, read.reach_seconds)
            params = {
                settings.start_parameter: format_iso(since - step.context),
                settings.end_parameter: format_iso(until + step.context),
            }
            body = await cloud.get("devices", native, "telemetry", **params)
            envelopes = objects.stored_telemetry(body, device, step, utc_now())
            await asyncio.gather(*await self._context.deliver(VENDOR, Decoded(envelopes)))

    def _write(self) -> None:
        self._file.write({"windows": self._windows})


def _is_window(content: Any) -> bool:
    """Whether this is what `add` has written."""
    try:
        BackfillWindow.of(content)
        parse_iso(content["ready"])
        return isinstance(content["devices"], list)
    except (KeyError, TypeError, ValueError):
        return False
