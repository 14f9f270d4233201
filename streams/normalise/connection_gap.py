"""The connection gap, which fleetlake's own connectors report for any vendor (pure)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from schemas.envelope import GAP
from streams.normalise.message import Message, VendorEvent
from streams.normalise.values import mapping


def gap(message: Message) -> None:
    """A connection gap, `{"from", "to", "reason"}`: it happened when it began."""
    payload = mapping(message.payload())
    message.event(
        VendorEvent("connection_gap", None, message.stamp(payload.get("from"), "from"), payload, title="Connection gap")
    )


HANDLERS: Mapping[str, Callable[[Message], None]] = {GAP: gap}
