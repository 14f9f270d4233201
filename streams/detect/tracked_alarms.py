"""The alarms of a partition, by device: scheduled by when something is due, and written when changed (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Protocol, TypeVar

from schemas import wire
from schemas.topics import ALARM_STATE
from streams.detect.device import TrackedDevice
from streams.detect.due_queue import DueQueue
from streams.detect.state import DeviceState, decode_state, encode_state
from streams.engine.step import Output


class Alarms(Protocol):
    """The alarms of one device."""

    @property
    def device(self) -> TrackedDevice:
        """The device."""
        ...

    def advance(self, until: int) -> list[wire.AlarmEvent]:
        """Let everything happen that is due before `until`."""
        ...


A = TypeVar("A", bound=Alarms)


class TrackedAlarms(Mapping[str, A]):
    """The alarms of each device that has a state, by device id.

    The state of a device is written under the key `<input topic>/<device id>`, or deleted where it says nothing.
    """

    def __init__(self, input_topic: str, new: Callable[[str, DeviceState], A]) -> None:
        self.open_alarms = 0
        """Number of open alarms."""
        self._key_prefix = f"{input_topic}/".encode()
        self._new = new
        self._by_device: dict[str, A] = {}
        self._due = DueQueue()
        self._changed: set[str] = set()

    def __getitem__(self, device_id: str) -> A:
        return self._by_device[device_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_device)

    def __len__(self) -> int:
        return len(self._by_device)

    def find(self, device_id: str) -> A | None:
        """The device's alarms, if it has a state."""
        return self._by_device.get(device_id)

    def of(self, device_id: str, state: DeviceState | None = None) -> A:
        """The device's alarms; made with this state, or an empty one, if there are none."""
        alarms = self._by_device.get(device_id)
        if alarms is None:
            alarms = self._by_device[device_id] = self._new(device_id, state or DeviceState())
            self.schedule(alarms)
        return alarms

    def keep(self, alarms: A) -> None:
        """Keep alarms that were made elsewhere."""
        self._by_device[alarms.device.id] = alarms

    # -- when something is due

    def schedule(self, alarms: A) -> None:
        """Have a watermark find the device when something is due."""
        self._due.schedule(alarms.device.id, alarms.device.due)

    def look_at(self, alarms: A) -> None:
        """Have the next watermark look at a device: something may be due."""
        alarms.device.due = 0
        self.schedule(alarms)

    def is_due(self, vendor: str, before: int) -> bool:
        """Whether something may be due before a moment for a device of the vendor."""
        return self._due.is_due(vendor, before)

    def next_due(self, vendor: str, before: int) -> A | None:
        """Take the vendor's next device that is to be looked at before a moment; schedule it anew afterwards."""
        while (device_id := self._due.pop(vendor, before)) is not None:
            if (alarms := self._by_device.get(device_id)) is not None:
                return alarms
        return None

    # -- states

    @property
    def has_changes(self) -> bool:
        """Whether a state is to be written."""
        return bool(self._changed)

    def change(self, device_id: str) -> None:
        """Have the device's state written."""
        self._changed.add(device_id)

    def written(self) -> list[tuple[str, Output]]:
        """The states that have changed since the last call, by device id. Devices of which nothing is kept are gone."""
        written = [(device_id, self._written(device_id)) for device_id in sorted(self._changed)]
        self._changed.clear()
        return written

    def _written(self, device_id: str) -> Output:
        state = self._by_device[device_id].device.state
        key = self._key_prefix + device_id.encode()
        if not state.is_void:
            return Output(ALARM_STATE, key, encode_state(state))
        del self._by_device[device_id]
        self._due.discard(device_id)
        return Output(ALARM_STATE, key, None)

    def restore(self, key: bytes, value: bytes | None) -> A | None:
        """Take the state of one device, if it is of this input topic; None where nothing of it is kept."""
        if not key.startswith(self._key_prefix):
            return None
        device_id = key[len(self._key_prefix) :].decode()
        if (before := self._by_device.pop(device_id, None)) is not None:
            self.open_alarms -= before.device.state.open_alarms
        if value is None:
            return None
        alarms = self.of(device_id, decode_state(value))
        self.open_alarms += alarms.device.state.open_alarms
        return alarms
