"""What every connector is given to work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from prometheus_client import Counter

from connectors.common import STAGE
from connectors.common.decoded import Decoded
from connectors.common.device_ownership import DeviceOwnership
from connectors.common.publisher import Publisher
from runtime.health import Health
from runtime.metrics import LEFT_OUT, RECORDS_IN


def utc_now() -> datetime:
    """The clock of the connectors."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Context:
    """The publisher, the folder for what must survive a restart, the health of this vendor's connector, and which
    devices are this process's.
    """

    publisher: Publisher
    state_dir: Path
    health: Health = field(default_factory=lambda: Health("connect"))
    ownership: DeviceOwnership = field(default_factory=DeviceOwnership)

    async def forward(self, vendor: str, decoded: Decoded) -> None:
        """Count one message and queue what it came to; waits only for room in the buffer (no acknowledgement)."""
        count_in(vendor, decoded)
        for envelope in decoded.envelopes:
            await self.publisher.publish_soon(envelope)
        for letter in decoded.dead_letters:
            await self.publisher.dead_letter_soon(letter)

    async def deliver(self, vendor: str, decoded: Decoded) -> list[asyncio.Future[None]]:
        """Like `forward`; the futures are done when Kafka has what the message came to."""
        count_in(vendor, decoded)
        return [
            *[await self.publisher.publish_soon(envelope) for envelope in decoded.envelopes],
            *[await self.publisher.dead_letter_soon(letter) for letter in decoded.dead_letters],
        ]

    async def deliver_new(self, vendor: str, decoded: Decoded) -> list[asyncio.Future[None]]:
        """Like `deliver` for an entry of a list that is read repeatedly: one without anything new is not counted."""
        return await self.deliver(vendor, decoded) if decoded.envelopes or decoded.dead_letters else []


def count_in(vendor: str, decoded: Decoded) -> None:
    """Count one message that came from a vendor, and why it was left out if it was."""
    _taken_in(vendor).inc()
    if decoded.left_out:
        LEFT_OUT.labels(STAGE, vendor, decoded.left_out).inc()


@cache
def _taken_in(vendor: str) -> Counter:
    counter: Counter = RECORDS_IN.labels(STAGE, vendor)
    return counter
