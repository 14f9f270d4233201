"""Records that a request must have in Kafka before it is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from connectors.climasense.answers import RequestRefused, unavailable
from connectors.climasense.protocol import device_record
from connectors.climasense.store.records import DeviceState
from connectors.common.http_server import settled
from connectors.common.publisher import Publisher
from schemas.envelope import Envelope
from schemas.wire import DeadLetter, Device


@dataclass(frozen=True)
class Delivery:
    """Publishes records, and waits for Kafka's acknowledgement."""

    publisher: Publisher
    ack_timeout_seconds: float
    on_unpublished: Callable[[], None]
    """Called where a changed device could not be published, so that it is published later."""

    async def settle(self, record: Envelope | Device | DeadLetter) -> None:
        """Return when Kafka has the record; RequestRefused (503) where it does not in time."""
        if not await settled(self.publisher, record, self.ack_timeout_seconds):
            raise unavailable()

    async def register(self, device: DeviceState, now: datetime) -> None:
        """Publish the registry's record of a device; RequestRefused (503) where Kafka does not have it in time."""
        try:
            await self.settle(device_record(device, now))
        except RequestRefused:
            self.on_unpublished()
            raise
