"""What of a list that grows was told already, remembered over restarts: nothing twice, nothing missed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas.timestamps import format_iso, parse_iso

OVERLAP = timedelta(hours=6)
"""Entries may be filed late: each reading goes back so far behind the one before."""
DEEP_EVERY = timedelta(days=1)
"""So often a reading goes back all of `depth`, for what was filed very late (a machine that was offline for days)."""


@dataclass
class History:
    """One list (cleaning reports, notifications, a machine's commands).

    A reading is: entries since `since(now)`; of these the ones that are `is_new`; once Kafka has them, `tell` each;
    then `read(now)`.
    """

    depth: timedelta
    until: datetime | None = None
    deep_at: datetime | None = None
    told: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def load(cls, content: Mapping[str, Any], depth: timedelta) -> History:
        """What `dump` made; empty where it cannot be read."""
        try:
            told = {str(key): parse_iso(at) for key, at in content["told"].items()}
            return cls(depth, parse_iso(content["until"]), parse_iso(content["deep_at"]), told)
        except (KeyError, TypeError, ValueError, AttributeError):
            return cls(depth)

    def dump(self) -> dict[str, Any]:
        """As JSON takes it."""
        if self.until is None or self.deep_at is None:
            return {}
        told = {key: format_iso(at) for key, at in self.told.items()}
        return {"until": format_iso(self.until), "deep_at": format_iso(self.deep_at), "told": told}

    def since(self, now: datetime) -> datetime:
        """From when on this reading has to go."""
        if self.until is None or self._is_deep(now):
            return min(self.until or now, now) - self._reach
        return min(self.until, now) - OVERLAP

    def is_new(self, key: str) -> bool:
        """Whether this entry was not told yet."""
        return key not in self.told

    def tell(self, key: str, at: datetime) -> None:
        """Kafka has this entry; `at` is the later of its own time and now."""
        self.told[key] = at

    def read(self, now: datetime) -> None:
        """The reading that began at `now` is complete."""
        if self._is_deep(now):
            self.deep_at = now
        self.until = now
        oldest = now - self._reach - DEEP_EVERY
        self.told = {key: at for key, at in self.told.items() if at >= oldest}

    @property
    def _reach(self) -> timedelta:
        return max(self.depth, OVERLAP)

    def _is_deep(self, now: datetime) -> bool:
        return self.deep_at is None or not timedelta() <= now - self.deep_at < DEEP_EVERY
