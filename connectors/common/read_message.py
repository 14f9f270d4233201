"""A vendor's message as it was read: envelopes for the raw topic, dead letters for the rest. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.envelope import Envelope
from schemas.wire import DeadLetter


@dataclass
class ReadMessage:
    """What reading one message gave. `left_out` is the reason where the message was left out on purpose."""

    envelopes: list[Envelope] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    left_out: str | None = None
