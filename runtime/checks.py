"""What `fleetlake check` says of one thing: whether it works, and if not, why and what to do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `detail` never holds a secret."""

    name: str
    ok: bool
    detail: str
