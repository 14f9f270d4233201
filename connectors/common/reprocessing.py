"""Messages that a connector refused, read again: with today's program, and what the registry knows by now (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from connectors.common.read_message import ReadMessage
from schemas.vendors import vendors

Devices = Mapping[str, Mapping[str, Any]]
"""The attributes of a vendor's registered devices by device id, the latest entry of the registry last."""


@dataclass(frozen=True, slots=True)
class RefusedMessage:
    """A whole message as its dead letter holds it."""

    message_type: str
    payload: bytes
    device_id: str | None
    received_at: datetime


class Reprocessor(Protocol):
    """Reads one vendor's refused messages.

    The answer is what the connector would make of the message; None where it takes more than the payload to know (an
    MQTT topic, a robot's privacy mode, the state of a command). The envelopes have the ids that the messages would have
    had, so that a message which the vendor sends again meanwhile is the same one.
    """

    def __call__(self, refused: RefusedMessage) -> ReadMessage | None:
        """Read one message; a message that is still refused is a dead letter of the answer."""


class Reprocessing:
    """Hands each refused message to its vendor's `Reprocessor`; `registry` holds the devices of each vendor."""

    def __init__(self, registry: Mapping[str, Devices]) -> None:
        self._registry = registry
        self._by_vendor: dict[str, Reprocessor | None] = {}

    def __call__(self, refused: RefusedMessage) -> ReadMessage | None:
        """As `Reprocessor`; None also for a vendor that is not registered or registers no reprocessor."""
        vendor = refused.message_type.partition(".")[0]
        if vendor not in self._by_vendor:
            self._by_vendor[vendor] = self._reprocessor(vendor)
        reprocessor = self._by_vendor[vendor]
        return None if reprocessor is None else reprocessor(refused)

    def _reprocessor(self, vendor: str) -> Reprocessor | None:
        spec = vendors().get(vendor)
        if spec is None or not spec.reprocessor:
            return None
        made: Reprocessor = spec.load("reprocessor")(self._registry.get(vendor, {}))
        return made
