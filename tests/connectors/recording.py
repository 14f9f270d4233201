"""A publisher that records instead of publishing, for tests of a connector's parts without Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import cast

from connectors.common.context import Context
from connectors.common.device_ownership import DeviceOwnership
from connectors.common.publisher import Publisher
from schemas.envelope import Envelope
from schemas.wire import DeadLetter, Device


class RecordingPublisher:
    """Acknowledges everything at once."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.devices: list[Device] = []
        self.dead_letters: list[DeadLetter] = []

    async def publish_soon(self, envelope: Envelope) -> asyncio.Future[None]:
        self.envelopes.append(envelope)
        return _acknowledged()

    async def publish_all(self, envelopes: Iterable[Envelope]) -> None:
        self.envelopes += envelopes

    async def dead_letter_soon(self, letter: DeadLetter) -> asyncio.Future[None]:
        self.dead_letters.append(letter)
        return _acknowledged()

    async def publish_device(self, device: Device) -> None:
        self.devices.append(device)


class PartialOwnership(DeviceOwnership):
    """Owns the devices of `owned`; `set` changes them. They were held by another process until `lapsed_at`."""

    def __init__(self, owned: Iterable[str], *, is_leader: bool = True, lapsed_at: datetime | None = None) -> None:
        self._owned = set(owned)
        self._is_leader = is_leader
        self._lapsed = {} if lapsed_at is None else {0: lapsed_at}
        self._change = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        return self._is_leader

    def owns(self, device_id: str) -> bool:
        return device_id in self._owned

    async def changed(self, version: int) -> None:
        while self.version == version:
            await self._change.wait()

    def take_lapsed(self) -> dict[int, datetime]:
        lapsed, self._lapsed = self._lapsed, {}
        return lapsed

    def set(self, owned: Iterable[str]) -> None:
        self._owned = set(owned)
        self.version += 1
        change, self._change = self._change, asyncio.Event()
        change.set()


def recording_context(publisher: RecordingPublisher, folder: Path, ownership: DeviceOwnership | None = None) -> Context:
    return Context(cast(Publisher, publisher), folder, ownership=ownership or DeviceOwnership())


def _acknowledged() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
