"""When devices have to be looked at next, by vendor, since each vendor has its own watermark (pure)."""

from __future__ import annotations

import heapq

from schemas.timestamps import NEVER


class DueQueue:
    """A queue of devices in order of their next due moments (microseconds)."""

    def __init__(self) -> None:
        self._heaps: dict[str, list[tuple[int, str]]] = {}
        self._scheduled: dict[str, int] = {}

    def schedule(self, device: str, due: int) -> None:
        """Have the device looked at, at this moment unless an earlier one is scheduled."""
        if due < self._scheduled.get(device, NEVER):
            self._scheduled[device] = due
            heapq.heappush(self._heaps.setdefault(vendor_of(device), []), (due, device))

    def discard(self, device: str) -> None:
        """Forget the device."""
        self._scheduled.pop(device, None)

    def is_due(self, vendor: str, before: int) -> bool:
        """Whether a device of the vendor may be due before a moment."""
        heap = self._heaps.get(vendor)
        return bool(heap) and heap is not None and heap[0][0] < before

    def pop(self, vendor: str, before: int) -> str | None:
        """Take out the next device of the vendor that is due before a moment; None if there is none."""
        heap = self._heaps.get(vendor, [])
        while heap and heap[0][0] < before:
            due, device = heapq.heappop(heap)
            if self._scheduled.get(device) == due:  # else it was scheduled for an earlier moment since
                del self._scheduled[device]
                return device
        return None


def vendor_of(device: str) -> str:
    """The vendor part of a device id."""
    return device.partition(":")[0]
