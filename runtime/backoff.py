"""Waiting times between attempts: exponential, with jitter, capped (pure: the random number is an argument)."""

from __future__ import annotations

from dataclasses import dataclass, field

_MOST_DOUBLINGS = 30
"""Beyond this a float would overflow before the cap is applied."""


def backoff_seconds(failures: int, base: float, cap: float, random: float) -> float:
    """Seconds to wait after so many failures in a row: between half of and the whole of `base · 2ⁿ⁻¹`, at most `cap`.

    `random` is in [0, 1). Half of the time is jitter, so that a thousand clients that failed together do not come back
    together.
    """
    ceiling = min(cap, base * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))
    return ceiling * (0.5 + random / 2)


@dataclass
class Backoff:
    """Counts the failures in a row of one loop, for the waiting time before its next attempt."""

    base: float = 0.5
    cap: float = 60.0
    failures: int = field(default=0, init=False)
    """How many failures in a row there were."""

    def next(self, random: float) -> float:
        """Count a failure; the seconds to wait after it. `random` is in [0, 1)."""
        self.failures += 1
        return backoff_seconds(self.failures, self.base, self.cap, random)

    def reset(self) -> None:
        """Start over, after a success."""
        self.failures = 0
