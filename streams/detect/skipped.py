"""Counts of what was received and changed no state, by reason (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.metrics import DUPLICATES, LEFT_OUT


@dataclass(slots=True)
class SkippedCounts:
    """What changed no state, by reason, since it was last reported."""

    late: int = 0
    """Readings older than the last one applied."""
    replayed: int = 0
    """Records, alerts and actions that had been applied before."""
    suspect: int = 0
    """Readings with a time far off the clock."""
    void: int = 0
    """Actions that do not apply to the alarm as it stands."""

    def report(self, vendor: str) -> None:
        """Add the counts to the metrics of a vendor, and begin anew."""
        if self.replayed:
            DUPLICATES.labels("detect", vendor).inc(self.replayed)
        for reason, number in (("late", self.late), ("suspect_time", self.suspect), ("void_action", self.void)):
            if number:
                LEFT_OUT.labels("detect", vendor, reason).inc(number)
        self.late = self.replayed = self.suspect = self.void = 0
