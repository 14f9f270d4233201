"""Reports of coverage: their keys, and how long a listener may be silent itself (docs/adr/0024-coverage.md).

Reports are on `fleetlake.coverage.v1`, keyed by the subject and, for a vendor-wide listener, by channel and process.
They are on the subject's partition.
"""

from __future__ import annotations

from typing import Final

SPANS_KEPT: Final = 64
"""Number of spans of a listener that are kept."""
STALE_AFTER: Final = 60 * 1_000_000
"""A listener this far behind the newest of its vendor has ended (microseconds)."""
LAPSE: Final = 3 * 1_000_000
"""Between reports that are further apart than this, a listener has not listened (microseconds).

It was frozen, or Kafka acknowledged nothing: a device that waits for an answer could not speak either.
"""
PROOF_AFTER: Final = 2 * LAPSE
"""How long after a listener's last report the receipt of a message proves that it listened all the time (microseconds).

Later than this, there is a gap in between that is not reported yet.
"""
OURS: Final = "fleetlake"
"""The native id that stands for fleetlake's own connection to a vendor."""
NOT_LISTENING: Final = "pipeline-not-listening"
"""Id of the rule of the alarms that say that fleetlake itself does not listen."""


def vendor_subject(vendor: str) -> str:
    """The device id that stands for fleetlake's own connection to a vendor."""
    return f"{vendor}:{OURS}"


def coverage_key(subject: str, channel: str = "", process: str = "") -> str:
    """The key of a listener's reports: the subject alone for a device's socket."""
    return f"{subject}#{channel}#{process}" if channel else subject
