"""Waiting times between attempts: exponential, with full jitter, capped. Pure: the random number is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Backoff:
    """Seconds to wait before the next attempt: between half of and the whole of `base · 2ⁿ`, at most `cap`.

    Half of it is jitter, so that a thousand sockets that fell together do not come back together.
    """

    base: float = 0.5
    cap: float = 60.0
    attempts: int = field(default=0, init=False)

    def next(self, random: float) -> float:
        """The next waiting time; `random` is in [0, 1)."""
        ceiling = min(self.cap, self.base * 2.0 ** min(self.attempts, 30))
        self.attempts += 1
        return ceiling * (0.5 + random / 2)

    def reset(self) -> None:
        """To be called after a success."""
        self.attempts = 0
