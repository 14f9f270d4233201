"""The devices that were ever met, kept over restarts: an outage concerns all of them."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.common.state_file import StateFile


class KnownDevices:
    """Native ids of all devices that sent something or were listed.

    Several processes may share the file: each adds what it knows, and none removes.
    """

    def __init__(self, file: StateFile) -> None:
        self._file = file
        self._devices = self._stored()
        self._written = 0
        """How many devices the file had when this process wrote it last."""

    def add(self, *devices: str) -> None:
        """Add devices; `write` keeps them."""
        self._devices.update(devices)

    def all(self) -> set[str]:
        """The devices that this process or another one on the state folder has met."""
        return self._devices | self._stored()

    def write(self) -> None:
        """Write the file if this process knows more than it has written."""
        if len(self._devices) != self._written:
            self._devices = self.all()
            self._file.write({"devices": sorted(self._devices)})
            self._written = len(self._devices)

    def _stored(self) -> set[str]:
        devices: Iterable[object] = self._file.read().get("devices", [])
        return set(map(str, devices))
