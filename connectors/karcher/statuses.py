"""The statuses of the machines that this process owns."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.dead_letters import MessageSource
from connectors.common.entrance import admit
from connectors.common.http_client import VendorError
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.protocol import VENDOR, AnswerError, Page
from connectors.karcher.registry import MachineRegistry

_log = logging.getLogger(__name__)

_CHANNEL = "status"


class StatusReader:
    """Reads statuses, ten machines per request. A machine that the cloud does not know is left out until
    `forget_unknown`.
    """

    def __init__(self, cloud: Cloud, context: Context, registry: MachineRegistry) -> None:
        self._cloud = cloud
        self._context = context
        self._registry = registry
        self._unknown: set[str] = set()
        self._missed: set[str] = set()
        self._missed_some = asyncio.Event()

    def forget_unknown(self) -> None:
        """Ask for all machines again."""
        self._unknown.clear()

    async def read_all(self) -> None:
        """Read the statuses of all owned machines. VendorError, AnswerError."""
        await self._registry.until_read()
        try:
            await self._read([m.machine_id for m in self._registry.owned() if m.machine_id not in self._unknown])
        except (VendorError, AnswerError):
            self._context.coverage.interrupted(_CHANNEL)
            raise
        await self._context.coverage.listening(_CHANNEL)

    def resynchronise(self, machine_id: str) -> None:
        """Have a machine's status read at once, because its messages may have been missed."""
        self._missed.add(machine_id)
        self._missed_some.set()

    async def run_resynchronisation(self) -> None:
        """Read the statuses asked for by `resynchronise`, until cancelled. Machines asked for together share requests.
        A failed reading is not retried: the regular one follows.
        """
        while True:
            await self._missed_some.wait()
            self._missed_some.clear()
            missed, self._missed = self._missed, set()
            try:
                await self._read([machine_id for machine_id in missed if machine_id in self._registry.devices])
            except (VendorError, AnswerError):
                _log.debug("karcher: resynchronising failed; the next regular reading follows")

    async def _read(self, machine_ids: list[str]) -> None:
        """Read the statuses. An answer that cannot be read costs no other; its error is raised at the end."""
        problem: AnswerError | None = None
        for chunk in protocol.chunks(machine_ids):
            try:
                pages = await self._request(chunk)
            except AnswerError as error:
                problem = error
                continue
            for page in pages:
                await self._take(page)
        if problem is not None:
            raise problem

    async def _take(self, page: Page) -> None:
        for machine_id, message in page.errors:
            self._note_unknown(machine_id, message)
        for item in page.items:
            now = utc_now()
            source = MessageSource(VENDOR, protocol.STATUS, now)
            read = partial(protocol.status, item, self._registry.devices, now)
            await self._context.forward(VENDOR, admit(item, source, read))

    async def _request(self, machine_ids: list[str]) -> list[Page]:
        """The statuses of some machines. Where one makes the whole request fail (400), each is asked for alone."""
        try:
            return [await self._cloud.statuses(machine_ids)]
        except VendorError as error:
            if error.status != 400:
                raise
            if len(machine_ids) > 1:
                return [page for machine_id in machine_ids for page in await self._request([machine_id])]
            self._note_unknown(machine_ids[0], str(error))
            return []

    def _note_unknown(self, machine_id: str, message: str) -> None:
        if machine_id not in self._unknown:
            _log.info("karcher: no status of %s (%s)", self._registry.devices.get(machine_id, machine_id), message)
        self._unknown.add(machine_id)
