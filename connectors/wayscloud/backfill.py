"""Back-filling of telemetry by REST after an outage; the queue of windows survives a restart."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.http_client import VendorError
from connectors.common.read_message import ReadMessage
from connectors.common.state_file import StateFile
from connectors.wayscloud import objects
from connectors.wayscloud.api import WayscloudApi
from connectors.wayscloud.objects import VENDOR
from connectors.wayscloud.settings import WayscloudSettings
from runtime.backoff import Backoff
from schemas.device import device_id
from schemas.envelope import BackfillWindow
from schemas.timestamps import format_iso, parse_iso

_log = logging.getLogger(__name__)

_WRITE_EVERY = 20
"""Devices after which the progress is written."""


class Backfill:
    """Back-fills telemetry window by window, and device by device within a window.

    Delivery: at least once; a device is done when Kafka has its telemetry. Both sides of an outage are read with an
    overlap, so a reading may come by MQTT and by REST: the normaliser keeps one of them (docs/vendors/wayscloud.md).
    """

    def __init__(self, settings: WayscloudSettings, context: Context, file: StateFile) -> None:
        self._settings = settings
        self._context = context
        self._file = file
        self._windows: list[dict[str, Any]] = [w for w in file.read().get("windows", []) if _is_window(w)]
        self._added = asyncio.Event()
        self._is_failing = False

    def add(self, start: datetime, end: datetime, devices: Iterable[str]) -> None:
        """Queue the telemetry of these devices (native ids) for back-filling. The queue survives a restart."""
        settings = self._settings
        overlap = timedelta(seconds=settings.backfill_overlap_seconds)
        unnoticed = timedelta(seconds=1.5 * settings.keepalive_seconds)  # how long a dead connection goes unnoticed
        window = BackfillWindow(
            max(start - overlap - unnoticed, end - timedelta(hours=settings.backfill_hours)),
            end + overlap,
            settings.backfill_reach_seconds,
        )
        # By then the cloud has stored all of it, and all that arrived live is in Kafka.
        ready = window.end + window.context + timedelta(seconds=settings.backfill_delay_seconds)
        entry = {**window.attributes(), "ready": format_iso(ready), "devices": sorted(devices)}
        if entry["devices"]:
            self._windows.append(entry)
            self._write()
            self._added.set()

    async def run(self, api: WayscloudApi) -> None:
        """Back-fill what is queued until cancelled."""
        while True:
            self._added.clear()
            while self._windows:
                await self._fill(api, self._windows[0])
                self._windows.pop(0)
                self._write()
            await self._added.wait()

    async def _fill(self, api: WayscloudApi, entry: dict[str, Any]) -> None:
        window = BackfillWindow.of(entry)
        await asyncio.sleep(max(0.0, (parse_iso(entry["ready"]) - utc_now()).total_seconds()))
        waiting: list[str] = entry["devices"]
        _log.info("wayscloud: back-filling telemetry of %d devices since %s", len(waiting), entry["readfrom"])
        while waiting:
            await self._fill_device(api, waiting[0], window)
            waiting.pop(0)
            if len(waiting) % _WRITE_EVERY == 0:
                self._write()

    async def _fill_device(self, api: WayscloudApi, native: str, window: BackfillWindow) -> None:
        """Try until Kafka has the telemetry, or the API says that it has none of this device."""
        backoff = Backoff(base=2.0, cap=60.0)
        while True:
            try:
                await self._publish(api, native, window)
            except (VendorError, ValueError) as error:
                if isinstance(error, VendorError) and error.status in (400, 404, 410, 422):
                    _log.warning("wayscloud: no telemetry of %s can be back-filled (%s)", native, error)
                    return
                if not self._is_failing:
                    _log.warning("wayscloud: cannot back-fill telemetry (%s); trying again", error)
                self._is_failing = True
                await asyncio.sleep(backoff.next(random.random()))
            else:
                if self._is_failing:
                    _log.info("wayscloud: back-filling telemetry again")
                self._is_failing = False
                return

    async def _publish(self, api: WayscloudApi, native: str, window: BackfillWindow) -> None:
        settings, device = self._settings, device_id(VENDOR, native)
        for since, until in objects.steps(window.start, window.end, timedelta(minutes=settings.backfill_step_minutes)):
            step = BackfillWindow(since, until, window.reach_seconds)
            params = {
                settings.start_parameter: format_iso(since - step.context),
                settings.end_parameter: format_iso(until + step.context),
            }
            body = await api.get("devices", native, "telemetry", **params)
            envelopes = objects.stored_telemetry(body, device, step, utc_now())
            await self._context.settle(VENDOR, ReadMessage(envelopes))

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
