"""The registered devices as the registry topic holds them."""

from __future__ import annotations

from typing import Protocol

import msgspec

from runtime.kafka import KafkaSettings, client_options
from runtime.topic_reader import read_topic
from schemas.topics import DEVICES
from schemas.wire import Device, decode_device


class RegistryTopic(Protocol):
    """Where the registered devices are read."""

    async def registered(self, vendor: str) -> dict[str, Device]:
        """The vendor's registered devices by id. KafkaError, OSError or TimeoutError where they cannot be read."""


class NoRegistryTopic:
    """Stands in where nothing was registered before."""

    async def registered(self, vendor: str) -> dict[str, Device]:
        """No devices."""
        return {}


class KafkaRegistryTopic:
    """The topic `telemetry.devices.v1`."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._kafka = kafka

    async def registered(self, vendor: str) -> dict[str, Device]:
        """See `RegistryTopic`. A record that is no device is left out."""
        devices: dict[str, Device] = {}
        prefix = f"{vendor}:".encode()
        async for batch in read_topic(client_options(self._kafka), DEVICES):
            for record in batch.records:
                if record.key is None or not record.key.startswith(prefix):
                    continue
                device = _device(record.value)
                if device is not None and device.registered:
                    devices[device.device_id] = device
                else:
                    devices.pop(record.key.decode(errors="replace"), None)
        return devices


def _device(value: bytes | None) -> Device | None:
    try:
        return None if value is None else decode_device(value)
    except msgspec.MsgspecError:
        return None
