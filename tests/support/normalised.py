"""One message of a vendor, normalised on its own."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from schemas import wire
from schemas.envelope import Envelope
from schemas.topics import raw_topic
from streams.normalise import Normalised, Options, normalise

RECEIVED = datetime(2026, 3, 16, 7, 21, 7, tzinfo=UTC)


def normalised(message_type: str, payload: Any, **fields: Any) -> Normalised:
    """What a message of that type becomes, received at `RECEIVED` from a device of its vendor."""
    vendor = message_type.partition(".")[0]
    given = {"device_id": f"{vendor}:one", "received_at": RECEIVED, "data": json.dumps(payload).encode()} | fields
    envelope = Envelope(id="id", type=message_type, source="test", **given)
    return normalise(envelope, wire.Origin(raw_topic(vendor), 0, 0), Options())


def readings_of(result: Normalised) -> dict[str, wire.Reading]:
    """Its readings by metric."""
    return {} if result.observation is None else {reading.metric: reading for reading in result.observation.readings}


def events_of(result: Normalised) -> list[wire.Event]:
    """Its events."""
    return [] if result.events is None else list(result.events.events)


def problems_of(result: Normalised) -> list[tuple[str, str]]:
    """What was wrong with it: path and reason."""
    return [] if result.dead_letter is None else [(p.path, p.reason) for p in result.dead_letter.problems]
