"""A robot's privacy mode: when it is on, and when it was (contract.md, «Redaction»). Pure.

While it is on, or not known, position, insights and media facts are not taken. Nor are they taken afterwards: logs that
are read once it is off again still hold the entries of that time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from schemas.timestamps import format_iso, parse_iso

_EVER = datetime.min.replace(tzinfo=UTC)
_MOST_SPANS = 32


@dataclass
class PrivacyGate:
    """What may be taken of one robot. `on` is None as long as nobody has told."""

    on: bool | None = None
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Times during which it was on, oldest first; the latest ones only."""
    since: datetime | None = None
    """Since when it has been on."""
    _last_off: datetime | None = None

    def observe(
        self, enabled: bool, now: datetime, enabled_at: datetime | None = None, disabled_at: datetime | None = None
    ) -> None:
        """What the robot's privacy mode is at `now`, and when it was switched, as far as that is told.

        Where it is not told (or cannot be), it counts as on from the last time it was seen off.
        """
        if enabled:
            self._switched_on(now, enabled_at)
        else:
            self._switched_off(now, enabled_at, disabled_at)

    def hides(self, at: datetime | None = None) -> bool:
        """Whether what happened at that time must not be taken now."""
        if self.on is not False:
            return True
        return at is not None and any(start <= at <= end for start, end in self.spans)

    def was_on(self, at: datetime | None) -> bool:
        """Whether it was on at that time; what has no time is of now."""
        if any(at is not None and start <= at <= end for start, end in self.spans):
            return True
        return self.on is not False and (self.since is None or at is None or at >= self.since)

    def state(self) -> dict[str, Any]:
        """What must survive a restart, as JSON."""
        return {
            "since": format_iso(self.since) if self.since else None,
            "spans": [[format_iso(start), format_iso(end)] for start, end in self.spans],
        }

    def restore(self, state: Any) -> None:
        """Read `state` back; what cannot be read is ignored. Whether it is on has to be told anew."""
        try:
            since = parse_iso(state["since"]) if state["since"] else None
            spans = [(parse_iso(start), parse_iso(end)) for start, end in state["spans"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        self.since, self.spans = since, spans

    def _switched_on(self, now: datetime, enabled_at: datetime | None) -> None:
        if self.since is None:
            told = enabled_at is not None and enabled_at <= now
            earliest = self._last_off or (_EVER if not told else None)
            self.since = max(filter(None, (enabled_at if told else None, earliest)))
        self.on = True

    def _switched_off(self, now: datetime, enabled_at: datetime | None, disabled_at: datetime | None) -> None:
        until = disabled_at if disabled_at is not None and disabled_at <= now else None
        if self.since is not None:
            self._remember(self.since, until if until is not None and until >= self.since else now)
        elif enabled_at is not None and until is not None and enabled_at < until:
            self._remember(enabled_at, until)  # perhaps on and off again between two readings
        self.since, self._last_off, self.on = None, now, False

    def _remember(self, start: datetime, end: datetime) -> None:
        if (start, end) not in self.spans:
            self.spans = [*self.spans, (start, end)][-_MOST_SPANS:]
