"""How many bytes of messages the connectors of one process may have taken from vendors and not yet handed on."""

from __future__ import annotations

import threading
from collections.abc import Callable

MIB = 1024 * 1024


class ByteBudget:
    """Counts bytes against a capacity. Thread-safe: MQTT messages arrive in threads of their own.

    A message that is larger than the capacity is taken when nothing else is held.
    """

    def __init__(self, capacity: int = 128 * MIB) -> None:
        self._capacity = capacity
        self._changed = threading.Condition()
        self.held = 0
        """Bytes taken and not released."""

    def try_take(self, size: int) -> bool:
        """Take the bytes if there is room; whether there was."""
        with self._changed:
            return self._take_if_room(size)

    def take(self, size: int, given_up: Callable[[], bool]) -> bool:
        """Take the bytes; blocks the thread until there is room. False where `given_up` says so meanwhile (`wake`)."""
        with self._changed:
            while not given_up():
                if self._take_if_room(size):
                    return True
                self._changed.wait()
        return False

    def release(self, size: int) -> None:
        """Make room."""
        with self._changed:
            self.held -= size
            self._changed.notify_all()

    def wake(self) -> None:
        """Have those who wait ask once more whether they give up."""
        with self._changed:
            self._changed.notify_all()

    def _take_if_room(self, size: int) -> bool:
        if self.held and self.held + size > self._capacity:
            return False
        self.held += size
        return True
