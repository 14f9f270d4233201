"""The command histories of the machines that this process owns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.http_client import VendorError
from connectors.common.read_message import ReadMessage
from connectors.common.state_file import StateFile
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.protocol import VENDOR, AnswerError, Execution, ExecutionDetails, Machine
from connectors.karcher.registry import MachineRegistry
from connectors.karcher.seen_log_entries import SeenLogEntries
from schemas.wire import Problem

_log = logging.getLogger(__name__)

_NO_HISTORY = (400, 404)
_NO_DETAILS = (400, 403, 404)


class CommandReader:
    """Reads the histories of one partition of the devices at a time and publishes what is new in them.

    The details of an execution are read until it has finished. Its events are remembered by the ids of their envelopes,
    in one file per partition, so that they move to another process of the host together with the partition.
    """

    def __init__(self, cloud: Cloud, context: Context, registry: MachineRegistry) -> None:
        self._cloud = cloud
        self._context = context
        self._registry = registry
        self._depth = timedelta(days=cloud.settings.first_history_days)

    async def read_all(self) -> None:
        """Read the histories of all owned robotic machines.

        VendorError where the account may not read them, or the cloud is away. A single machine that the cloud does not
        know stops no other, nor does one whose history cannot be read, whose AnswerError is raised at the end.
        """
        await self._registry.until_read()
        partitions: dict[int, list[Machine]] = {}
        for machine in self._registry.owned_robots():
            partitions.setdefault(self._context.ownership.partition(machine.device_id), []).append(machine)
        problems = [await self._read_partition(number, machines) for number, machines in sorted(partitions.items())]
        for problem in filter(None, problems):
            raise problem

    async def _read_partition(self, partition: int, machines: Iterable[Machine]) -> AnswerError | None:
        """Read the histories of some machines; the error of one that cannot be read, which stops no other."""
        problem: AnswerError | None = None
        file = StateFile(self._context.state_dir / f"karcher-commands-{partition}.json")
        state = file.read()
        try:
            for machine in machines:
                if not self._context.ownership.owns(machine.device_id):
                    break
                seen = SeenLogEntries.load(state.get(machine.device_id, {}), self._depth)
                try:
                    await self._read_machine(machine, seen)
                except AnswerError as error:
                    problem = error
                    continue
                except VendorError as error:
                    if error.status not in _NO_HISTORY:
                        raise
                    _log.debug("karcher: no command history of %s (%s)", machine.device_id, error)
                state[machine.device_id] = seen.dump()
        finally:
            file.write(state)
        return problem

    async def _read_machine(self, machine: Machine, seen: SeenLogEntries) -> None:
        now = utc_now()
        waiting: list[asyncio.Future[None]] = []
        published: list[tuple[str, datetime]] = []
        for execution in await self._executions(machine, seen.since(now)):
            at = max(now, execution.created_at or now)
            if not seen.is_new(_finished(execution)):
                continue
            details = await self._details(execution, machine)
            envelopes = [e for e in details.message.envelopes if seen.is_new(e.id)]
            waiting += await self._context.deliver_new(VENDOR, ReadMessage(envelopes, details.message.dead_letters))
            published += [(e.id, at) for e in envelopes]
            published += [(_finished(execution), at)] if details.finished else []
        await asyncio.gather(*waiting)
        for key, at in published:
            seen.add(key, at)
        seen.finish(now)

    async def _executions(self, machine: Machine, since: datetime) -> list[Execution]:
        """Executions from `since` on, oldest first. The history is newest first, so older pages are not requested."""
        recent: list[Execution] = []
        async for page in self._cloud.executions(machine):
            executions = [e for item in page.items if (e := await self._execution(item)) is not None]
            recent += [e for e in executions if e.created_at is None or e.created_at >= since]
            if any(e.created_at is not None and e.created_at < since for e in executions):
                break
        return recent[::-1]

    async def _execution(self, item: bytes) -> Execution | None:
        """An element of a history; None, and a dead letter, where it cannot be read: it costs no other."""
        try:
            return protocol.read_execution(item)
        except AnswerError as error:
            await self._cloud.unusable.entry("command", item, Problem("", "missing", str(error)))
            return None

    async def _details(self, execution: Execution, machine: Machine) -> ExecutionDetails:
        """An execution's details; where they may not be read, what the history says of it."""
        try:
            details = await self._cloud.execution(execution.execution_id)
        except VendorError as error:
            if error.status not in _NO_DETAILS:
                raise
            summary = protocol.execution(execution.item, machine.device_id, utc_now())
            return ExecutionDetails(summary.message, finished=True)
        return protocol.execution(details, machine.device_id, utc_now())


def _finished(execution: Execution) -> str:
    """The key that says that an execution needs no further reading."""
    return f"{execution.execution_id} finished"
