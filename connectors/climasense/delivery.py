"""Records that a request must have in Kafka before it is answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from connectors.climasense.answers import RequestRefused, unavailable
from connectors.climasense.protocol import device_record
from connectors.climasense.store.records import DeviceState
from connectors.climasense.unconfirmed import UnconfirmedBodies
from connectors.common.http_server import in_time
from connectors.common.publisher import Publisher
from schemas.envelope import Envelope
from schemas.wire import DeadLetter


@dataclass(frozen=True)
class Delivery:
    """Publishes records, and waits for Kafka's acknowledgement."""

    publisher: Publisher
    ack_timeout_seconds: float
    on_unpublished: Callable[[], None]
    """Called where a changed device could not be published, so that it is published later."""
    listening: asyncio.Event = field(default_factory=asyncio.Event)
    """Set as soon as Kafka knows that this process listens."""
    unconfirmed: UnconfirmedBodies = field(default_factory=UnconfirmedBodies)

    async def until_listening(self) -> None:
        """Return when Kafka knows that this process listens; RequestRefused (503) where it does not in time.

        What is taken before would show that the device spoke at a time of which nobody knows yet whether we listened.
        """
        if self.listening.is_set():
            return
        if self.publisher.away:
            raise unavailable()
        try:
            async with asyncio.timeout(self.ack_timeout_seconds):
                await self.listening.wait()
        except TimeoutError:
            raise unavailable() from None

    async def publish(self, envelope: Envelope) -> None:
        """Return when Kafka has the envelope; RequestRefused (503) where it does not in time."""
        await self._in_time(partial(self.publisher.publish, envelope))

    async def dead_letter(self, letter: DeadLetter) -> None:
        """Return when Kafka has the dead letter; RequestRefused (503) where it does not in time."""
        await self._in_time(partial(self.publisher.dead_letter, letter))

    async def _in_time(self, publish: Callable[[], Awaitable[None]]) -> None:
        if not await in_time(self.publisher, publish, self.ack_timeout_seconds):
            raise unavailable()

    async def publish_untimed(self, envelope: Envelope, content: str) -> None:
        """Like `publish`, for a body known by its content alone: what was answered 503 and is posted again is not
        published again (`UnconfirmedBodies`).
        """
        earlier = self.unconfirmed.take(content)
        if earlier is None and self.publisher.away:
            raise unavailable()
        delivered = earlier
        try:
            async with asyncio.timeout(0 if self.publisher.away else self.ack_timeout_seconds):
                if delivered is None:
                    delivered = await self.publisher.publish_soon(envelope)
                await asyncio.shield(delivered)
        except TimeoutError:
            if delivered is not None:
                self.unconfirmed.add(content, delivered)
            raise unavailable() from None

    async def register(self, device: DeviceState, now: datetime) -> None:
        """Publish the registry's record of a device; RequestRefused (503) where Kafka does not have it in time."""
        try:
            await self._in_time(partial(self.publisher.publish_device, device_record(device, now)))
        except RequestRefused:
            self.on_unpublished()
            raise
