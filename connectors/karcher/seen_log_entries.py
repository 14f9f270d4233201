"""Which entries of a growing list were published already: none is published twice, none is missed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas.timestamps import format_iso, parse_iso

OVERLAP = timedelta(hours=6)
"""How far each reading goes back behind the one before: entries may be filed late."""
DEEP_EVERY = timedelta(days=1)
"""How often a reading goes back all of `depth`, for entries filed very late (a machine that was offline for days)."""


@dataclass
class SeenLogEntries:
    """The entries seen of one list: cleaning reports, notifications, or a machine's commands.

    A reading asks for the entries since `since(now)` and publishes those that are `is_new`. Once Kafka has them, it
    calls `add` for each, and then `finish(now)`. `dump` and `load` keep this over restarts.
    """

    depth: timedelta
    until: datetime | None = None
    """The beginning of the last complete reading."""
    deep_at: datetime | None = None
    """The beginning of the last reading that went back all of `depth`."""
    seen: dict[str, datetime] = field(default_factory=dict)
    """Each entry's key, and the later of its own time and the time of its reading."""

    @classmethod
    def load(cls, content: Mapping[str, Any], depth: timedelta) -> SeenLogEntries:
        """The inverse of `dump`; empty where the content cannot be read."""
        try:
            seen = {str(key): parse_iso(at) for key, at in content["told"].items()}
            return cls(depth, parse_iso(content["until"]), parse_iso(content["deep_at"]), seen)
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls(depth)

    def dump(self) -> dict[str, Any]:
        """The state as JSON takes it. The member `told` is named as in the files of earlier versions."""
        if self.until is None or self.deep_at is None:
            return {}
        seen = {key: format_iso(at) for key, at in self.seen.items()}
        return {"until": format_iso(self.until), "deep_at": format_iso(self.deep_at), "told": seen}

    def since(self, now: datetime) -> datetime:
        """The time from which a reading that begins at `now` needs the entries."""
        if self.until is None or self._is_deep(now):
            return min(self.until or now, now) - self._reach
        return min(self.until, now) - OVERLAP

    def is_new(self, key: str) -> bool:
        """Whether this entry was not published yet."""
        return key not in self.seen

    def add(self, key: str, at: datetime) -> None:
        """Kafka has this entry; `at` is the later of its own time and now."""
        self.seen[key] = at

    def finish(self, now: datetime) -> None:
        """The reading that began at `now` is complete. Entries that no reading can return any more are forgotten."""
        if self._is_deep(now):
            self.deep_at = now
        self.until = now
        oldest = now - self._reach - DEEP_EVERY
        self.seen = {key: at for key, at in self.seen.items() if at >= oldest}

    @property
    def _reach(self) -> timedelta:
        return max(self.depth, OVERLAP)

    def _is_deep(self, now: datetime) -> bool:
        return self.deep_at is None or not timedelta() <= now - self.deep_at < DEEP_EVERY
