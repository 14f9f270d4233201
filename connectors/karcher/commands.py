"""The histories of commands of the machines that are ours: which executions to look at, and what was told of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

from connectors.common.context import utc_now
from connectors.common.decoded import Decoded
from connectors.common.http_client import VendorError
from connectors.common.state_file import StateFile
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.history import History
from connectors.karcher.protocol import Execution, Machine

_log = logging.getLogger(__name__)

_NOT_THERE = (400, 404)
_NOT_TOLD = (400, 403, 404)

Publish = Callable[[Decoded], Awaitable[list[asyncio.Future[None]]]]


class CommandReader:
    """Reads the histories of a part of the devices at a time and publishes what is new in them.

    An execution is asked for its details until it has finished. Its events are remembered by their envelopes' ids, one
    file a part of the devices, so that they move with the part to another process of the host.
    """

    def __init__(self, cloud: Cloud, state_dir: Path, publish: Publish) -> None:
        self._cloud = cloud
        self._state_dir = state_dir
        self._publish = publish
        self._depth = timedelta(days=cloud.settings.first_history_days)

    async def read(self, part: int, machines: Iterable[Machine], still_ours: Callable[[str], bool]) -> None:
        """One reading of these machines' histories. VendorError where the account may not read them, or the cloud is
        away; a single machine that the cloud does not know stops no other.
        """
        file = StateFile(self._state_dir / f"karcher-commands-{part}.json")
        state = file.read()
        try:
            for machine in machines:
                if not still_ours(machine.device_id):
                    return
                history = History.load(state.get(machine.device_id, {}), self._depth)
                try:
                    await self._read_machine(machine, history)
                except VendorError as error:
                    if error.status not in _NOT_THERE:
                        raise
                    _log.debug("karcher: no history of commands of %s (%s)", machine.device_id, error)
                state[machine.device_id] = history.dump()
        finally:
            file.write(state)

    async def _read_machine(self, machine: Machine, history: History) -> None:
        now = utc_now()
        waiting: list[asyncio.Future[None]] = []
        told: list[tuple[str, datetime]] = []
        for execution in await self._since(machine, history.since(now)):
            at = max(now, execution.created_at or now)
            if not history.is_new(_finished(execution)):
                continue
            news = await self._details(execution, machine)
            envelopes = [e for e in news.decoded.envelopes if history.is_new(e.id)]
            waiting += await self._publish(Decoded(envelopes, news.decoded.dead_letters))
            told += [(e.id, at) for e in envelopes]
            told += [(_finished(execution), at)] if news.finished else []
        await asyncio.gather(*waiting)
        for key, at in told:
            history.tell(key, at)
        history.read(now)

    async def _since(self, machine: Machine, since: datetime) -> list[Execution]:
        """Executions from then on, oldest first. The history comes newest first, so older pages are not asked for."""
        found: list[Execution] = []
        async for page in self._cloud.executions(machine):
            some = [protocol.read_execution(item) for item in page.items]
            found += [e for e in some if e.created_at is None or e.created_at >= since]
            if any(e.created_at is not None and e.created_at < since for e in some):
                break
        return found[::-1]

    async def _details(self, execution: Execution, machine: Machine) -> protocol.ExecutionNews:
        try:
            details = await self._cloud.execution(execution.execution_id)
        except VendorError as error:
            if error.status not in _NOT_TOLD:
                raise
            news = protocol.execution(execution.item, machine.device_id, utc_now())
            return protocol.ExecutionNews(news.decoded, finished=True)
        return protocol.execution(details, machine.device_id, utc_now())


def _finished(execution: Execution) -> str:
    return f"{execution.execution_id} finished"
