"""What the registry and the configuration say of devices: scopes, attributes, maintenance (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from schemas import wire
from schemas.consumed import Record
from schemas.device import split_device_id
from streams.detect.device import Profile
from streams.detect.maintenance_windows import MaintenanceWindows
from streams.detect.options import DetectOptions
from streams.detect.schedules import Scope, windows_of


class Registry:
    """Profiles of devices, made from the registry topic, the configuration and the maintenance windows."""

    def __init__(self, options: DetectOptions, windows: MaintenanceWindows) -> None:
        self._options = options
        self._windows = windows
        self._devices: dict[str, wire.Device] = {}
        self._profiles: dict[str, Profile] = {}

    def take(self, record: Record) -> str:
        """Take a record of the registry topic. Return the device's id; msgspec's error if it is no device."""
        device = None if record.value is None else wire.decode_device(record.value)
        device_id = (record.key or b"").decode()
        self.put(device_id, device)
        return device_id

    def put(self, device_id: str, device: wire.Device | None) -> None:
        """Take what the registry says of a device; None: nothing any more."""
        if device is None:
            self._devices.pop(device_id, None)
        else:
            self._devices[device_id] = device
        self._profiles.pop(device_id, None)

    def forget_profiles(self) -> None:
        """Have all profiles made anew, since maintenance windows have changed."""
        self._profiles.clear()

    def profile(self, device_id: str) -> Profile:
        """The device's profile. ValueError if the id is no device id."""
        profile = self._profiles.get(device_id)
        if profile is None:
            profile = self._profiles[device_id] = self._made(device_id)
        return profile

    def _made(self, device_id: str) -> Profile:
        vendor = split_device_id(device_id)[0]
        device = self._devices.get(device_id)
        scopes: list[Scope] = [("vendor", vendor), ("device", device_id)]
        scopes += _configured("group", self._options.groups, device_id)
        scopes += _configured("profile", self._options.profiles, device_id)
        scopes += _registered_scopes(device) if device is not None else []
        attributes = _registered_attributes(device) if device is not None else {}
        for name, values in self._options.attributes.items():
            for _, value in _configured(name, values, device_id):
                attributes[name] = value
        return Profile(device_id, vendor, tuple(scopes), attributes, windows_of(self._windows.all, scopes))


def _configured(kind: str, named: Mapping[str, Sequence[str]], device: str) -> list[Scope]:
    return [(kind, name) for name, members in named.items() if any(fnmatchcase(device, each) for each in members)]


def _registered_scopes(device: wire.Device) -> list[Scope]:
    """The scopes of a registry record: model, groups, profile."""
    scopes: list[Scope] = [("model", device.model)] if device.model else []
    for kind, names in (("group", ("group_id", "groups", "tags")), ("profile", ("profile_id", "profile"))):
        for name in names:
            given = device.attributes.get(name)
            values = given if isinstance(given, list) else [given]
            scopes += [(kind, value) for value in values if isinstance(value, str) and value]
    return scopes


def _registered_attributes(device: wire.Device) -> dict[str, Any]:
    own = {"name": device.name, "model": device.model, "firmware_version": device.firmware_version}
    return {**{name: value for name, value in own.items() if value is not None}, **device.attributes}
