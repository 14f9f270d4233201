"""The lists of a whole account: cleaning reports and notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import admit
from connectors.common.read_message import ReadMessage
from connectors.common.state_file import StateFile
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.protocol import VENDOR, Page
from connectors.karcher.registry import MachineRegistry
from connectors.karcher.seen_log_entries import SeenLogEntries
from schemas.timestamps import format_iso

Pages = Callable[[datetime, datetime], AsyncIterator[Page]]
"""The pages of a list from one time to another."""
Decode = Callable[[bytes, Mapping[str, str], datetime], ReadMessage]
"""An element of a list, the device id of each machine, and the time of receipt."""


@dataclass(frozen=True)
class AccountList:
    """One list: where its entries come from, what they become, and the name of its state file."""

    name: str
    pages: Pages
    decode: Decode
    message_type: str


class ListReader:
    """Reads the lists; only the leader of several processes does.

    Delivery: an entry counts as seen once Kafka has it, and stays so over restarts. Readings overlap, so that no entry
    is missed, and a seen entry is not published again.
    """

    def __init__(self, cloud: Cloud, context: Context, registry: MachineRegistry) -> None:
        self._cloud = cloud
        self._context = context
        self._registry = registry
        self._reports = AccountList("reports", self._report_pages, protocol.cleaning_report, protocol.REPORT)
        self._notifications = AccountList(
            "notifications", self._notification_pages, protocol.notification, protocol.NOTIFICATION
        )

    async def read_reports(self) -> None:
        """Publish the new cleaning reports. VendorError, AnswerError."""
        await self._read(self._reports)

    async def read_notifications(self) -> None:
        """Publish the new notifications. VendorError, AnswerError."""
        await self._read(self._notifications)

    def _report_pages(self, since: datetime, now: datetime) -> AsyncIterator[Page]:
        window = {"startDate": format_iso(since), "endDate": format_iso(now), "sort": "asc"}
        return self._cloud.pages(self._cloud.settings.reports_path, window, "cleaning-reports")

    async def _notification_pages(self, since: datetime, _: datetime) -> AsyncIterator[Page]:
        """The API has no time window: the newest come first, and pages are read down to `since`."""
        path = self._cloud.settings.notifications_path
        async for page in self._cloud.pages(path, {"sort": "desc"}, "notifications"):
            yield page
            if any((at := protocol.received_time(item)) is not None and at < since for item in page.items):
                return

    async def _read(self, wanted: AccountList) -> None:
        await self._registry.until_read()
        if not self._context.ownership.is_leader:
            return
        now = utc_now()
        file = StateFile(self._context.state_dir / f"karcher-{wanted.name}.json")
        seen = SeenLogEntries.load(file.read(), timedelta(days=self._cloud.settings.first_history_days))
        for key, at in await self._publish_new(wanted, seen, now):
            seen.add(key, at)
        seen.finish(now)
        file.write(seen.dump())

    async def _publish_new(
        self, wanted: AccountList, seen: SeenLogEntries, now: datetime
    ) -> list[tuple[str, datetime]]:
        """Publish the new entries and wait until Kafka has them; returns their keys and times."""
        waiting: list[asyncio.Future[None]] = []
        published: list[tuple[str, datetime]] = []
        async for page in wanted.pages(seen.since(now), now):
            for item in page.items:
                source = MessageSource(VENDOR, wanted.message_type, now)
                message = admit(item, source, partial(wanted.decode, item, self._registry.devices, now))
                message.envelopes = [e for e in message.envelopes if seen.is_new(e.id)]
                message.dead_letters = [d for d in message.dead_letters if seen.is_new(d.payload_sha256)]
                waiting += await self._context.deliver_new(VENDOR, message)
                published += [(e.id, max(e.time or now, now)) for e in message.envelopes]
                published += [(d.payload_sha256, now) for d in message.dead_letters]
        await asyncio.gather(*waiting)
        return published
