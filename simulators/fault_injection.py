"""Carries out the planted faults of a device whose messages go out on a channel of sockets."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulators import faults
from simulators.faults import DeviceFaults, Fault
from simulators.net import Channel
from simulators.wire import digest, encode, rfc3339

Message = Callable[[float], dict[str, Any]]
"""Makes the message of a moment, in epoch seconds."""


@dataclass(frozen=True)
class MessageVariants:
    """One message of a device, as it should be and with the errors that depend on the vendor."""

    good: Message
    wrong_type: Message
    missing_field: Message


@dataclass
class FaultySender:
    """Sends a device's messages, and the faults that are planted among them."""

    channel: Channel
    planted: DeviceFaults
    variants: MessageVariants
    late_by: float
    """Age of a late message in seconds."""
    _last: bytes = field(default=b"", init=False)

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message that a later duplicate may repeat."""
        self._last = encode(message)
        await self.channel.send(self._last)

    async def carry_out_due(self, now: float) -> None:
        """Carry out the faults that are due, and note each in the truth file."""
        for fault in self.planted.due(now):
            await self._carry_out(fault, now)

    async def _carry_out(self, fault: Fault, now: float) -> None:
        match fault.kind:
            case "malformed":
                variants = self.variants
                payload = faults.spoil(
                    fault.malformation, variants.good(now), variants.wrong_type(now), variants.missing_field(now)
                )
                await self.channel.send(payload)
                self.planted.note_malformed(fault, payload, now)
            case "duplicate" if self._last:
                await self.channel.send(self._last)
                self.planted.note("duplicate", now, sha256=digest(self._last))
            case "late":
                then = now - self.late_by
                payload = encode(self.variants.good(then))
                await self.channel.send(payload)
                self.planted.note("late", now, observed_at=rfc3339(then), sha256=digest(payload))
            case "disconnect":
                self.planted.note("disconnect", now, by="cloud")
                self.channel.drop()
