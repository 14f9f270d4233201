"""The outcome of reading a vendor's message: envelopes for the raw topic, dead letters for the rest. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.envelope import Envelope
from schemas.wire import DeadLetter


@dataclass
class Decoded:
    """The outcome of reading one message. `left_out` is the reason where the message was left out on purpose."""

    envelopes: list[Envelope] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    left_out: str | None = None
