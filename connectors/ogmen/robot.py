"""One robot as the connector knows it, and what of that survives a restart."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path

from connectors.common.state_file import StateFile
from connectors.ogmen.channel import Channel, Sampling
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.seen_log_entries import Told
from schemas.device import device_id
from schemas.envelope import message_id

_log = logging.getLogger(__name__)


@dataclass
class Robot:
    """A robot's channel, its privacy mode, and which log entries of it have been told."""

    native_id: str
    channel: Channel
    file: StateFile
    told: dict[str, Told] = field(default_factory=dict)
    privacy_version: str = ""
    """The version of the privacy mode told last."""
    registered: bytes = b""
    """What the registry was told last."""
    unusable: dict[str, str] = field(default_factory=dict)
    """By endpoint, the digest of an answer that could not be used and has been dead-lettered."""
    _saved: object = None

    @classmethod
    def load(cls, native_id: str, sampling: Sampling, folder: Path) -> Robot:
        """A robot as the last process left it."""
        device = device_id(VENDOR, native_id)
        file = StateFile(folder / VENDOR / f"{message_id([native_id])}.json")
        state = file.read()
        gate = PrivacyGate()
        gate.restore(state.get("privacy"))
        told = state.get("told")
        return cls(
            native_id,
            Channel(device, sampling, gate),
            file,
            {name: Told.restored(found) for name, found in told.items()} if isinstance(told, dict) else {},
            str(state.get("privacy_version", "")),
        )

    @property
    def device(self) -> str:
        """Its device id."""
        return self.channel.device

    @property
    def gate(self) -> PrivacyGate:
        """Its privacy mode."""
        return self.channel.gate

    def told_of(self, name: str) -> Told:
        """What has been told of one of its logs."""
        return self.told.setdefault(name, Told())

    async def save(self) -> None:
        """Write down what must survive a restart, if it has changed. To be called when Kafka has what it speaks of."""
        state = {
            "device_id": self.device,
            "told": {name: told.state() for name, told in self.told.items()},
            "privacy": self.gate.state(),
            "privacy_version": self.privacy_version,
        }
        if state == self._saved:
            return
        try:
            await asyncio.to_thread(self.file.write, state)
        except OSError as error:
            _log.warning("ogmen: cannot remember what was told of %s: %s", self.device, error.strerror)
            return
        self._saved = state
