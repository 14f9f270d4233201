"""Which devices this process owns: all of them, unless several processes share a vendor's devices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from datetime import datetime
from typing import Any


class DeviceOwnership:
    """The devices that this process owns. This class owns every device; `OwnershipLeases` owns those it has leases of.

    A connector reads `version`, asks `owns` for each device, connects to the owned ones only, and does so again as soon
    as `changed` returns.
    """

    is_known = True
    """Whether it is known which devices this process owns."""
    version = 0
    """Increases whenever the owned devices change."""

    @property
    def is_leader(self) -> bool:
        """Whether this process does the work that is done once for the whole account."""
        return True

    def owns(self, device_id: str) -> bool:
        """Whether this process owns the device now."""
        return True

    def partition(self, device_id: str) -> int:
        """The number of the device's partition; state that moves with the device is stored by it."""
        return 0

    async def until_known(self) -> None:
        """Wait until it is known which devices this process owns."""
        while not self.is_known:
            await self.changed(self.version)

    async def changed(self, version: int) -> None:
        """Wait until the owned devices are no longer those of `version`."""
        await asyncio.Event().wait()

    def take_lapsed(self) -> dict[int, datetime]:
        """The partitions gained since the last call that another process held before, and until when it held them.

        Messages sent since that time without a replay are lost. Partitions that nobody ever held are left out.
        """
        return {}


class DeviceTasks:
    """One task for each owned device: the tasks of `wanted` run, others are cancelled."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def keep(self, wanted: Mapping[str, Callable[[], Coroutine[Any, Any, None]]]) -> None:
        """Start each wanted task that does not run; cancel each running task that is not wanted."""
        for device in [d for d, task in self._tasks.items() if d not in wanted or task.done()]:
            self._tasks.pop(device).cancel()
        for device, work in wanted.items():
            if device not in self._tasks:
                self._tasks[device] = self._group.create_task(work())

    def __len__(self) -> int:
        return len(self._tasks)
