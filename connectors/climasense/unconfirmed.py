"""Bodies without a time of their own that were answered 503 although they were on their way to Kafka."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

MOST = 10_000
"""Bodies remembered; of more the oldest are forgotten."""


class UnconfirmedBodies:
    """Recognises a body that a device posts once more after a 503. Needs no event loop.

    A device keeps what was answered 503 and posts it again. A body whose readings have times has an id by which the
    normaliser drops the second one; one without times is known by its content alone. So the first equal body of the
    device after a 503 is taken for the one that was not confirmed, and the next one for a new measurement.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._number = 0
        self._bodies: OrderedDict[tuple[str, int], asyncio.Future[None]] = OrderedDict()
        self._numbers: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def add(self, content: str, delivered: asyncio.Future[None]) -> None:
        """Remember a body by the digest of device and content; the future is done when Kafka has it."""
        self._number += 1
        self._bodies[content, self._number] = delivered
        self._numbers.setdefault(content, []).append(self._number)
        if len(self._bodies) > self._most:
            oldest, _ = next(iter(self._bodies))
            self.take(oldest)

    def take(self, content: str) -> asyncio.Future[None] | None:
        """Forget the oldest of the equal bodies and return its future; None where there is none."""
        numbers = self._numbers.get(content)
        if not numbers:
            return None
        number = numbers.pop(0)
        if not numbers:
            del self._numbers[content]
        return self._bodies.pop((content, number))
