"""The machines of a Kärcher account: read from the specifications, published to the device registry."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from connectors.common.clock import utc_now
from connectors.common.context import Context
from connectors.common.vanished_devices import VanishedDevices
from connectors.karcher import protocol
from connectors.karcher.cloud import Cloud
from connectors.karcher.protocol import VENDOR, AnswerError, Machine, MachineNames
from schemas.wire import Device, Problem, encode


class MachineRegistry:
    """The machines as last read. Every process reads all of them, and publishes the ones that it owns."""

    def __init__(self, cloud: Cloud, context: Context) -> None:
        self._cloud = cloud
        self._context = context
        self._ownership = context.ownership
        self._machines: dict[str, Machine] = {}
        self._devices: dict[str, str] = {}
        self._unreadable: list[MachineNames] = []
        self._published: dict[str, bytes] = {}
        self._vanished = VanishedDevices(VENDOR, context)
        self._was_read = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """Why nothing else can be read yet; None after the first reading. For a readiness probe."""
        return None if self.is_read else "karcher: the registry has not been read yet"

    @property
    def is_read(self) -> bool:
        """Whether the registry was read once."""
        return self._was_read.is_set()

    @property
    def devices(self) -> Mapping[str, str]:
        """Kärcher's machine id → device id."""
        return self._devices

    async def until_read(self) -> None:
        """Wait for the first reading."""
        await self._was_read.wait()

    def owned(self) -> list[Machine]:
        """The machines that this process owns."""
        return [machine for machine in self._machines.values() if self._ownership.owns(machine.device_id)]

    def owned_robots(self) -> list[Machine]:
        """The owned machines that have a WebSocket and take commands."""
        return [machine for machine in self.owned() if self._cloud.settings.is_robotic(machine.material_number)]

    async def read(self) -> None:
        """Read all machines. VendorError, AnswerError.

        A machine whose element cannot be read, or may be one that cannot, stays as it was.
        """
        pages = self._cloud.pages(self._cloud.settings.specifications_path, {}, "specifications")
        items = [item async for page in pages for item in page.items]
        machines: dict[str, Machine] = {}
        unreadable: list[MachineNames] = []
        for item in items:
            if (machine := await self._machine(item)) is not None:
                machines[machine.machine_id] = machine
            else:
                unreadable.append(protocol.names_of(item))
        kept = (m for m in self._machines.values() if any(n.may_mean(m.machine_id, m.device_id) for n in unreadable))
        machines = {machine.machine_id: machine for machine in kept} | machines
        self._machines, self._unreadable = machines, unreadable
        self._devices = {machine_id: machine.device_id for machine_id, machine in machines.items()}
        self._was_read.set()

    async def publish(self) -> None:
        """Publish the owned machines that are new, changed, or registered and no longer listed."""
        changed = []
        for machine in self.owned():
            device = machine.device
            content = encode([device.name, device.model, device.attributes])
            if self._published.get(device.device_id) != content:
                self._published[device.device_id] = content
                changed.append(device)
        await asyncio.gather(*(self._context.publisher.publish_device(device) for device in changed))
        for device in changed:
            self._vanished.note(device)
        for name in await self._vanished.publish(set(self._devices.values()), self._is_gone):
            self._published.pop(name, None)

    async def _is_gone(self, device: Device) -> bool:
        machine_id = device.attributes.get("machineId")
        return not any(names.may_mean(machine_id, device.device_id) for names in self._unreadable)

    async def _machine(self, item: bytes) -> Machine | None:
        try:
            return protocol.read_machine(item, utc_now())
        except AnswerError as error:
            if self._ownership.is_leader:
                problem = Problem(path="", reason="missing", detail=str(error))
                await self._cloud.unusable.entry("machine", item, problem)
            return None
