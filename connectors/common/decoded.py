"""What a vendor's message comes to: envelopes for the raw topic, dead letters for what cannot go there. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.envelope import Envelope
from schemas.wire import DeadLetter


@dataclass
class Decoded:
    """The outcome of reading one message. `left_out` names the reason where it was left out on purpose."""

    envelopes: list[Envelope] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    left_out: str | None = None
