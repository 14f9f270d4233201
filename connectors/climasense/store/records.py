"""The records that the store returns (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.climasense import Role


class StateError(ValueError):
    """What was asked for is not possible; the text says why."""


@dataclass(frozen=True)
class DeviceState:
    """A device, without its keys."""

    device: str
    role: Role
    batch: str | None = None
    serial_number: str | None = None
    firmware_version: str | None = None
    hub: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyInfo:
    """A key as an operator may see it: `key_id` is the beginning of its digest."""

    key_id: str
    device: str
    role: str
    batch: str | None
    source: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True)
class Command:
    """A command and, once reported, its result."""

    command_id: str
    device: str
    type: str
    payload: dict[str, Any]
    created_at: datetime
    expires_at: datetime
    status: str | None = None
    error_message: str | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class Firmware:
    """A firmware image; `checksum` is `sha256:` and the digest in hexadecimal."""

    version: str
    checksum: str
    size_bytes: int
    release_notes: str
    batches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Update:
    """How far a device's update has come. `attempt` counts from 1 and rises when an update starts over."""

    version: str
    attempt: int
    status: str
    progress_percent: int | None = None

    @property
    def ended(self) -> bool:
        """Whether this was the last report of its attempt."""
        return self.status in ("completed", "failed")
