"""Which entries of a log were published already: new and changed entries are published, each once. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.timestamps import format_iso, parse_iso


@dataclass
class SeenLogEntries:
    """The versions of a log's latest entries that Kafka has. Bounded: the oldest are forgotten."""

    versions: dict[str, str] = field(default_factory=dict)
    """The version's id → the time of its entry, or an empty text; latest published last."""

    def __contains__(self, version: str) -> bool:
        return version in self.versions

    @property
    def oldest(self) -> datetime | None:
        """The time of the oldest entry remembered; None where none has a time."""
        times = [time for time in self.versions.values() if time]
        return parse_iso(min(times)) if times else None

    def add(self, versions: Iterable[tuple[str, datetime | None]], most: int) -> None:
        """Kafka has these versions. The latest `most` of all are kept."""
        for version, time in versions:
            self.versions.pop(version, None)
            self.versions[version] = format_iso(time) if time else ""
        for version in list(self.versions)[: max(0, len(self.versions) - most)]:
            del self.versions[version]

    def state(self) -> list[list[str]]:
        """What must survive a restart, as JSON."""
        return [[version, time] for version, time in self.versions.items()]

    @classmethod
    def restored(cls, state: Any) -> SeenLogEntries:
        """The inverse of `state`; empty where it cannot be read."""
        try:
            return cls({str(version): format_iso(parse_iso(time)) if time else "" for version, time in state})
        except (TypeError, ValueError, OverflowError):
            return cls()
