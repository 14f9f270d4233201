"""Watermarks: up to when each vendor's records have been read (pure).

A watermark (a record of `fleetlake.clock.v1`) says: all raw records of this vendor and partition that were received
before a moment are on the output topics, the last of them made of this raw offset. It holds here as soon as a record
made of that raw offset has been read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import msgspec


class VendorWatermark:
    """The watermark of one vendor."""

    __slots__ = ("_waiting", "newest_offset", "reached", "read_offset")

    def __init__(self) -> None:
        self.read_offset = -1
        """Offset of the raw record that the last record read was made of."""
        self.reached = -1
        """All that was received before this moment (microseconds) has been read."""
        self.newest_offset = -1
        """The furthest raw offset that a watermark named."""
        self._waiting: deque[tuple[int, int]] = deque()

    def add(self, at: int, raw_offset: int) -> None:
        """Take a watermark. Of those that wait the oldest is kept, so that a lag does not put all of them off."""
        if len(self._waiting) > 1:
            self._waiting.pop()
        self._waiting.append((at, raw_offset))
        self.newest_offset = max(self.newest_offset, raw_offset)
        self.settle()

    def settle(self) -> None:
        """Advance to the last watermark that holds."""
        while self._waiting and self._waiting[0][1] <= self.read_offset:
            self.reached = max(self.reached, self._waiting.popleft()[0])


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

    def add(self, vendor: str, at: int, raw_offset: int) -> None:
        """Take a watermark of a vendor."""
        self._vendors.setdefault(vendor, VendorWatermark()).add(at, raw_offset)

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
        """The moment before which all records of a vendor have been read."""
        return self._vendors[vendor].reached

    @property
    def vendors(self) -> Sequence[str]:
        """All vendors."""
        return tuple(self._vendors)

    @property
    def all_reached(self) -> int:
        """The moment before which all records, of whichever vendor, have been read."""
        return min(mark.reached for mark in self._vendors.values())

    def skip_mark(self) -> Mapping[str, int]:
        """By vendor, the furthest raw offset that a watermark named."""
        return {vendor: mark.newest_offset for vendor, mark in self._vendors.items()}

    def skip(self, mark: Mapping[str, int]) -> None:
        """Take note that all up to an earlier `skip_mark` has been left unread."""
        for vendor, offset in mark.items():
            self.read(vendor, max(offset, self._vendors[vendor].read_offset))
