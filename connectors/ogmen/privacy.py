"""A robot's privacy mode: when it is on, and when it was (docs/contract.md, «Redaction»). Pure.

While it is on, or not known, positions, insights and facts about media are left out. Entries of that time are left out
afterwards as well: a log that is read once the mode is off still contains them.
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
    """What may be taken from one robot. `on` is None as long as the privacy mode is not known."""

    on: bool | None = None
    spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    """Times during which it was on, oldest first; the latest ones only."""
    since: datetime | None = None
    """Since when it has been on."""
    _last_off: datetime | None = None

    def observe(
        self, enabled: bool, now: datetime, enabled_at: datetime | None = None, disabled_at: datetime | None = None
    ) -> None:
        """Take the privacy mode at `now`, and the times at which it was switched, where they are reported.

        Without a reported time (or with one in the future), the mode counts as on since it was last seen off.
        """
        if enabled:
            self._switched_on(now, enabled_at)
        else:
            self._switched_off(now, enabled_at, disabled_at)

    def hides(self, at: datetime | None = None) -> bool:
        """Whether a fact of that time (None: of now) must be left out."""
        if self.on is not False:
            return True
        return at is not None and any(start <= at <= end for start, end in self.spans)

    def was_on(self, at: datetime | None) -> bool:
        """Whether the mode was on at that time (None: now)."""
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
        """The inverse of `state`; ignores what cannot be read. Whether the mode is on must be observed anew."""
        try:
            since = parse_iso(state["since"]) if state["since"] else None
            spans = [(parse_iso(start), parse_iso(end)) for start, end in state["spans"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        self.since, self.spans = since, spans

    def _switched_on(self, now: datetime, enabled_at: datetime | None) -> None:
        if self.since is None:
            is_reported = enabled_at is not None and enabled_at <= now
            earliest = self._last_off or (_EVER if not is_reported else None)
            self.since = max(filter(None, (enabled_at if is_reported else None, earliest)))
        self.on = True

    def _switched_off(self, now: datetime, enabled_at: datetime | None, disabled_at: datetime | None) -> None:
        until = disabled_at if disabled_at is not None and disabled_at <= now else None
        if self.since is not None:
            self._remember(self.since, until if until is not None and until >= self.since else now)
        elif enabled_at is not None and until is not None and enabled_at < until:
            self._remember(enabled_at, until)  # on and off between two readings
        self.since, self._last_off, self.on = None, now, False

    def _remember(self, start: datetime, end: datetime) -> None:
        if (start, end) not in self.spans:
            self.spans = [*self.spans, (start, end)][-_MOST_SPANS:]
