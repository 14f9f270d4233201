"""What every connector is given to work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from prometheus_client import Counter

from connectors.common import STAGE
from connectors.common.byte_budget import ByteBudget
from connectors.common.coverage import Coverage
from connectors.common.device_ownership import DeviceOwnership
from connectors.common.publisher import Publisher
from connectors.common.read_message import ReadMessage
from connectors.common.registry_topic import NoRegistryTopic, RegistryTopic
from runtime.health import Health
from runtime.metrics import LEFT_OUT, RECORDS_IN


@dataclass(frozen=True)
class Context:
    """What a connector needs of the process that runs it.

    Messages go to Kafka by one of four methods, which differ in what the caller learns of the acknowledgement:

    | method | for | the caller |
    | --- | --- | --- |
    | `forward` | sources without acknowledgements, such as a WebSocket | waits for room in the buffer only |
    | `deliver` | sources that are acknowledged later | gets futures, done when Kafka has the message |
    | `deliver_new` | entries of a list that is read repeatedly | as `deliver`; nothing new is not counted |
    | `settle` | sources that are acknowledged at once | waits until Kafka has the message |
    """

    publisher: Publisher
    state_dir: Path
    """The folder for state that must survive a restart."""
    health: Health = field(default_factory=lambda: Health("connect"))
    """The health of this vendor's connector."""
    ownership: DeviceOwnership = field(default_factory=DeviceOwnership)
    """The devices that this process owns."""
    registry: RegistryTopic = field(default_factory=NoRegistryTopic)
    """What the registry held before this process."""
    coverage: Coverage = field(default_factory=Coverage)
    """Where the connector says what it listens to."""

    intake: ByteBudget = field(default_factory=ByteBudget)
    """The bytes of received messages that the process's connectors share."""

    async def forward(self, vendor: str, message: ReadMessage) -> None:
        """Count one message and queue its outcome. Waits only for room in the buffer, not for an acknowledgement."""
        count_in(vendor, message)
        for envelope in message.envelopes:
            await self.publisher.publish_soon(envelope)
        for letter in message.dead_letters:
            await self.publisher.dead_letter_soon(letter)

    async def deliver(self, vendor: str, message: ReadMessage) -> list[asyncio.Future[None]]:
        """Like `forward`; the futures are done when Kafka has the outcome of the message."""
        count_in(vendor, message)
        return [
            *[await self.publisher.publish_soon(envelope) for envelope in message.envelopes],
            *[await self.publisher.dead_letter_soon(letter) for letter in message.dead_letters],
        ]

    async def deliver_new(self, vendor: str, message: ReadMessage) -> list[asyncio.Future[None]]:
        """Like `deliver` for an entry of a list that is read repeatedly: one without anything new is not counted."""
        return await self.deliver(vendor, message) if message.envelopes or message.dead_letters else []

    async def settle(self, vendor: str, message: ReadMessage) -> None:
        """Like `deliver`, and wait until Kafka has what the message came to."""
        await asyncio.gather(*await self.deliver(vendor, message))


def count_in(vendor: str, message: ReadMessage) -> None:
    """Count one message of a vendor, and the reason where it was left out."""
    _messages_in(vendor).inc()
    if message.left_out:
        LEFT_OUT.labels(STAGE, vendor, message.left_out).inc()


@cache
def _messages_in(vendor: str) -> Counter:
    counter: Counter = RECORDS_IN.labels(STAGE, vendor)
    return counter
