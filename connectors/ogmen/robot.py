"""One robot as the connector knows it, and the part of it that survives a restart."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from connectors.common.state_file import StateFile
from connectors.ogmen import protocol
from connectors.ogmen.channel import Channel, Sampling
from connectors.ogmen.privacy import PrivacyGate
from connectors.ogmen.protocol import VENDOR
from connectors.ogmen.seen_log_entries import SeenLogEntries
from schemas.device import device_id
from schemas.envelope import message_id

_log = logging.getLogger(__name__)


@dataclass
class Robot:
    """A robot's channel, its privacy mode, and which of its log entries were published."""

    native_id: str
    channel: Channel
    file: StateFile
    seen: dict[str, SeenLogEntries] = field(default_factory=dict)
    privacy_version: str = ""
    """The version of the privacy mode published last."""
    registered: bytes = b""
    """What was published to the device registry last."""
    unusable: dict[str, str] = field(default_factory=dict)
    """By endpoint: the digest of the last unusable answer, which became a dead letter."""
    _saved: object = None

    @classmethod
    def load(cls, native_id: str, sampling: Sampling, folder: Path) -> Robot:
        """A robot as the last process left it."""
        device = device_id(VENDOR, native_id)
        file = StateFile(folder / VENDOR / f"{message_id([native_id])}.json")
        state = file.read()
        gate = PrivacyGate()
        gate.restore(state.get("privacy"))
        seen = state.get("told")
        logs = seen if isinstance(seen, dict) else {}
        return cls(
            native_id,
            Channel(device, sampling, gate),
            file,
            {name: SeenLogEntries.restored(entries) for name, entries in logs.items()},
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

    def seen_of(self, name: str) -> SeenLogEntries:
        """The published entries of one of its logs."""
        return self.seen.setdefault(name, SeenLogEntries())

    def observe_privacy(self, entries: list[bytes], now: datetime) -> bool:
        """Take the privacy mode from the first entry that has it; False where none has."""
        for entry in entries:
            status = protocol.privacy_status(entry)
            if status is not None:
                self.gate.observe(status.enabled, now, status.enabled_at, status.disabled_at)
                return True
        return False

    async def save(self) -> None:
        """Write what must survive a restart, if it has changed. To be called when Kafka has the entries it names."""
        state = {
            "device_id": self.device,
            "told": {name: seen.state() for name, seen in self.seen.items()},
            "privacy": self.gate.state(),
            "privacy_version": self.privacy_version,
        }
        if state == self._saved:
            return
        try:
            await asyncio.to_thread(self.file.write, state)
        except OSError as error:
            _log.warning("ogmen: cannot store which log entries of %s were published: %s", self.device, error.strerror)
            return
        self._saved = state
