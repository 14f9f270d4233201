"""Watermarks: up to when each vendor's records have been read (pure).

A watermark (a record of `fleetlake.clock.v1`) says: all raw records of this vendor and partition that were received
before a moment are on the output topics, the last of them made of this raw offset. It holds here as soon as a record
made of that raw offset has been read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from schemas.timestamps import NEVER

UNREPORTED = 60 * 1_000_000
"""Where coverage is not reported for so long (microseconds), nobody listens: nothing happens before that is over."""


class VendorWatermark:
    """The watermark of one vendor."""

    __slots__ = ("_bound", "_claimed_until", "_waiting", "clock", "newest_offset", "reached", "read_offset")

    def __init__(self) -> None:
        self.read_offset = -1
        """Offset of the raw record that the last record read was made of."""
        self.reached = -1
        """All that was received before this moment (microseconds) has been read, and it is known who listened."""
        self.clock = -1
        """`clock` of that watermark: all that was received before it has been read, whoever listened."""
        self.newest_offset = -1
        """The furthest raw offset that a watermark named."""
        self._claimed_until = -1
        """`at` of the last watermark that holds: the source of watermarks knew then who had listened up to it."""
        self._bound = NEVER
        """Up to when it is known here who listened: coverage is another topic, and may be read later."""
        self._waiting: deque[tuple[int, int, int]] = deque()

    def add(self, at: int, raw_offset: int, clock: int | None = None) -> None:
        """Take a watermark. Of those that wait the oldest is kept, so that a lag does not put all of them off."""
        if len(self._waiting) > 1:
            self._waiting.pop()
        self._waiting.append((at, raw_offset, at if clock is None else clock))
        self.newest_offset = max(self.newest_offset, raw_offset)
        self.settle()

    def bound(self, reported_until: int) -> None:
        """Hold back at the moment until which it is known who listened."""
        self._bound = reported_until
        self.settle()

    def settle(self) -> None:
        """Advance to the last watermark that holds."""
        while self._waiting and self._waiting[0][1] <= self.read_offset:
            at, _, clock = self._waiting.popleft()
            self._claimed_until, self.clock = max(self._claimed_until, at), max(self.clock, clock)
        self.reached = max(self.reached, min(self._claimed_until, self._bound))

    @property
    def complete_until(self) -> int:
        """The moment before which nothing can happen any more.

        A listener that has not reported for long has a gap from its last report to its next: no silence ends in it.
        """
        return self.clock if self.clock - self.reached > UNREPORTED else self.reached


class Watermarks:
    """The watermarks of all vendors on one partition. What has been read is kept in the state."""

    def __init__(self, vendors: Sequence[str]) -> None:
        self._vendors = {vendor: VendorWatermark() for vendor in vendors}
        self._is_changed = False

    def restore(self, value: bytes) -> None:
        """Take what `encoded` gave."""
        for vendor, offset in msgspec.msgpack.decode(value).items():
            self._vendors.setdefault(vendor, VendorWatermark()).read_offset = offset

    def encoded(self) -> bytes | None:
        """The state to be written; None if it has not changed since the last call."""
        if not self._is_changed:
            return None
        self._is_changed = False
        read = {vendor: mark.read_offset for vendor, mark in self._vendors.items() if mark.read_offset >= 0}
        return msgspec.msgpack.encode(read)

    def add(self, vendor: str, at: int, raw_offset: int, clock: int | None = None) -> None:
        """Take a watermark of a vendor."""
        self._vendors.setdefault(vendor, VendorWatermark()).add(at, raw_offset, clock)

    def bound(self, vendor: str, reported_until: int) -> None:
        """Hold a vendor back at the moment until which it is known who listened."""
        self._vendors.setdefault(vendor, VendorWatermark()).bound(reported_until)

    def read(self, vendor: str, raw_offset: int) -> None:
        """Take note that a record made of this raw record has been read."""
        mark = self._vendors.get(vendor)
        if mark is not None and mark.read_offset != raw_offset:
            mark.read_offset = raw_offset
            self._is_changed = True

    def settled(self) -> Iterator[tuple[str, int]]:
        """Advance each vendor to the last watermark that holds; vendor and moment reached."""
        for vendor, mark in self._vendors.items():
            mark.settle()
            yield vendor, mark.reached

    def reached(self, vendor: str) -> int:
        """All that a vendor sent before this moment has been read, and it is known who listened."""
        return self._vendors[vendor].reached

    @property
    def vendors(self) -> Sequence[str]:
        """All vendors."""
        return tuple(self._vendors)

    @property
    def all_reached(self) -> int:
        """The moment before which all that can happen, to devices of whichever vendor, has happened."""
        return min(mark.complete_until for mark in self._vendors.values())

    def skip_mark(self) -> Mapping[str, int]:
        """By vendor, the furthest raw offset that a watermark named."""
        return {vendor: mark.newest_offset for vendor, mark in self._vendors.items()}

    def skip(self, mark: Mapping[str, int]) -> None:
        """Take note that all up to an earlier `skip_mark` has been left unread."""
        for vendor, offset in mark.items():
            self.read(vendor, max(offset, self._vendors[vendor].read_offset))
