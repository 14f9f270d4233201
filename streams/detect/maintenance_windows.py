"""The maintenance windows of the configuration and of the maintenance topic (pure)."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.consumed import Record
from schemas.records import MaintenanceWindow
from streams.detect.schedules import CompiledWindow, window_of


class MaintenanceWindows:
    """All maintenance windows that silence something."""

    def __init__(self, configured: Sequence[CompiledWindow] = ()) -> None:
        self._configured = tuple(configured)
        self._by_name: dict[str, CompiledWindow] = {}

    @property
    def all(self) -> Sequence[CompiledWindow]:
        """The windows, whenever they are."""
        return (*self._configured, *self._by_name.values())

    def take(self, record: Record) -> bool:
        """Take a record of the maintenance topic. Return whether it changed anything; ValueError if it is no window."""
        name = (record.key or b"").decode()
        value = record.value
        window = None if value is None else window_of(MaintenanceWindow.model_validate_json(value))
        if window == self._by_name.get(name):
            return False
        if window is None:
            del self._by_name[name]
        else:
            self._by_name[name] = window
        return True
